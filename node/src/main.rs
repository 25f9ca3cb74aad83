//! The node: command line, configuration, wiring.

mod announce;
mod backup;
mod backups;
mod check;
mod cli;
mod command;
mod config;
mod control;
mod damage;
mod data_folder;
mod descriptors;
mod federation;
mod fetch;
mod identity;
mod known_secret;
mod lock;
mod logging;
mod objects;
mod operation;
mod printer;
mod progress;
mod proof;
mod reading;
mod refusals;
mod reload;
mod sealed;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use printer::Printer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whatever is written is for the owner only: data, secrets, backups.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let json = std::env::args_os().any(|word| word == "--json");
            return Printer { json }.usage(&error);
        }
    };
    let printer = Printer { json: cli.json };
    run(cli, printer).unwrap_or_else(|error| printer.failed(&error))
}

fn run(cli: Cli, printer: Printer) -> anyhow::Result<ExitCode> {
    let data = cli.data;
    match cli.command {
        None => serve::run(&data, &cli.serve, printer),
        Some(Command::Serve(options)) => serve::run(&data, &options, printer),
        Some(Command::Init) => command::init(&data, printer),
        Some(Command::Health) => command::health::run(&data, printer),
        Some(Command::Config(which)) => command::config(&data, &which, printer),
        Some(Command::User(which)) => command::user(&data, which, printer),
        Some(Command::Federation(which)) => command::federation::run_one(&data, which, printer),
        Some(Command::Verify) => command::verify(&data, printer),
        Some(Command::Backup(options)) => command::backup::run_one(&data, &options, printer),
        Some(Command::Repair(options)) => command::repair::run(&data, &options, printer),
        Some(Command::Restore(options)) => command::restore::run_one(&data, &options, printer),
        Some(Command::Version) => command::version(printer),
    }
}
