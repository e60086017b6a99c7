//! HTTP client for the webhooks and posts that the simulated vendors send: created on first use, without
//! redirects and proxy.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

/// Bytes of a response body that are read so that the connection can be reused.
const BODY_LEN_MAX: usize = 1 << 20;

/// The client of one sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct OutboundClient(Arc<OnceLock<Result<reqwest::Client, String>>>);

impl OutboundClient {
    /// Posts `body`. Returns the status of the response, or the error if there is none.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<u16, String> {
        let client = self.0.get_or_init(build).as_ref().map_err(Clone::clone)?;
        let mut request = client.post(url).timeout(timeout).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = request.send().await.map_err(|e| e.without_url().to_string())?;
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > BODY_LEN_MAX {
                break;
            }
        }
        Ok(response.status().as_u16())
    }
}

/// Outcomes of outgoing requests.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ResponseCounters {
    /// Responses by status.
    statuses: BTreeMap<u16, u64>,
    /// Requests without a response.
    unanswered: u64,
    /// Why the last of them had none.
    last_error: Option<String>,
}

impl ResponseCounters {
    pub(super) fn count(&mut self, outcome: &Result<u16, String>) {
        match outcome {
            Ok(status) => *self.statuses.entry(*status).or_default() += 1,
            Err(error) => {
                self.unanswered += 1;
                self.last_error = Some(error.clone());
            }
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the sandbox simulates a vendor: it shares no client with the program under test"
)]
fn build() -> Result<reqwest::Client, String> {
    // Installing the provider a second time fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.tcp_nodelay(true).build().map_err(|e| e.to_string())
}
