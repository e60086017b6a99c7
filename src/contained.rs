//! Contained panics: a panic in the work on one cohort becomes an error of that cohort, and the others go on.
//!
//! The panic hook asks [`is_contained`]: a panic outside of contained work still ends the process. Work that is
//! contained must not leave half-changed data in memory that others use; what is on disk is whole at every step.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that was contained. It holds no message: the message may quote a user's identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error{at}; this is a bug in syncline, its details are on stderr")]
pub struct Panicked {
    at: String,
}

/// Runs `work`. A panic in it is an error.
///
/// # Errors
/// [`Panicked`] when it panicked.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    done.map_err(|payload| payload.downcast().map_or_else(|_| Panicked { at: PLACE.take() }, |known| *known))
}

/// Runs a future. A panic in it is an error.
///
/// # Errors
/// [`Panicked`] when it panicked.
pub async fn contained_task<T>(task: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut task = pin!(task);
    poll_fn(|context| match contained(|| task.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// Makes work for another thread as contained as this thread is. A panic still ends that thread; resume it where the
/// thread is joined.
pub fn contained_as_here<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let here = is_contained();
    move || match here {
        true => contained(work).unwrap_or_else(|panicked| resume_unwind(Box::new(panicked))),
        false => work(),
    }
}

/// Whether a panic on this thread is contained.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Notes where a contained panic came from. The panic hook calls it.
pub fn note_panic(place: &str) {
    PLACE.set(place.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_its_work_alone() {
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
