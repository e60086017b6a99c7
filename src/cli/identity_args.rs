//! The command line of `identity`. Doc comments are the help texts.

use clap::{Args, Subcommand, ValueEnum};

use super::global_args::{FormatArgs, OutputFormat};

#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    #[command(subcommand)]
    pub(super) command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum IdentityCommand {
    /// Show the owner of a device, an alias or a Braze id
    Show {
        /// The id; repeatable
        #[arg(value_name = "IDENTIFIER", required = true)]
        identifiers: Vec<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Import identities from files
    Import(Box<IdentityImportArgs>),
    /// Show the size of the identity map
    Stats(FormatArgs),
    /// Drop everything that was imported from Heap Connect dumps
    Drop {
        /// Its address, as `identity stats` shows it
        #[arg(value_name = "ADDRESS")]
        address: String,
        /// The alias label of the import
        #[arg(long, value_name = "LABEL", default_value = "heap_user_id")]
        label: String,
        #[command(flatten)]
        format: FormatArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IdentityLayoutArg {
    /// External ids with devices or aliases
    Mapping,
    /// Heap's `users`: `user_id` and `identity`
    HeapUsers,
    /// Heap's `user_migrations`: `from_user_id` and `to_user_id`
    HeapUserMigrations,
    /// Heap Connect's dumps as a whole: the bucket's address, or a folder that is a copy of it
    HeapConnect,
}

#[derive(Debug, Args)]
pub(super) struct IdentityImportArgs {
    /// A file, a glob, or an address such as `s3://bucket/users/*.avro`; of Heap Connect, the bucket
    #[arg(value_name = "FILES")]
    pub(super) files: String,
    /// Content of its rows
    #[arg(long, value_name = "LAYOUT", default_value = "mapping")]
    pub(super) layout: IdentityLayoutArg,
    /// Column of the external id; `identity` in Heap's `users`
    #[arg(long, value_name = "COLUMN")]
    pub(super) external_id: Option<String>,
    /// The column of a device; repeatable
    #[arg(long = "device-id", value_name = "COLUMN")]
    pub(super) device_ids: Vec<String>,
    /// The column of an alias, with the alias's label; repeatable
    #[arg(long = "alias", value_name = "LABEL=COLUMN", value_parser = alias)]
    pub(super) aliases: Vec<(String, String)>,
    /// The label of the alias that Heap's user ids are in Braze
    #[arg(long, value_name = "LABEL", default_value = "heap_user_id")]
    pub(super) label: String,
    /// The store's address, if the files are in a bucket and it is not the vendor's own
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// The bucket's region, for S3
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

fn alias(text: &str) -> Result<(String, String), String> {
    let (label, column) = text.split_once('=').ok_or("write it as LABEL=COLUMN")?;
    if label.is_empty() || column.is_empty() {
        return Err("neither label nor column may be empty".to_owned());
    }
    Ok((label.to_owned(), column.to_owned()))
}

impl IdentityCommand {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Show { .. } => "show",
            Self::Import(_) => "import",
            Self::Stats(_) => "stats",
            Self::Drop { .. } => "drop",
        }
    }

    pub(super) fn format(&self) -> OutputFormat {
        match self {
            Self::Show { format, .. } | Self::Stats(format) | Self::Drop { format, .. } => format.format,
            Self::Import(args) => args.format,
        }
    }
}
