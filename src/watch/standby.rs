//! Standby: waits for the lease on the state. Meanwhile it follows the config and shows the recorded status.
//!
//! # Caveats
//! A remote store may respond slowly. It is read on another thread, so that signals and heartbeats continue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::environment::WatchEnvironment;
use super::recorded::RecordedStatus;
use super::status::WatchStatus;
use super::systemd::{ProcessSignal, ServiceManager, SignalListener};
use super::{config_diff, config_reload, sources};
use crate::blocking;
use crate::config::Config;
use crate::state::{Holder, Location, StateError, StateReader, StateWriter};

/// The interval of attempts to take the lease on a folder.
const ATTEMPT: Duration = Duration::from_millis(500);
/// In a bucket each attempt costs requests: this many are made in the duration of a lease.
const ATTEMPTS_PER_LEASE: u32 = 6;
/// The longest interval of attempts.
const ATTEMPT_LONGEST: Duration = Duration::from_secs(5);
/// The shortest interval in which the status is read from a bucket. Each read costs requests.
const BUCKET_READS: Duration = Duration::from_secs(5 * 60);
/// The interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The config in use. It outlives a leader and a standby.
pub(super) struct WatchedConfig {
    pub(super) config: Arc<Config>,
    /// The hash of its files when it was read; 0 if unknown.
    pub(super) content: u128,
    /// The config that this process started with.
    pub(super) first: Arc<Config>,
}

impl WatchedConfig {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { first: Arc::clone(&config), config, content: 0 }
    }

    /// Reads the config again if its files have changed. An invalid config is logged and changes nothing.
    fn reload(&mut self, environment: &dyn WatchEnvironment, status: &WatchStatus, state: &Location) {
        let content = sources::content(&self.config);
        if std::mem::replace(&mut self.content, content) == content {
            return;
        }
        let read = environment.read_config();
        status.metrics().count_config_read(read.is_ok());
        match read {
            Ok(new) => {
                status.set_config(&new);
                status.lock().target = environment.target(&new, state);
                status.lock().needs_restart = config_diff::needs_restart(&self.first, &new);
                // If it includes other files, their hash differs and the next attempt reads it once more.
                self.config = Arc::new(new);
            }
            Err(problems) => {
                config_reload::log_invalid(&problems);
                config_reload::show_invalid(status, environment.clock().now(), problems);
            }
        }
    }
}

/// Reads of the recorded status, one at a time, each on its own thread.
struct RecordedReads {
    reading: Option<JoinHandle<Result<RecordedStatus, StateError>>>,
    next: Instant,
}

/// Waits for the lease.
pub(super) struct Standby<'a> {
    pub(super) environment: &'a Arc<dyn WatchEnvironment>,
    pub(super) status: &'a WatchStatus,
    pub(super) service: &'a ServiceManager,
    pub(super) location: &'a Location,
}

impl Standby<'_> {
    /// Waits until the lease is free, and takes it. None: a signal stopped the process.
    ///
    /// # Errors
    /// When the state cannot be used. A store that was reachable once may become unreachable for some time.
    pub(super) async fn wait(
        &self,
        watched: &mut WatchedConfig,
        signals: &mut SignalListener,
    ) -> Result<Option<StateWriter>, StateError> {
        let (mut leader, mut was_reachable) = (None::<Holder>, watched.content != 0);
        let mut reads = RecordedReads { reading: None, next: self.environment.clock().monotonic() };
        loop {
            let Some(opened) = self.open(signals).await else { return Ok(None) };
            blocking::in_place(|| watched.reload(&**self.environment, self.status, self.location));
            match opened {
                Ok(state) => return Ok(Some(state)),
                Err(StateError::Held(other)) => {
                    was_reachable = true;
                    if leader.as_ref().is_none_or(|known| !known.is_same_process(&other)) {
                        tracing::info!("standby: the lease on the state is held by {other}");
                        self.service.ready(&format!("standby; the lease is held by {other}"));
                    }
                    leader = Some(other.clone());
                    self.status.standby(other);
                    self.show_recorded(&mut reads, &watched.config).await;
                }
                Err(error) if was_reachable && error.is_transient() => {
                    tracing::warn!("the state is not reachable; the next attempt follows: {error}");
                }
                Err(error) => return Err(error),
            }
            if self.pause(signals).await == ProcessSignal::Stop {
                return Ok(None);
            }
        }
    }

    /// Shows what the last read has found, and starts the next one when it is due. A read that ends after this process has
    /// become the leader is not shown.
    async fn show_recorded(&self, reads: &mut RecordedReads, config: &Arc<Config>) {
        if let Some(reading) = reads.reading.take_if(|reading| reading.is_finished()) {
            match reading.await {
                Ok(Ok(recorded)) => recorded.show(self.status),
                Ok(Err(error)) => tracing::warn!("the recorded status cannot be read: {error}"),
                Err(stopped) => tracing::warn!("the recorded status cannot be read: {stopped}"),
            }
        }
        let now = self.environment.clock().monotonic();
        if reads.reading.is_none() && reads.next <= now {
            let interval = match self.location {
                Location::Folder(_) => config.watch.poll,
                Location::Bucket(_) => config.watch.poll.max(BUCKET_READS),
                #[cfg(test)]
                Location::Memory(_) | Location::SimulatedBucket(..) => config.watch.poll,
            };
            let (config, location) = (Arc::clone(config), self.location.clone());
            let environment = Arc::clone(self.environment);
            let read = move || {
                let state = StateReader::open(&location)?;
                Ok(RecordedStatus::read(&config, &state, &*environment))
            };
            reads.reading = Some(blocking::on_thread(read));
            reads.next = now + interval;
        }
    }

    /// Tries to take the lease. None: a signal stopped the process.
    async fn open(&self, signals: &mut SignalListener) -> Option<Result<StateWriter, StateError>> {
        let (location, environment) = (self.location.clone(), &**self.environment);
        let (holder, clock, random) = (environment.holder(), environment.clock(), environment.random());
        let open = move || StateWriter::open(&location, &holder, clock, random);
        let mut opening = blocking::on_thread(open);
        loop {
            self.heartbeat();
            tokio::select! {
                opened = &mut opening => return match opened {
                    Ok(opened) => Some(opened),
                    Err(stopped) => match stopped.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => None, // the runtime is shutting down
                    },
                },
                // If the attempt still succeeds, dropping its result releases the lease.
                ProcessSignal::Stop = signals.next() => return None,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }

    /// Waits until the next attempt.
    async fn pause(&self, signals: &mut SignalListener) -> ProcessSignal {
        let attempt = tokio::time::sleep(match self.location {
            Location::Folder(_) => ATTEMPT,
            #[cfg(test)]
            Location::Memory(_) | Location::SimulatedBucket(..) => ATTEMPT,
            Location::Bucket(address) => (address.lease / ATTEMPTS_PER_LEASE).clamp(ATTEMPT, ATTEMPT_LONGEST),
        });
        tokio::pin!(attempt);
        loop {
            self.heartbeat();
            tokio::select! {
                signal = signals.next() => return signal,
                () = &mut attempt => return ProcessSignal::Reload,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }

    fn heartbeat(&self) {
        self.status.heartbeat();
        self.service.heartbeat();
    }
}
