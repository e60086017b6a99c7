//! Panic containment: a panic in the work on one cohort becomes an error of that cohort, and the others continue.
//!
//! The panic hook calls [`is_contained`]: a panic outside of contained work ends the process. Contained work must not
//! leave shared data in memory half changed. Data on disk is consistent at every step.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    static LOCATION: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A contained panic. It has no message, because the message may quote a user's identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error{at}; this is a bug in syncline, its details are on stderr")]
pub struct Panicked {
    /// The source location as a suffix of the message.
    at: String,
}

/// Runs `work` and turns its panic into an error.
///
/// # Errors
/// [`Panicked`] if it panics.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    // A panic that another thread contained and this one resumed keeps its location.
    result.map_err(|payload| {
        payload.downcast().map_or_else(|_| Panicked { at: LOCATION.take() }, |panicked| *panicked)
    })
}

/// Runs a future and turns its panic into an error.
///
/// # Errors
/// [`Panicked`] if it panics.
pub async fn contained_task<T>(task: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut task = pin!(task);
    poll_fn(|context| match contained(|| task.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// Gives work for another thread the containment and the log span of this thread. A panic still ends that thread; resume
/// it after the join.
pub fn contained_as_here<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (is_contained, span) = (is_contained(), tracing::Span::current());
    move || {
        span.in_scope(|| match is_contained {
            true => contained(work).unwrap_or_else(|panicked| resume_unwind(Box::new(panicked))),
            false => work(),
        })
    }
}

/// Whether a panic on this thread is contained.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Records the location of a contained panic, for the panic hook.
pub fn note_panic(location: &str) {
    LOCATION.set(location.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_of_its_own_work() {
        assert_eq!(contained(is_contained), Ok(true));
        assert!(contained(|| panic!("on purpose")).is_err());
        assert!(!is_contained());
        let thread = contained(|| std::thread::spawn(contained_as_here(is_contained)).join());
        assert!(thread.unwrap().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let task = async {
            tokio::task::yield_now().await;
            assert!(!is_contained(), "on purpose");
        };
        assert!(runtime.block_on(contained_task(task)).is_err());
        assert_eq!(runtime.block_on(contained_task(async { 7 })), Ok(7));
    }
}
