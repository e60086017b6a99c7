//! `sandbox`: a small Braze and Heap on this machine, until it is told to stop.

use std::time::Duration;

use crate::cli::environment::variable;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::logging::tell;
use crate::cli::output::out;
use crate::cli::sandbox_args::{Answers, HeapArgs, Lengths, Limits, People, SandboxArgs};
use crate::sandbox::{self, HeapOptions, Options, OverLimit, Sandbox, Success};

pub(in crate::cli) fn run(args: &SandboxArgs) -> Result<Exit, CommandError> {
    let options = options(args);
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

fn options(args: &SandboxArgs) -> Options {
    let (braze, defaults) = (&args.braze, Options::default());
    Options {
        port: args.port,
        memory: args.memory.clone(),
        people: match braze.people {
            People::Any => sandbox::People::Any,
            People::Known => sandbox::People::Known,
        },
        partner: braze.partner.clone(),
        partner_api_key: variable("SYNCLINE_SANDBOX_PARTNER_API_KEY").unwrap_or(defaults.partner_api_key),
        data_import_key: variable("SYNCLINE_SANDBOX_DATA_IMPORT_KEY").unwrap_or(defaults.data_import_key),
        rate_limit: braze.rate_limit,
        rate_window: Duration::from_secs(braze.rate_window),
        retry_after: braze.retry_after,
        latency: Duration::from_millis(braze.latency),
        strict_naming: braze.strict_naming,
        heap: heap(&args.heap, defaults.heap),
    }
}

fn heap(args: &HeapArgs, defaults: HeapOptions) -> HeapOptions {
    HeapOptions {
        app_id: args.app_id.clone(),
        api_key: variable("SYNCLINE_SANDBOX_HEAP_API_KEY").unwrap_or(defaults.api_key),
        over_limit: match args.limits {
            Limits::Off => OverLimit::Off,
            Limits::Refuse => OverLimit::Refuse,
            Limits::SilentDrop => OverLimit::Drop,
        },
        minute: Duration::from_millis(args.minute),
        success: match args.answers {
            Answers::Mixed => Success::Mixed,
            Answers::Object => Success::Object,
            Answers::Empty => Success::Empty,
            Answers::NoContent => Success::NoContent,
        },
        lengths: match args.lengths {
            Lengths::Characters => sandbox::Lengths::Characters,
            Lengths::Bytes => sandbox::Lengths::Bytes,
        },
        lenient: args.lenient,
        body_len_max: args.body_max,
        accept_all: args.accept_all,
    }
}
