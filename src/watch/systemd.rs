//! Signals, and notifications to systemd's socket.

use std::time::Duration;

use sd_notify::NotifyState;

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessSignal {
    /// SIGTERM or SIGINT: finish running work and exit.
    Stop,
    /// SIGHUP: read config, secrets and certificate again.
    Reload,
}

/// Receives the signals of the process.
#[cfg(unix)]
pub(super) struct SignalListener {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl SignalListener {
    pub(super) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            _ = self.terminate.recv() => ProcessSignal::Stop,
            _ = self.interrupt.recv() => ProcessSignal::Stop,
            _ = self.hang_up.recv() => ProcessSignal::Reload,
        }
    }
}

#[cfg(not(unix))]
pub(super) struct SignalListener;

#[cfg(not(unix))]
impl SignalListener {
    #[allow(clippy::unnecessary_wraps, reason = "it can fail on Unix")]
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) -> ProcessSignal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => ProcessSignal::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Systemd, if it started this process. A notification that fails is ignored.
pub(super) struct ServiceManager {
    watchdog: Option<Duration>,
}

impl ServiceManager {
    pub(super) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// The interval of heartbeats, if the manager expects any: half of its limit.
    pub(super) fn heartbeat_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Reports that the service is ready, with a status text.
    pub(super) fn ready(&self, status: &str) {
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports that a reload has begun.
    pub(super) fn reloading(&self) {
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading).chain(now).collect();
        let _ = sd_notify::notify(&states);
    }

    /// Reports that the service is about to exit.
    pub(super) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }

    /// Sends a heartbeat, if the manager expects any.
    pub(super) fn heartbeat(&self) {
        if self.watchdog.is_some() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
