//! `sandbox`: runs a local imitation of Braze and Heap until it receives a stop signal.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::cli::environment::variable;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::logging::notify;
use crate::cli::output::out;
use crate::cli::sandbox_args::{
    BrazeArgs, CodecArg, CurrentsArgs, HeapArgs, LengthsArg, OverLimitArg, ProfilesArg, SandboxArgs,
    SandboxCommand, SuccessArg,
};
use syncline_sandbox::currents::{self, CurrentsError, EventMix, FileOptions, WrittenFiles};
use syncline_sandbox::{
    self as sandbox, HeapOptions, OverLimit, RestGroup, RestOptions, Sandbox, SandboxOptions, Success,
};

pub(in crate::cli) fn run(args: &SandboxArgs) -> Result<Exit, CommandError> {
    if let Some(SandboxCommand::Currents(args)) = &args.command {
        return currents(args);
    }
    let options = options(args);
    super::runtime()?.block_on(async {
        let sandbox = Sandbox::start(options).await?;
        out(&format!("sandbox on {}", sandbox.url()))?;
        notify(&format!("admin API: curl {}/_sandbox/; stop it with Ctrl-C", sandbox.url()));
        tokio::signal::ctrl_c()
            .await
            .map_err(|e| CommandError::new(Exit::Failed, format!("no signals: {e}")))?;
        Ok(Exit::Done)
    })
}

fn currents(args: &CurrentsArgs) -> Result<Exit, CommandError> {
    let mix = EventMix {
        seed: args.seed,
        events: args.events,
        from: args.from,
        types: args.types.clone(),
        one_way: args.one_way,
        users: args.users,
        hours: args.hours,
        anonymous: args.anonymous,
        hot: args.hot,
        redacted: args.redacted,
        unknown_types: args.unknown_types,
        unknown_fields: args.unknown_fields,
        odd_times: args.odd_times,
        broken: args.broken,
        large: args.large,
        duplicates: args.duplicates,
        shuffle: args.shuffle,
        ..EventMix::default()
    };
    let files = FileOptions {
        codec: match args.codec {
            CodecArg::Null => currents::Codec::Null,
            CodecArg::Deflate => currents::Codec::Deflate,
            CodecArg::Snappy => currents::Codec::Snappy,
            CodecArg::Zstd => currents::Codec::Zstd,
        },
        prefix: args.prefix.clone(),
        rows_max: args.rows_max,
        late: args.late,
        cut: args.cut,
        garbage: args.garbage,
        ..FileOptions::default()
    };
    let written = currents::write(&args.out, &mix, &files)?;
    if let Some(path) = &args.ids {
        write_ids(path, &written).map_err(|source| CurrentsError::Write { path: path.clone(), source })?;
    }
    out(&summary(&written, args))?;
    Ok(Exit::Done)
}

fn write_ids(path: &Path, written: &WrittenFiles) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for id in &written.ids {
        writeln!(file, "{id}")?;
    }
    file.flush()
}

fn summary(written: &WrittenFiles, args: &CurrentsArgs) -> String {
    let WrittenFiles { events, distinct, files, bytes, .. } = written;
    let out = args.out.display();
    let mut text =
        format!("wrote {events} events, {distinct} distinct, as {files} files of {bytes} bytes below {out}");
    if let Some(cut) = &written.cut {
        let (whole, lost) = (cut.whole.len(), cut.lost.len());
        text.push_str(&format!(
            "\ncut: {}, {whole} more complete events and {lost} incomplete ones",
            cut.path.display()
        ));
    }
    for path in &written.garbage {
        text.push_str(&format!("\ngarbage: {}", path.display()));
    }
    text
}

fn options(args: &SandboxArgs) -> SandboxOptions {
    let (braze, defaults) = (&args.braze, SandboxOptions::default());
    SandboxOptions {
        port: args.port,
        memory: args.memory.clone(),
        existing_users: match braze.profiles {
            ProfilesArg::Any => sandbox::ExistingUsers::Any,
            ProfilesArg::Created => sandbox::ExistingUsers::Created,
        },
        partner: braze.partner.clone(),
        partner_api_key: variable("SYNCLINE_SANDBOX_PARTNER_API_KEY").unwrap_or(defaults.partner_api_key),
        data_import_key: variable("SYNCLINE_SANDBOX_DATA_IMPORT_KEY").unwrap_or(defaults.data_import_key),
        rate_limit: braze.rate_limit,
        rate_window: Duration::from_secs(braze.rate_window),
        retry_after: braze.retry_after,
        latency: Duration::from_millis(braze.latency),
        strict_naming: braze.strict_naming,
        rest: rest(braze, defaults.rest),
        heap: heap(&args.heap, defaults.heap),
    }
}

fn rest(args: &BrazeArgs, defaults: RestOptions) -> RestOptions {
    let limit =
        |&(group, limit, seconds): &(RestGroup, u64, u64)| (group, limit, Duration::from_secs(seconds));
    RestOptions {
        api_key: variable("SYNCLINE_SANDBOX_REST_API_KEY").unwrap_or(defaults.api_key),
        limits: args.rest_limit.iter().map(limit).collect(),
        track_in_seconds: args.track_in_seconds,
        merge_keeps_membership: args.merge_keeps_membership,
        unknown_id: args.unknown_id,
        export_takes: Duration::from_millis(args.export_takes),
    }
}

fn heap(args: &HeapArgs, defaults: HeapOptions) -> HeapOptions {
    HeapOptions {
        app_id: args.app_id.clone(),
        api_key: variable("SYNCLINE_SANDBOX_HEAP_API_KEY").unwrap_or(defaults.api_key),
        over_limit: match args.limits {
            OverLimitArg::Off => OverLimit::Off,
            OverLimitArg::Reject => OverLimit::Reject,
            OverLimitArg::SilentDrop => OverLimit::Drop,
        },
        minute: Duration::from_millis(args.minute),
        success: match args.responses {
            SuccessArg::Mixed => Success::Mixed,
            SuccessArg::Object => Success::Object,
            SuccessArg::Empty => Success::Empty,
            SuccessArg::NoContent => Success::NoContent,
        },
        lengths: match args.lengths {
            LengthsArg::Characters => sandbox::Lengths::Characters,
            LengthsArg::Bytes => sandbox::Lengths::Bytes,
        },
        lenient: args.lenient,
        body_len_max: args.body_max,
        accept_all: args.accept_all,
    }
}
