//! Ctrl-C and SIGTERM during a run.
//!
//! Until the first request may be sent, a signal ends the program at once: nothing was sent, and nothing is in doubt.
//! Later, the first signal waits until running requests are recorded. The second signal ends that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

use crate::apply::Interrupt;
use crate::cli::error::CommandError;
use crate::cli::exit::{Exit, stop_at_once};
use crate::cli::logging::notify;

/// Listens for signals from its creation on.
pub(super) struct Stop {
    runtime: tokio::runtime::Runtime,
    interrupt: Interrupt,
    /// Whether nothing can have been sent yet.
    is_planning: Arc<AtomicBool>,
    /// Wakes when a second signal arrives.
    second: Arc<Notify>,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, CommandError> {
        let runtime = super::runtime()?;
        let (switch, interrupt) = Interrupt::new();
        let (is_planning, second) = (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
        runtime.spawn(listen(switch, Arc::clone(&is_planning), Arc::clone(&second)));
        Ok(Self { runtime, interrupt, is_planning, second })
    }

    /// Runs work that may send something. None: a second signal has ended it.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(Interrupt) -> T) -> Option<T> {
        self.is_planning.store(false, Ordering::SeqCst);
        self.runtime.block_on(async {
            tokio::select! {
                done = work(self.interrupt.clone()) => Some(done),
                () = self.second.notified() => None,
            }
        })
    }
}

async fn listen(switch: watch::Sender<bool>, is_planning: Arc<AtomicBool>, second: Arc<Notify>) {
    signal().await;
    if is_planning.load(Ordering::SeqCst) {
        notify("stopped, nothing sent");
        stop_at_once(Exit::Stopped);
    }
    notify("stopping after the requests in flight; press Ctrl-C again to stop at once");
    let _ = switch.send(true);
    signal().await;
    second.notify_one();
    // The switch must stay: without it nothing could interrupt any more.
    switch.closed().await;
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
