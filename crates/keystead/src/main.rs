//! The binary: configuration, wiring, commands. It decides nothing, opens nothing and speaks no
//! SQL; see the crates below for that.

mod api;
mod cli;
mod commands;
mod config;
mod files;
mod harden;
mod logs;
mod sample;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    harden::disable_core_dumps();
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(fault) => {
            logs::complain(&fault.into());
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            logs::complain(&fault);
            ExitCode::from(commands::exit_code(&fault))
        }
    }
}
