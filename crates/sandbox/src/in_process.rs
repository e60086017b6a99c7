//! The sandbox without a server and without a clock of its own: a simulation calls it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::serve::{self, HangUp};
use super::tasks::BackgroundTasks;
use super::{SandboxError, SandboxHandle, SandboxOptions, clock};

/// A sandbox that is called directly.
pub struct InProcessSandbox {
    router: TowerToHyperService<Router>,
    _tasks: Arc<BackgroundTasks>,
}

/// A response of a simulated vendor.
#[derive(Clone, Debug)]
pub struct SimulatedResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for InProcessSandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcessSandbox")
    }
}

impl InProcessSandbox {
    /// [`SandboxError`] if the memory folder cannot be used. The port is ignored.
    pub fn open(options: SandboxOptions) -> Result<Self, SandboxError> {
        let tasks = Arc::new(BackgroundTasks::default());
        let router = serve::routes(SandboxHandle::open(options, &tasks)?);
        Ok(Self { router: TowerToHyperService::new(router), _tasks: tasks })
    }

    /// Answers a request at a time since the Unix epoch. `None`: the connection closes without a response.
    pub async fn answer(&self, request: Request<Vec<u8>>, time: Duration) -> Option<SimulatedResponse> {
        let mut response = pin!(self.router.call(request.map(Body::from)));
        let response = poll_fn(|context| clock::at(time, || response.as_mut().poll(context))).await;
        let response = response.unwrap_or_else(|never| match never {});
        if response.extensions().get::<HangUp>().is_some() {
            return None;
        }
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.ok()?.to_vec();
        Some(SimulatedResponse { status: head.status.as_u16(), headers: head.headers, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_at_the_simulated_time() {
        let sandbox = InProcessSandbox::open(SandboxOptions::default()).unwrap();
        let body = r#"{"client_secret":"sandbox-data-import-key","partner_api_key":"sandbox-partner-api-key",
            "name":"A","cohort_id":"a","created_at":"2030-01-01T00:00:00Z"}"#;
        let request = Request::post("/partners/heap/cohorts")
            .header("content-type", "application/json")
            .header("user-agent", "partner-Heap-Syncline/1.0.0")
            .body(body.as_bytes().to_vec())
            .unwrap();
        let response = sandbox.answer(request, Duration::from_secs(3600)).await.unwrap();
        assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
        assert_eq!(response.headers["x-ratelimit-reset"], "7200");
    }
}
