//! The `syncline` program. Everything is in the library; see its crate documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    syncline::cli::main()
}
