//! A thread that runs requests, so that blocking callers on any thread can wait for them.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tracing::Instrument as _;

/// A thread that runs requests.
#[derive(Clone)]
pub(super) struct RequestThread(Arc<OwnedRuntime>);

/// The runtime. Its drop must not block, whichever thread drops the last handle.
struct OwnedRuntime(Option<Runtime>);

impl fmt::Debug for RequestThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestThread")
    }
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl RequestThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self(Arc::new(OwnedRuntime(Some(runtime)))))
    }

    /// Runs requests at once, on the calling thread: those of the simulation, which never wait.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Arc::new(OwnedRuntime(None)))
    }

    /// Starts a request, to wait for it later.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> PendingRequest<T> {
        let (result, pending) = std::sync::mpsc::sync_channel(1);
        #[cfg(test)]
        if self.0.0.is_none() {
            let work = futures_util::FutureExt::now_or_never(work);
            let _ = result.send(work.expect("a simulated bucket does not wait"));
            return PendingRequest(pending);
        }
        if let Some(runtime) = &self.0.0 {
            // Boxed: the runtime's code for a task is compiled once, not for each kind of request.
            let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                // The send fails when nothing waits for the result.
                let _ = result.send(work.await);
            });
            runtime.spawn(task.in_current_span());
        }
        PendingRequest(pending)
    }

    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(work).end().unwrap_or_else(|| Err(io::Error::other("the request was dropped")))
    }
}

/// A running request.
pub(super) struct PendingRequest<T>(std::sync::mpsc::Receiver<T>);

impl<T> PendingRequest<T> {
    /// Its result; none if it was dropped.
    pub(super) fn end(self) -> Option<T> {
        self.0.recv().ok()
    }
}
