//! `livewell`: see `livewell --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    livewell::cli::run(livewell::cli::Cli::parse())
}
