//! The command line of `discover` and `import`. Doc comments are the help texts.

use std::path::PathBuf;

use clap::Args;

use super::global_args::OutputFormat;
use crate::model::ConnectionName;

#[derive(Debug, Args)]
pub(super) struct DiscoverArgs {
    /// The database. Default: all
    #[arg(value_name = "CONNECTION", value_parser = connection)]
    pub(super) connection: Option<ConnectionName>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ImportTablesArgs {
    /// The file to create. Default: stdout
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

fn connection(text: &str) -> Result<ConnectionName, String> {
    ConnectionName::new(text).map_err(|e| e.to_string())
}
