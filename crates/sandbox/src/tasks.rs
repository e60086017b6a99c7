//! Background tasks that outlive the request that started them: webhook deliveries and posts. They end with the
//! sandbox.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::SandboxHandle;

#[derive(Debug, Default)]
pub(super) struct BackgroundTasks(Mutex<JoinSet<()>>);

impl SandboxHandle {
    /// Starts a task. The receiver gets its result and may be dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        if let Some(tasks) = self.tasks.upgrade() {
            let mut tasks = tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // The request that started the task may be gone.
                let _ = done.send(work.await);
            });
        }
        result
    }
}
