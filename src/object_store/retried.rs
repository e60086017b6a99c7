//! The retry loop of reads from buckets and web servers.

use std::time::Duration;

use crate::retry::{Retry, RetryPolicy};

/// The attempts of a read.
pub(super) const READ_RETRY: RetryPolicy =
    RetryPolicy { attempts: 5, first_wait: Duration::from_millis(200), longest_wait: Duration::from_secs(2) };

/// The error of an attempt, and whether a retry may succeed.
pub(super) struct AttemptError<E> {
    pub(super) error: E,
    pub(super) is_transient: bool,
}

impl<E> AttemptError<E> {
    pub(super) fn lasting(error: E) -> Self {
        Self { error, is_transient: false }
    }

    pub(super) fn transient(error: E) -> Self {
        Self { error, is_transient: true }
    }
}

/// Repeats `attempt` until it succeeds, fails for good, or all attempts have failed. The log has the cause of each wait.
pub(super) async fn retried<T, E, F: Future<Output = Result<T, AttemptError<E>>>>(
    policy: RetryPolicy,
    server: &str,
    cause: impl Fn(&E) -> String,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let mut retry = Retry::new(policy);
    loop {
        let AttemptError { error, is_transient } = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let Some(wait) = retry.next_wait().filter(|_| is_transient) else { return Err(error) };
        retry.log_wait(server, &cause(&error), wait);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_transient_errors_are_retried_until_the_last_attempt() {
        let moment = Duration::from_nanos(1);
        let policy = RetryPolicy { attempts: 3, first_wait: moment, longest_wait: moment };
        for (lasting_at, done_at, expected) in
            [(9, 1, Ok(1)), (9, 3, Ok(3)), (9, 4, Err(3)), (2, 3, Err(2)), (1, 1, Err(1))]
        {
            let mut attempts = 0;
            let result = retried(policy, "server", u32::to_string, || {
                attempts += 1;
                std::future::ready(match attempts {
                    number if number == lasting_at => Err(AttemptError::lasting(number)),
                    number if number < done_at => Err(AttemptError::transient(number)),
                    number => Ok(number),
                })
            });
            assert_eq!(result.await, expected);
        }
    }
}
