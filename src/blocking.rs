//! Blocking work of asynchronous tasks.
//!
//! A runtime with one thread runs the work at once, on that thread. The simulation uses such a runtime, because the order
//! of its steps must not depend on the scheduler of the operating system.

#![allow(clippy::disallowed_methods, reason = "the only place that moves work between threads")]

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

/// The capacity of a channel that work on the only thread fills at once.
const ENTIRE_WORK: usize = 1 << 16;

/// Runs blocking work, while the runtime moves other tasks to another thread.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    if is_single_threaded() { work() } else { tokio::task::block_in_place(work) }
}

/// Starts blocking work on a thread of its own. It continues if the handle is dropped.
pub fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match is_single_threaded() {
        true => tokio::spawn(async move { work() }),
        false => tokio::task::spawn_blocking(work),
    }
}

/// A channel from blocking work to a task, for this many messages in advance. On a runtime with one thread, the work
/// ends before the task receives, so the channel has room for all its messages.
#[must_use]
pub fn channel<T>(ahead: usize) -> (Sender<T>, Receiver<T>) {
    mpsc::channel(if is_single_threaded() { ENTIRE_WORK } else { ahead })
}

/// Sends a message from blocking work. Returns `false` if the receiver is gone.
pub fn send<T>(channel: &Sender<T>, message: T) -> bool {
    match is_single_threaded() {
        true => channel.try_send(message).is_ok(),
        false => channel.blocking_send(message).is_ok(),
    }
}

/// Whether the current runtime has one thread only.
#[must_use]
pub fn is_single_threaded() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_thread_runs_blocking_work_itself() {
        let here = std::thread::current().id();
        assert!(is_single_threaded());
        assert_eq!(in_place(|| std::thread::current().id()), here);
        assert_eq!(on_thread(|| std::thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn several_threads_run_it_beside_other_tasks() {
        assert!(!is_single_threaded());
        assert_eq!(in_place(|| 7), 7);
        let here = std::thread::current().id();
        assert_ne!(on_thread(|| std::thread::current().id()).await.unwrap(), here);
    }
}
