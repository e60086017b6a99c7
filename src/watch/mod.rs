//! `syncline watch`: a long-running process that keeps every cohort, export and segment check up to date.
//!
//! # Expected flow
//! The process that holds the lease on the state is the leader; every other process is a standby and takes over when
//! the lease is free. The leader runs everything once. After that, a changed file, a delivery, a schedule or an approval
//! starts the affected cohort run or export run. Each cohort run is a run of [`crate::reconcile`] over one cohort.
//!
//! # Guarantees
//! An invalid config changes nothing: the last valid one stays in use, and the error is logged and notified. A blocked
//! or failing cohort delays no other cohort. After the lease is lost, nothing is sent. A stop finishes and records
//! running work.
//!
//! # Caveats
//! The location of the state and the listen addresses are fixed at the start. A change needs a restart; the log says so.

mod admin;
mod approvals;
mod blocked;
mod cohort_run;
mod cohorts;
mod config_diff;
mod config_reload;
mod context;
mod endpoints;
mod environment;
mod export_run;
mod exports;
mod files;
mod gauges;
mod history;
mod identity;
mod ingest;
mod leader;
mod metrics;
mod next_run;
mod notify;
mod process_metrics;
mod queue;
mod recorded;
mod schedule;
mod segments;
mod sources;
mod standby;
mod status;
mod systemd;
mod tasks;
mod view_model;

#[cfg(test)]
mod watch_fixture;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use blocked::BlockedStatus;
pub use environment::{BoxedWork, ClientAccess, InvalidConfig, RestAccess, WatchEnvironment, WatchError};
pub use next_run::{NextRun, WatchSchedule};

use crate::config::Config;
use crate::webhooks::{Endpoints, Listener, Listening};
use admin::Admin;
use leader::{Leader, LeaderEnd, LeaderShared};
use standby::{Standby, WatchedConfig};
use status::WatchStatus;
use systemd::{ServiceManager, SignalListener};

/// The minimum time for responses in progress when the process stops.
const LAST_RESPONSES: Duration = Duration::from_secs(1);

/// The addresses that the process listens on.
#[derive(Clone, Debug)]
pub struct ListenAddresses {
    /// The webhook endpoints, if the config has any.
    pub endpoints: Option<std::net::SocketAddr>,
    /// Health, metrics and the dashboard.
    pub admin: std::net::SocketAddr,
}

/// Runs until a signal stops the process. `started` receives the addresses once they are open.
///
/// # Errors
/// [`WatchError`] when it cannot start, or the state is damaged.
pub async fn run(
    config: Config,
    environment: Arc<dyn WatchEnvironment>,
    started: impl FnOnce(&ListenAddresses),
) -> Result<(), WatchError> {
    let clock = environment.clock();
    let received = Arc::new(Notify::new());
    let endpoints = Arc::new(Endpoints::new(config.watch.limits, clock, Arc::clone(&received)));
    let certificate = config.watch.tls.as_ref().map(crate::webhooks::ServerCertificate::read).transpose()?;
    let admin = Listener::bind(config.watch.admin).await?;
    let listening = if config.has_endpoints() {
        let listener = Listener::bind(config.watch.listen).await?;
        Some(listener.serve(Arc::clone(&endpoints) as _, config.watch.limits, certificate.clone(), clock))
    } else {
        None
    };
    let status = Arc::new(WatchStatus::new(&config, listening.as_ref().map(Listening::address), clock));
    let admin_handler = Arc::new(Admin::new(Arc::clone(&status), Arc::clone(&endpoints), &config));
    let admin = admin.serve(admin_handler, admin::limits(), None, clock);
    started(&ListenAddresses {
        endpoints: listening.as_ref().map(Listening::address),
        admin: admin.address(),
    });
    let mut signals = SignalListener::new()
        .map_err(|error| WatchError::Failed(format!("cannot listen for signals: {error}")))?;
    let service = ServiceManager::new();
    let location = environment.location(&config);
    status.lock().target = environment.target(&config, &location);
    let standby =
        Standby { environment: &environment, status: &status, service: &service, location: &location };
    let shared = LeaderShared {
        status: Arc::clone(&status),
        endpoints,
        received,
        certificate,
        location: location.clone(),
    };
    let mut watched = WatchedConfig::new(Arc::new(config));
    let (ended, grace_ends) = loop {
        let state = match standby.wait(&mut watched, &mut signals).await {
            Ok(Some(state)) => Arc::new(state),
            Ok(None) => break (Ok(()), clock.monotonic()),
            Err(error) => break (Err(error.into()), clock.monotonic()),
        };
        let leader = Leader::new(&watched, Arc::clone(&environment), state, shared.clone());
        let ended = leader.run(&mut signals, &service, &mut watched).await;
        status.lease_released();
        match ended.result {
            Ok(LeaderEnd::Stopped) => break (Ok(()), ended.grace_ends),
            Ok(LeaderEnd::LeaseLost) => {
                tracing::warn!("another process holds the lease on the state; this process is a standby now");
            }
            Err(WatchError::State(error)) if error.is_transient() => {
                tracing::warn!("the state is not available; this process is a standby now: {error}");
            }
            Err(error) => break (Err(error), ended.grace_ends),
        }
    };
    status.stopping();
    service.stopping();
    if let Some(listening) = listening {
        listening.stop(grace_ends.saturating_duration_since(clock.monotonic()).max(LAST_RESPONSES)).await;
    }
    admin.stop(LAST_RESPONSES).await;
    ended
}
