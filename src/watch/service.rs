//! What the system tells a service, and what a service tells the system: signals, and systemd's socket.

use std::time::Duration;

use sd_notify::NotifyState;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT: finish what is under way, and end.
    Stop,
    /// SIGHUP: read config, secrets and certificate again.
    Reread,
}

/// The signals that are listened to.
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

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reread,
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl SignalListener {
    #[allow(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}

/// The service manager, if there is one. Telling it is never worth failing for.
pub(super) struct Service {
    watchdog: Option<Duration>,
}

impl Service {
    pub(super) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// How often the manager must be told that all is well, if it wants to be: twice as often as it asks for.
    pub(super) fn beat_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The service does what it is for.
    pub(super) fn ready(&self, status: &str) {
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It reads its config again.
    pub(super) fn reloading(&self) {
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading).chain(now).collect();
        let _ = sd_notify::notify(&states);
    }

    /// It is about to end.
    pub(super) fn stopping(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }

    /// The loop goes round.
    pub(super) fn beat(&self) {
        if self.watchdog.is_some() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
