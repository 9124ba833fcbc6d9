//! `lockstep faults`: plants every fault and says what the search made of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use engine::DeviceChoice;
use engine::device::Device;

use super::options::positive;
use super::run::all_threads;
use super::{EXIT_CODES, Failure, Format};
use crate::faults::cases::{CASES, Case, Fixture};
use crate::faults::subject::{Place, Subject};
use crate::faults::{FaultsError, Trial, due, table, trial};
use crate::model::Model;
use crate::report::files::{Folder, FolderError};
use crate::report::output::Output;

const EXAMPLES: &str = "\
Examples:
  lockstep faults
  lockstep faults --only F08,F09 --format json
  lockstep faults --model smollm2-135m-instruct --out out
  lockstep faults --device cuda
  lockstep find --plant F08           the whole report of one of them, on a model of yours

Each fault of a real engine is planted into ours, on the smallest model that shows it or on the one
that is given. A GPU's kernels are compiled anew for each fault that is one of theirs. `there` says
whether the first tap that differs is the one that is due, `so` whether the cause is. The last
columns are what weaker checks would have seen of the same run. Below the table stands which faults
cannot show on that model or device, and why; they count as nothing.
Exit code 1: a fault was not caught, placed or explained, or there was an alarm without one; 4:
none of them can show there.";

/// Nothing was planted.
const NOTHING: u8 = 4;

/// Plant every fault of the matrix: caught, placed, explained, and what weaker checks would see
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct FaultsCommand {
    /// Only these, by their ids
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    only: Option<Vec<engine::Fault>>,

    /// A model that all of them are planted on: a GGUF file, or a name from the catalogue
    #[arg(long, value_name = "FILE|NAME")]
    model: Option<String>,

    /// Where the engine runs: host, auto, hip, hip:N, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "host")]
    device: DeviceChoice,

    /// A folder for faults.json, which has the JSON lines
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Threads of each side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// A table for people, or JSON lines for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

impl FaultsCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let place = self.place()?;
        let mut subjects = Subjects::new(self.model.as_deref())?;
        let mut file = self.out.as_deref().map(file_in).transpose()?;
        let mut output = Output::new(io::stdout());
        let mut trials = Vec::new();
        let wanted = |fault| match (&self.only, fault) {
            (None, _) => true,
            (Some(only), Some(fault)) => only.contains(&fault),
            (Some(_), None) => false,
        };
        for case in CASES.iter().filter(|case| wanted(case.fault)) {
            let trial = subjects.trial(case, &place)?;
            let mut line = serde_json::to_vec(&trial).map_err(io::Error::from)?;
            line.push(b'\n');
            if self.format == Format::Json {
                output.write_all(&line)?;
                output.flush()?;
            }
            if let Some(file) = &mut file {
                file.write_all(&line)?;
            }
            trials.push(trial);
        }
        if self.format == Format::Terminal {
            output.write_all(table::table(&trials).as_bytes())?;
            output.flush()?;
        }
        if trials.iter().all(|trial| trial.skipped.is_some()) {
            return Ok(NOTHING);
        }
        Ok(u8::from(!trials.iter().all(Trial::right)))
    }

    /// Where the engine runs: of `auto`, what is there. It is opened even where nothing can be
    /// planted, since nothing can be said of a device that is missing.
    fn place(&self) -> Result<Place, Failure> {
        let threads = self.threads.unwrap_or_else(all_threads);
        let opened = Device::open(self.device, None, threads)
            .map_err(|error| Failure::device(error.to_string()))?;
        let device = match self.device {
            DeviceChoice::Auto => opened.describe().device.parse().unwrap_or_default(),
            chosen => chosen,
        };
        Ok(Place { device, ..Place::host(threads) })
    }
}

/// The models of a run: the one that was asked for, or each fault's own fixture.
struct Subjects {
    given: Option<Subject>,
    fixtures: BTreeMap<Fixture, Subject>,
}

impl Subjects {
    fn new(asked: Option<&str>) -> Result<Self, Failure> {
        let given = asked.map(|asked| -> Result<_, Failure> {
            let model = Model::resolve(Some(asked))?;
            let mut subject = Subject::new(&model.name, &model.path, Arc::clone(&model.file))?;
            subject.keep(model);
            Ok(subject)
        });
        Ok(Self { given: given.transpose()?, fixtures: BTreeMap::new() })
    }

    /// Plants the fault of a case where it can show.
    fn trial(&mut self, case: &Case, place: &Place) -> Result<Trial, Failure> {
        // What is due on the fixtures was written down for the plain kernels.
        let written = self.given.is_none() && !place.is_of_waves();
        let subject = match (&mut self.given, self.fixtures.entry(case.fixture)) {
            (Some(given), _) => given,
            (None, Entry::Occupied(there)) => there.into_mut(),
            (None, Entry::Vacant(free)) => free.insert(Subject::fixture(case.fixture)?),
        };
        let here = match written {
            true => Ok(*case),
            false => due::on(case, &subject.facts, place.is_of_waves()),
        };
        match here {
            Ok(case) => Ok(trial(&case, subject, place)?),
            Err(reason) => Ok(Trial::skipped(case, &subject.name, reason)),
        }
    }
}

/// The file of a folder that gets a line for each fault.
fn file_in(path: &Path) -> Result<File, Failure> {
    let _folder = Folder::prepare(path)?;
    let made = File::create(path.join("faults.json"));
    Ok(made.map_err(|source| FolderError::Write { path: path.to_path_buf(), source })?)
}

impl From<FaultsError> for Failure {
    fn from(error: FaultsError) -> Self {
        match error {
            FaultsError::Side(error) => error.into(),
            FaultsError::Fixture(_) => Self::input(error.to_string())
                .hint("make room there, or set TMPDIR to a folder that can be written to"),
            FaultsError::File(_) | FaultsError::Model(_) | FaultsError::Reference(_) => {
                Self::input(error.to_string())
            }
        }
    }
}
