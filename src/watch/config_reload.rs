//! Reload of the config: reads it again on its own thread, and reports a config that cannot be used.

use std::sync::Arc;

use super::context::LeaderContext;
use super::environment::{ClientAccess, InvalidConfig, WatchEnvironment, on_thread};
use super::notify::{NotificationSubject, Notifications};
use super::queue::SingleTask;
use super::status::WatchStatus;
use crate::config::{Config, Notable};
use crate::model::Timestamp;

/// A config with its addresses and secrets, or its problems.
pub(super) type ConfigRead = Result<(Config, ClientAccess), InvalidConfig>;

/// Reads of the config, one at a time. A change during a read makes another one necessary.
#[derive(Default)]
pub(super) struct ConfigReload {
    task: SingleTask,
}

impl ConfigReload {
    /// Starts a read, if none is running.
    pub(super) fn start(
        &mut self,
        context: &LeaderContext,
    ) -> Option<impl Future<Output = ConfigRead> + Send + use<>> {
        let environment = Arc::clone(&context.environment);
        self.task.request().then(|| read(environment))
    }

    /// Records the end of a read. Returns whether another one must start.
    pub(super) fn finish(&mut self) -> bool {
        self.task.finish()
    }
}

async fn read(environment: Arc<dyn WatchEnvironment>) -> ConfigRead {
    let reader = Arc::clone(&environment);
    let config = on_thread(move || reader.read_config()).await;
    let config = config.unwrap_or_else(|| Err(InvalidConfig::one("the program is stopping".to_owned())))?;
    // A changed secret file changes the access, even if the config is the same.
    let access = environment.client_access(&config).await.map_err(InvalidConfig::one)?;
    Ok((config, access))
}

/// Logs and notifies that the config on disk is invalid. The last valid one stays in use.
pub(super) fn report_invalid(
    problems: InvalidConfig,
    context: &LeaderContext,
    notifications: &mut Notifications,
) {
    let before = context.status.lock().config_error.clone();
    if before.as_ref().is_none_or(|(_, before)| *before != problems) {
        log_invalid(&problems);
    }
    let text = format!("the config is invalid: {}", problems.lines.join("; "));
    notifications.problem(NotificationSubject::Config, Notable::Failure, &text);
    let since = before.map_or_else(|| context.clock.now(), |(since, _)| since);
    show_invalid(&context.status, since, problems);
}

/// Logs that the config on disk is invalid.
pub(super) fn log_invalid(problems: &InvalidConfig) {
    tracing::error!("the config is invalid; the last valid one stays in use");
    problems.lines.iter().for_each(|problem| tracing::error!("{problem}"));
}

/// Shows that the config on disk is invalid.
pub(super) fn show_invalid(status: &WatchStatus, since: Timestamp, problems: InvalidConfig) {
    status.lock().config_error = Some((since, problems));
}
