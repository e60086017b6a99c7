//! Work that outlives the request that asked for it: deliveries and posts. It ends with the sandbox.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Shared;

#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Shared {
    /// Starts work; what it comes to can be awaited, and need not be.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        if let Some(tasks) = self.tasks.upgrade() {
            let mut tasks = tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // Whoever asked may have left.
                let _ = done.send(work.await);
            });
        }
        result
    }
}
