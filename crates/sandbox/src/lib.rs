//! Braze, Heap and Currents in miniature, over real HTTP on loopback.
//!
//! `instance: sandbox` of a `syncline` config runs it, and so do the tests. It is a crate of its own so that it cannot
//! import anything of `syncline`: a misread contract must not hide on both sides. It is as strict as the vendors'
//! documents. Where they are silent it does the strict thing, and [`Options`] documents the switch.
//! One port serves both vendors, because their paths differ.
//!
//! | part | what it plays |
//! |---|---|
//! | `braze` | the partner cohort endpoints, and the REST side: segments, campaigns, Canvases, users |
//! | `heap` | Heap's server-side API: events, identities, properties, deletion |
//! | `segments` | Heap's Segment Sync: signed, paged webhooks of users who enter and leave a segment |
//! | [`currents`] | Braze Currents: engagement events as Avro files and posted over HTTP |
//!
//! # Admin API
//! Endpoints under `/_sandbox/` report the real membership and the number of requests, set a fault plan, and change
//! users and segments.

mod admin;
mod braze;
mod client;
mod clock;
pub mod currents;
mod faults;
mod heap;
mod memory;
mod rng;
mod segments;
mod serve;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

pub use braze::{RestGroup, RestOptions};
pub use heap::{HeapOptions, Lengths, OverLimit, Success};

use braze::Braze;
use client::Client;
use currents::Currents;
use faults::Faults;
use heap::Heap;
use memory::Memory;
use segments::Segments;
use tasks::Tasks;

/// Why the sandbox cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The port cannot be had.
    #[error("the sandbox cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its memory cannot be read or written.
    #[error("the sandbox cannot use its memory in {}: {source}", .path.display())]
    Memory {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another sandbox uses this memory.
    #[error("another sandbox uses the memory in {}", .0.display())]
    MemoryInUse(PathBuf),
}

/// Whom the sandbox knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    /// Whoever is named is taken for somebody who exists, and is remembered from then on.
    Any,
    /// Only those whom the admin API has introduced. Others are ignored in silence, as Braze does.
    Known,
}

/// How the sandbox behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The folder in which it remembers people and membership; none forgets them.
    pub memory: Option<PathBuf>,
    /// Whom it knows.
    pub people: People,
    /// The partner in the path.
    pub partner: String,
    /// The partner API key that it takes.
    pub partner_api_key: String,
    /// The data import key that it takes.
    pub data_import_key: String,
    /// Requests allowed in a window.
    pub rate_limit: u64,
    /// The window's length; windows start at multiples of it, as Braze's start at the full hour.
    pub rate_window: Duration,
    /// Whether a 429 says how long to wait, beyond the headers that every answer has.
    pub retry_after: bool,
    /// Time that a request takes, during which its cohort is locked.
    pub latency: Duration,
    /// Whether a cohort must be named before it is filled. Not settled by any document.
    pub strict_naming: bool,
    /// Braze's REST side.
    pub rest: RestOptions,
    /// Heap's side.
    pub heap: HeapOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            memory: None,
            people: People::Any,
            partner: "heap".to_owned(),
            partner_api_key: "sandbox-partner-api-key".to_owned(),
            data_import_key: "sandbox-data-import-key".to_owned(),
            rate_limit: 250_000,
            rate_window: Duration::from_secs(3600),
            retry_after: false,
            latency: Duration::ZERO,
            strict_naming: false,
            rest: RestOptions::default(),
            heap: HeapOptions::default(),
        }
    }
}

/// A sandbox that runs. Dropped, it stops.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _tasks: Arc<Tasks>,
}

impl Sandbox {
    /// Starts a sandbox on loopback.
    ///
    /// # Errors
    /// [`SandboxError`] when the port or the memory cannot be had.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let memory = options.memory.as_deref().map(Memory::open).transpose()?;
        let inner = Inner {
            braze: Braze::open(&options, memory.as_ref())?,
            heap: Heap::open(&options, memory.as_ref())?,
            segments: Segments::default(),
            currents: Currents::default(),
            faults: Faults::default(),
            held: Held::default(),
            _memory: memory,
        };
        let tasks = Arc::new(Tasks::default());
        let shared = Shared {
            options: Arc::new(options),
            inner: Arc::new(Mutex::new(inner)),
            client: Client::default(),
            tasks: Arc::downgrade(&tasks),
        };
        let (address, stop) = serve::listen(shared).await?;
        Ok(Self { address, _stop: stop, _tasks: tasks })
    }

    /// Where it listens: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What all requests share.
#[derive(Clone, Debug)]
struct Shared {
    options: Arc<Options>,
    inner: Arc<Mutex<Inner>>,
    client: Client,
    tasks: Weak<Tasks>,
}

#[derive(Debug)]
struct Inner {
    braze: Braze,
    heap: Heap,
    segments: Segments,
    currents: Currents,
    faults: Faults,
    /// Requests that are done later.
    held: Held,
    _memory: Option<Memory>,
}

/// A request that is handled later.
type HeldRequest = Box<dyn FnOnce(&Shared) + Send>;

/// Requests that the fault plan holds back, the oldest first.
#[derive(Default)]
struct Held(Vec<HeldRequest>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} held", self.0.len())
    }
}

impl Shared {
    fn hold(&self, request: impl FnOnce(&Self) + Send + 'static) {
        self.lock().held.0.push(Box::new(request));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
