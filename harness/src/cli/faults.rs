//! `lockstep faults`: plants every fault and says what the search made of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Write};

use clap::Args;

use super::options::positive;
use super::run::all_threads;
use super::{EXIT_CODES, Failure, Format};
use crate::faults::cases::CASES;
use crate::faults::{FaultsError, Model, table, trial};
use crate::report::output::Output;

const EXAMPLES: &str = "\
Examples:
  lockstep faults
  lockstep faults --only F08,F09 --format json
  lockstep find --plant F08           the whole report of one of them, on a model of yours

Each fault of a real engine is planted into ours, on the device host and the smallest model that
shows it. `there` says whether the first tap that differs is the one that is due, `so` whether the
cause is. The last columns are what weaker checks would have seen of the same run.
Exit code 1: a fault was not caught, placed or explained, or there was an alarm without one.";

/// Plant every fault of the matrix: caught, placed, explained, and what weaker checks would see
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct FaultsCommand {
    /// Only these, by their ids
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    only: Option<Vec<engine::Fault>>,

    /// Threads of each side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// A table for people, or JSON lines for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

impl FaultsCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let threads = self.threads.unwrap_or_else(all_threads);
        let mut output = Output::new(io::stdout());
        let mut models = BTreeMap::new();
        let mut trials = Vec::new();
        let wanted = |fault| match (&self.only, fault) {
            (None, _) => true,
            (Some(only), Some(fault)) => only.contains(&fault),
            (Some(_), None) => false,
        };
        for case in CASES.iter().filter(|case| wanted(case.fault)) {
            let model = match models.entry(case.fixture) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => place.insert(Model::new(case.fixture)?),
            };
            let trial = trial(case, model, threads)?;
            if self.format == Format::Json {
                serde_json::to_writer(&mut output, &trial).map_err(io::Error::from)?;
                output.write_all(b"\n")?;
                output.flush()?;
            }
            trials.push(trial);
        }
        if self.format == Format::Terminal {
            output.write_all(table::table(&trials).as_bytes())?;
            output.flush()?;
        }
        Ok(u8::from(!trials.iter().all(crate::faults::Trial::right)))
    }
}

impl From<FaultsError> for Failure {
    fn from(error: FaultsError) -> Self {
        match error {
            FaultsError::Side(error) => error.into(),
            FaultsError::Fixture(_) => Self::input(error.to_string())
                .hint("make room there, or set TMPDIR to a folder that can be written to"),
            FaultsError::File(_) | FaultsError::Reference(_) => Self::input(error.to_string()),
        }
    }
}
