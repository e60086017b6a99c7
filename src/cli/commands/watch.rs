//! `watch`: keeps everything in sync until it receives a stop signal.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::access::{self, Sandboxes};
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::Global;
use crate::cli::hints::plan_hints;
use crate::cli::logging::notify;
use crate::cli::operator;
use crate::cli::problems;
use crate::cli::render::guard_violation::{BlockedSubject, words};
use crate::cli::render::target::RunTarget;
use crate::cli::resources::store_options;
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{Config, ExportConfig, load};
use crate::dashboard::{BlockedView, RemedyView};
use crate::model::{ChangeOp, Clock, CohortId, RunId};
use crate::reconcile::{CohortReport, PlanError};
use crate::state::{Holder, Location, RunOrigin};
use crate::watch::{
    self, BlockedStatus, BoxedWork, ClientAccess, InvalidConfig, ListenAddresses, RestAccess,
    WatchEnvironment, WatchError,
};

/// How long what blocks may go on once everything else has ended.
const LAST_WORK: Duration = Duration::from_secs(1);

pub(in crate::cli) fn run(global: &Global) -> Result<Exit, CommandError> {
    let config = super::run_config("watch", global)?;
    start(global, &config).inspect_err(|error| super::record_failed_start("watch", &config, error))
}

fn start(global: &Global, config: &Config) -> Result<Exit, CommandError> {
    // Found before anything starts, so that a missing key ends the start and says which.
    secrets(config)?;
    super::must_exist(config)?;
    let at = Arc::new(WatchHost { global: global.clone(), sandboxes: Sandboxes::default() });
    let for_urls = config.clone();
    let started = |listens: &ListenAddresses| {
        if let Some(endpoints) = listens.endpoints {
            notify(&format!("endpoints on {endpoints}"));
            for (sender, url) in for_urls.webhook_urls(endpoints) {
                notify(&format!("{sender} is received at {url}"));
            }
            if for_urls.watch.public_url.is_none() {
                notify("set `watch.public_url` to show these URLs as Heap and Braze reach them");
            }
        }
        notify(&format!("dashboard on http://{}/", listens.admin));
    };
    let runtime = super::runtime()?;
    runtime.spawn(super::stop::answer_for_server());
    let ended = runtime.block_on(watch::run(config.clone(), at, started));
    // What still reads or plans on a thread of its own would keep the process for as long as it takes.
    runtime.shutdown_timeout(LAST_WORK);
    ended?;
    Ok(Exit::Done)
}

/// Whether every key and secret that the config names is there.
fn secrets(config: &Config) -> Result<(), CommandError> {
    access::keys(config)?;
    access::rest_keys(config)?;
    access::webhooks(config)?;
    access::notification_urls(config)?;
    access::sources(config)?;
    access::tokens(config)?;
    access::app_ids(config, &config.exports.iter().collect::<Vec<_>>())?;
    Ok(())
}

/// This machine, for the loop.
struct WatchHost {
    global: Global,
    sandboxes: Sandboxes,
}

impl WatchHost {
    async fn resolve(&self, config: &Config) -> Result<ClientAccess, CommandError> {
        let keys = access::keys(config)?;
        let (webhook_secrets, notify_urls) = (access::webhooks(config)?, access::notification_urls(config)?);
        let braze = self.sandboxes.reach(config, &keys, |_| true).await?;
        let mut braze_rest = std::collections::BTreeMap::new();
        for name in config.braze.keys().filter(|name| access::has_segments(config, name)) {
            let (base, key) = self.sandboxes.rest(config, name).await?;
            braze_rest.insert(name.clone(), RestAccess { base, key });
        }
        let ids = access::app_ids(config, &config.exports.iter().collect::<Vec<_>>())?;
        let heaps = self.sandboxes.reach_heaps(config, &ids, |name| ids.contains_key(name)).await?;
        let options = |export: &ExportConfig| (export.id.clone(), store_options(export));
        let store_options = config.exports.iter().map(options).collect();
        let (sources, export_tokens) = (access::sources(config)?, access::tokens(config)?);
        Ok(ClientAccess {
            braze,
            braze_rest,
            webhook_secrets,
            sources,
            heaps,
            export_tokens,
            store_options,
            notify_urls,
        })
    }
}

