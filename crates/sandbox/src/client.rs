//! How the sandbox calls others: the webhooks and posts of the vendors that it plays. One client, built
//! when it is first needed; no redirects and no proxy.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Bytes of an answer that are read, so that the connection can be used again.
const BODY_LEN_MAX: usize = 1 << 20;

/// The client of one sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Client(Arc<OnceLock<Result<reqwest::Client, String>>>);

impl Client {
    /// Posts `body` and gives the status of the answer, or why there is none.
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

#[allow(
    clippy::disallowed_methods,
    reason = "the sandbox stands for a vendor: it shares no client with what it tests"
)]
fn build() -> Result<reqwest::Client, String> {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.tcp_nodelay(true).build().map_err(|e| e.to_string())
}
