//! `livewell`: see `livewell --help`.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    livewell::cli::run(livewell::cli::Cli::parse())
}