impl WatchEnvironment for WatchHost {
    fn read_config(&self) -> Result<Config, InvalidConfig> {
        let trusted = self.global.trusted_config.as_deref();
        let config = load(&self.global.config, self.global.env.as_deref(), trusted);
        let config = config.map_err(|problems| InvalidConfig {
            lines: problems::lines(&problems),
            text: problems::drawn(&problems, false),
            problems: problems.list.len() as u64,
        })?;
        secrets(&config).map_err(|error| InvalidConfig::one(error.in_one_line()))?;
        Ok(config)
    }

    fn client_access<'a>(&'a self, config: &'a Config) -> BoxedWork<'a, Result<ClientAccess, String>> {
        Box::pin(async move { self.resolve(config).await.map_err(|error| error.in_one_line()) })
    }

    fn location(&self, config: &Config) -> Location {
        super::location(config)
    }

    fn target(&self, config: &Config, state: &Location) -> Vec<(&'static str, String)> {
        RunTarget::new(&self.global, config).in_state(state).parts()
    }

    fn holder(&self) -> Holder {
        environment::holder()
    }

    fn clock(&self) -> Clock {
        environment::clock()
    }

    fn new_run(&self) -> RunId {
        environment::new_run()
    }

    fn origin(&self) -> RunOrigin {
        operator::origin("watch")
    }

    fn random(&self) -> u64 {
        environment::random()
    }

    fn explain_plan_error(&self, error: &PlanError) -> (String, Vec<RemedyView>) {
        (error.to_string(), plan_hints(error).into_iter().map(|hint| remedy(&hint)).collect())
    }

    fn approve_command(&self, cohort: &CohortId, plan: &str) -> Option<String> {
        Some(SuggestedCommand::new(&self.global).approve(cohort, plan.parse().ok()?))
    }

    fn explain_blocked(&self, report: &CohortReport) -> BlockedStatus {
        let again = SuggestedCommand::new(&self.global);
        let (id, declared_at, whole) = (&report.id, &report.declared_at, report.whole_digest);
        let words = words(&report.violations, BlockedSubject { id, declared_at, again: &again, whole });
        let approve = again.approve(id, whole);
        let can_approve =
            words.iter().flat_map(|words| &words.remedies).any(|remedy| remedy.contains(&approve));
        // This process holds the state, so no other command can work on it.
        let is_of_use =
            |remedy: &&String| !remedy.contains("syncline reconcile") && !remedy.contains(&approve);
        let blocks = words.iter().map(|words| BlockedView {
            code: words.code.as_str(),
            side: words.side,
            reason: words.reason.clone(),
            remedies: words.remedies.iter().filter(is_of_use).map(|text| remedy(text)).collect(),
        });
        BlockedStatus {
            blocks: blocks.collect(),
            digest: whole.to_string(),
            approve_command: can_approve.then(|| approve.clone()),
            adds: report.blocked(ChangeOp::Add),
            removes: report.blocked(ChangeOp::Remove),
        }
    }
}

/// Splits a remedy into its words and the command at its end, if it has one.
fn remedy(text: &str) -> RemedyView {
    match text.find(": syncline ") {
        Some(at) => RemedyView { text: text[..at].to_owned(), command: Some(text[at + 2..].to_owned()) },
        None => RemedyView { text: text.to_owned(), command: None },
    }
}

impl From<WatchError> for CommandError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::State(error) => error.into(),
            WatchError::Access(what) => Self::new(Exit::Credentials, what),
            WatchError::Listen(error) => Self::new(Exit::Failed, error.to_string())
                .hint("is another process listening there? choose another address under `watch:`"),
            WatchError::Tls(error) => Self::new(Exit::Failed, error.to_string())
                .hint("see `watch.tls`: PEM files, the key with mode 0600"),
            WatchError::Failed(what) => Self::new(Exit::Failed, what),
        }
    }
}
