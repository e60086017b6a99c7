//! `sandbox`: a small Braze on this machine, until it is told to stop.

use std::time::Duration;

use crate::cli::args::{People, SandboxArgs};
use crate::cli::environment::variable;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::logging::tell;
use crate::cli::output::out;
use crate::sandbox::{self, Options, Sandbox};

pub(in crate::cli) fn run(args: &SandboxArgs) -> Result<Exit, CommandError> {
    let defaults = Options::default();
    let options = Options {
        port: args.port,
        memory: args.memory.clone(),
        people: match args.people {
            People::Any => sandbox::People::Any,
            People::Known => sandbox::People::Known,
        },
        partner: args.partner.clone(),
        partner_api_key: variable("SYNCLINE_SANDBOX_PARTNER_API_KEY").unwrap_or(defaults.partner_api_key),
        data_import_key: variable("SYNCLINE_SANDBOX_DATA_IMPORT_KEY").unwrap_or(defaults.data_import_key),
        rate_limit: args.rate_limit,
        rate_window: Duration::from_secs(args.rate_window),
        retry_after: args.retry_after,
        latency: Duration::from_millis(args.latency),
        strict_naming: args.strict_naming,
    };
    super::runtime()?.block_on(async {
        let sandbox = Sandbox::start(options).await?;
        out(&format!("sandbox on {}", sandbox.url()))?;
        tell(&format!("its private door: curl {}/_sandbox/; stop it with Ctrl-C", sandbox.url()));
        tokio::signal::ctrl_c()
            .await
            .map_err(|e| CommandError::new(Exit::Failed, format!("no signals: {e}")))?;
        Ok(Exit::Done)
    })
}
