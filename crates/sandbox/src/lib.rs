//! Simulators of Braze, Heap and Braze Currents over real HTTP on loopback.
//!
//! `instance: sandbox` in a `syncline` config starts one, and so do the tests. This is a crate of its own and
//! imports nothing of `syncline`: a misread API contract must not hide on both sides. The sandbox is as strict
//! as the vendors' documents. Where they are silent it does the strict thing, and [`SandboxOptions`] documents the
//! switch. One port serves both vendors, because their paths differ.
//!
//! | module | simulates |
//! |---|---|
//! | `braze` | the partner cohort endpoints and the REST API: segments, campaigns, Canvases, users |
//! | `heap` | Heap's server-side API: events, identities, properties, deletion |
//! | `segments` | Heap's Segment Sync: signed, paged webhooks of users who enter and leave a segment |
//! | [`currents`] | Braze Currents: engagement events as Avro files and as HTTP posts |
//!
//! [`Sandbox`] is a server; [`InProcessSandbox`] answers requests of a simulation, at simulated times.
//!
//! # Admin API
//! Endpoints under `/_sandbox/` report the real membership and the number of requests, set a fault plan, and
//! change users and segments.

mod admin;
mod braze;
mod client;
mod clock;
pub mod currents;
mod faults;
mod heap;
mod in_process;
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
pub use in_process::{InProcessSandbox, SimulatedResponse};

use braze::Braze;
use client::OutboundClient;
use currents::Currents;
use faults::Faults;
use heap::Heap;
use memory::MemoryFolder;
use segments::Segments;
use tasks::BackgroundTasks;

/// Why the sandbox cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The port cannot be bound.
    #[error("the sandbox cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The memory folder cannot be read or written.
    #[error("the sandbox cannot use its memory in {}: {source}", .path.display())]
    Memory {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Another sandbox uses the memory folder.
    #[error("another sandbox uses the memory in {}", .0.display())]
    MemoryInUse(PathBuf),
}

/// Which users exist in Braze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingUsers {
    /// Any user in a request is created and exists from then on.
    Any,
    /// Only users created through the admin API. Others are silently ignored, as Braze does.
    Created,
}

/// How the sandbox behaves.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The folder in which users and membership survive a restart; `None` keeps them in memory.
    pub memory: Option<PathBuf>,
    /// Which users exist.
    pub existing_users: ExistingUsers,
    /// The partner name in the path.
    pub partner: String,
    /// The accepted partner API key.
    pub partner_api_key: String,
    /// The accepted data import key.
    pub data_import_key: String,
    /// Requests allowed per window.
    pub rate_limit: u64,
    /// Length of a window. Windows start at multiples of it, as Braze's start at the full hour.
    pub rate_window: Duration,
    /// Whether a 429 has a header with the time to wait, beyond the headers that every response has.
    pub retry_after: bool,
    /// Duration of a request, during which its cohort is locked.
    pub latency: Duration,
    /// Whether a cohort must be named before members are added. No document settles this.
    pub strict_naming: bool,
    /// Options of Braze's REST API.
    pub rest: RestOptions,
    /// Options of Heap's API.
    pub heap: HeapOptions,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            port: 0,
            memory: None,
            existing_users: ExistingUsers::Any,
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

/// A running sandbox. Dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    _tasks: Arc<BackgroundTasks>,
}

impl Sandbox {
    /// [`SandboxError`] if the port cannot be bound or the memory folder cannot be used.
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let tasks = Arc::new(BackgroundTasks::default());
        let shared = SandboxHandle::open(options, &tasks)?;
        let (address, stop) = serve::listen(shared).await?;
        Ok(Self { address, _stop: stop, _tasks: tasks })
    }

    /// The base URL, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Handle that every request gets: options, state, client and background tasks.
#[derive(Clone, Debug)]
struct SandboxHandle {
    options: Arc<SandboxOptions>,
    state: Arc<Mutex<SandboxState>>,
    client: OutboundClient,
    tasks: Weak<BackgroundTasks>,
}

#[derive(Debug)]
struct SandboxState {
    braze: Braze,
    heap: Heap,
    segments: Segments,
    currents: Currents,
    faults: Faults,
    /// Requests that the fault plan postponed.
    held: HeldRequests,
    _memory: Option<MemoryFolder>,
}

/// A postponed request.
type HeldRequest = Box<dyn FnOnce(&SandboxHandle) + Send>;

/// Requests that the fault plan postponed, oldest first.
#[derive(Default)]
struct HeldRequests(Vec<HeldRequest>);

impl std::fmt::Debug for HeldRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} held", self.0.len())
    }
}

impl SandboxHandle {
    fn open(options: SandboxOptions, tasks: &Arc<BackgroundTasks>) -> Result<Self, SandboxError> {
        let memory = options.memory.as_deref().map(MemoryFolder::open).transpose()?;
        let state = SandboxState {
            braze: Braze::open(&options, memory.as_ref())?,
            heap: Heap::open(&options, memory.as_ref())?,
            segments: Segments::default(),
            currents: Currents::default(),
            faults: Faults::default(),
            held: HeldRequests::default(),
            _memory: memory,
        };
        Ok(Self {
            options: Arc::new(options),
            state: Arc::new(Mutex::new(state)),
            client: OutboundClient::default(),
            tasks: Arc::downgrade(tasks),
        })
    }

    fn hold(&self, request: impl FnOnce(&Self) + Send + 'static) {
        self.lock().held.0.push(Box::new(request));
    }

    fn lock(&self) -> MutexGuard<'_, SandboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
