//! The command line of `discover` and `import`. Its doc comments are the help.

use std::path::PathBuf;

use clap::Args;

use super::args::OutputFormat;
use crate::model::ConnectionName;

#[derive(Debug, Args)]
pub(super) struct DiscoverArgs {
    /// The database; all of them if none is named
    #[arg(value_name = "CONNECTION", value_parser = connection)]
    pub(super) connection: Option<ConnectionName>,
    /// How the result is written to stdout
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub(super) format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct ImportTablesArgs {
    /// The file to write, which must not be there yet; stdout if none is named
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

fn connection(text: &str) -> Result<ConnectionName, String> {
    ConnectionName::new(text).map_err(|e| e.to_string())
}
