//! The node: command line, configuration, wiring.

mod check;
mod cli;
mod command;
mod config;
mod control;
mod data_folder;
mod descriptors;
mod federation;
mod fetch;
mod logging;
mod operation;
mod proof;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use command::Printer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "the program's own answer")]
fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("entente: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let (data, printer) = (cli.data, Printer { json: cli.json });
    match cli.command {
        None => serve::run(&data, &cli.listen),
        Some(Command::Serve(listen)) => serve::run(&data, &listen),
        Some(Command::Init) => command::init(&data, printer),
        Some(Command::Config(which)) => command::config(&data, &which, printer),
        Some(Command::User(which)) => command::user(&data, which, printer),
        Some(Command::Federation(which)) => command::federation::run_one(&data, which, printer),
        Some(Command::Verify) => command::verify(&data, printer),
        Some(Command::Backup { file }) => command::backup(&data, &file, printer),
        Some(Command::Restore { file, lost }) => command::restore(&data, &file, lost, printer),
        Some(Command::Version) => Ok(command::version(printer)),
    }
}
