//! The command line: what can be asked for, and which exit code an answer has.

mod bench;
mod ci;
mod command_line;
mod completions;
mod devices;
mod diff;
mod failure;
mod faults;
mod fetch;
mod find;
mod fixture;
mod import;
mod inspect;
mod launches;
mod man;
mod nights;
mod options;
mod replay;
mod report;
mod reports;
mod run;
mod serve;
mod sides;
mod suite;
mod trace;

use clap::{Parser, Subcommand};

pub use failure::Failure;
pub use options::{ActivationsChoice, KvChoice, ReferenceChoice, RunOptions};

/// The exit codes, in every help text.
const EXIT_CODES: &str = "\
Exit codes: 0 agrees, 1 diverges, 2 bad input, 3 device, 4 nothing compared or inconclusive";

/// What to try first, for somebody who asked for nothing.
const FIRST_STEPS: &str = "\
lockstep runs an engine and a reference on the same tokens, step by step,
and names the first bit in which they differ.

Try first:
  lockstep run                              the embedded model, a few seconds
  lockstep fetch smollm2-135m-instruct      a real model, 98 MB
  lockstep run --model smollm2-135m-instruct --prompt \"Hi\" --max-tokens 16
  lockstep devices                          which GPU can run the engine here
  lockstep --help                           everything else";

/// Runs an engine and a reference on the same tokens and names the first bit that differs.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunCommand),
    Find(find::FindCommand),
    Replay(replay::ReplayCommand),
    Report(report::ReportCommand),
    Faults(faults::FaultsCommand),
    Fetch(fetch::FetchCommand),
    Inspect(inspect::InspectCommand),
    Fixture(fixture::FixtureCommand),
    Devices(devices::DevicesCommand),
    Bench(bench::BenchCommand),
    Launches(launches::LaunchesCommand),
    Suite(suite::SuiteCommand),
    Trace(trace::TraceCommand),
    Diff(diff::DiffCommand),
    Import(import::ImportCommand),
    Serve(serve::ServeCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
}

/// Reads the arguments of this process and does what they say; the exit code is the answer.
pub fn execute() -> Result<u8, Failure> {
    let answer = answer();
    run::leave_to_interrupt();
    answer
}

fn answer() -> Result<u8, Failure> {
    match Arguments::parse().command {
        None => Err(Failure::first_steps(FIRST_STEPS)),
        Some(Command::Run(command)) => command.execute(),
        Some(Command::Find(command)) => command.execute(),
        Some(Command::Replay(command)) => command.execute(),
        Some(Command::Report(command)) => command.execute(),
        Some(Command::Faults(command)) => command.execute(),
        Some(Command::Fetch(command)) => command.execute(),
        Some(Command::Inspect(command)) => command.execute(),
        Some(Command::Fixture(command)) => command.execute(),
        Some(Command::Devices(command)) => command.execute(),
        Some(Command::Bench(command)) => command.execute(),
        Some(Command::Launches(command)) => command.execute(),
        Some(Command::Suite(command)) => command.execute(),
        Some(Command::Trace(command)) => command.execute(),
        Some(Command::Diff(command)) => command.execute(),
        Some(Command::Import(command)) => command.execute(),
        Some(Command::Serve(command)) => command.execute(),
        Some(Command::Completions(command)) => command.execute(),
        Some(Command::Man(command)) => command.execute(),
    }
}

/// Whether the next line is for people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned text.
    #[default]
    Terminal,
    /// JSON lines.
    Json,
}
