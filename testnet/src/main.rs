//! Experiments with nodes, as commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testnet::{
    conformance, crash, crowd, damage, docker, load, model, moments, nat, power_cut, simulation, up,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Experiments with nodes of Entente on this machine.
#[derive(Debug, Parser)]
#[command(name = "testnet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: up::Where,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start several organisations on this machine, with friends across them.
    Up(up::Options),
    #[command(flatten)]
    Order(up::Order),
    /// Put load on a node, check what it delivers and measure it.
    Load(Box<load::Options>),
    /// Kill a node under load again and again and look for what it had acknowledged.
    Crash(crash::Options),
    /// Let a crowd of phones loose on a node, as native SDKs behave, and compare what they have.
    Crowd(crowd::Options),
    /// Let users act at random and compare what everybody sees with a model.
    Model(model::Options),
    /// Let organisations talk over links that fail, and compare what they know in the end.
    Simulate(simulation::Options),
    /// Try on a node whether it keeps to docs/federation.
    Conformance(conformance::Options),
    /// Let nodes meet that are behind address translation, through a relay and without it.
    Nat(nat::Options),
    /// Try three organisations as containers, each pair with a network of its own.
    Docker(docker::Options),
    /// Cut the power of a node at a thousand moments and look for what it had acknowledged.
    PowerCut(power_cut::Options),
    /// Restore random moments of a node that makes backups by itself, and compare what is there.
    Moments(moments::Options),
    /// Damage the folder of a node at random and look whether it notices.
    Damage(damage::Options),
    /// Open one store and compare what is in it.
    #[command(hide = true)]
    DamageLook(damage::LookOptions),
    /// Check one image that `power-cut` has kept.
    #[command(hide = true)]
    PowerCutImage(power_cut::ImageOptions),
    /// The relay that `load` compares with; prints its port.
    #[command(hide = true)]
    RawRelay,
}

#[expect(clippy::print_stderr, reason = "the program's own answer")]
fn main() -> ExitCode {
    let Cli { command, place } = Cli::parse();
    let outcome = match command {
        Command::Up(options) => up::run(&options, &place),
        Command::Order(order) => up::order(&place, &order),
        Command::Load(options) => load::run(&options),
        Command::Crash(options) => crash::run(&options),
        Command::Crowd(options) => crowd::run(&options),
        Command::Model(options) => model::run(&options),
        Command::Simulate(options) => simulation::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Nat(options) => nat::run(&options),
        Command::Docker(options) => docker::run(&options),
        Command::PowerCut(options) => power_cut::run(&options),
        Command::Moments(options) => moments::run(&options),
        Command::Damage(options) => damage::run(&options),
        Command::DamageLook(options) => damage::look(&options),
        Command::PowerCutImage(options) => power_cut::check_image(&options),
        Command::RawRelay => load::raw_relay(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("testnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
