//! `livewell`: see `livewell --help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = livewell::cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("livewell: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(livewell::cli::run(cli))
}
