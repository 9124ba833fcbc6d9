//! `lockstep bench --history`: which file, what is compared with, and what is said of it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use engine::DeviceChoice;
use engine::device::{Description, Device};

use super::{Failure, run};
use crate::bench::Measured;
use crate::bench::history::{History, HistoryError, Machine, Night, Setting};
use crate::bench::judgement::{Judgement, Levels, Word, judge};
use crate::identity::ModelIdentity;
use crate::model::Model;

/// How speeds are kept and compared.
#[derive(Debug, Args)]
pub(super) struct NightsOptions {
    /// Append the speeds to this file, and compare them with the last 14 of the same
    /// runner, device, model and options there
    #[arg(long, value_name = "FILE.jsonl")]
    history: Option<PathBuf>,

    /// The machine's name in the history
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    runner: String,

    /// What this measurement is called in the history, a date for instance
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    night: String,

    /// Below so much of the median a speed is told as slower
    #[arg(long, value_name = "PART", default_value_t = 0.95, value_parser = level)]
    warn_below: f64,

    /// Below so much of the median, and outside the spread, the exit code is 1
    #[arg(long, value_name = "PART", default_value_t = 0.85, value_parser = level)]
    fail_below: f64,
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(level) if level > 0.0 && level <= 1.0 => Ok(level),
        _ => Err("a part of the median is above 0 and at most 1".to_owned()),
    }
}

/// A history that was read, with what tonight's lines have in common.
pub(super) struct Nights<'a> {
    options: &'a NightsOptions,
    history: History,
    model: ModelIdentity,
    description: Description,
}

impl NightsOptions {
    /// Reads the history before anything is measured: minutes are not spent for a file that cannot
    /// be used.
    pub(super) fn open(
        &self,
        device: DeviceChoice,
        model: &Model,
    ) -> Result<Option<Nights<'_>>, Failure> {
        let Some(path) = &self.history else { return Ok(None) };
        if self.fail_below > self.warn_below {
            let (fail, warn) = (self.fail_below, self.warn_below);
            let message = format!("--fail-below {fail} is above --warn-below {warn}");
            return Err(Failure::input(message).hint("what fails has to be worse than what warns"));
        }
        let history = History::read(path)?;
        let identity =
            ModelIdentity::of_file(model.name.clone(), &model.path).map_err(|error| {
                Failure::input(format!("cannot read {}: {error}", model.path.display()))
            })?;
        let device = Device::open(device, None, run::all_threads())
            .map_err(|error| Failure::device(error.to_string()))?;
        let description = device.describe();
        Ok(Some(Nights { options: self, history, model: identity, description }))
    }
}

impl Nights<'_> {
    /// Machine, device and model.
    pub(super) fn machine(&self) -> Machine {
        let Description { device, name, .. } = self.description.clone();
        let (runner, model_sha256) = (self.options.runner.clone(), self.model.sha256.clone());
        Machine { runner, device, device_name: name, model_sha256 }
    }

    /// Appends the night and judges it.
    pub(super) fn add(
        &self,
        setting: &Setting,
        parts: &[Measured],
    ) -> Result<Vec<Judgement>, Failure> {
        let Self { options, model, description, .. } = self;
        let (night, build, name) = (&options.night, &description.build, &model.name);
        let line = |measured| Night::new(night, build, name, setting.clone(), measured);
        let nights: Vec<Night> = parts.iter().map(line).collect();
        self.history.append(&nights)?;
        let levels = Levels { warn_below: options.warn_below, fail_below: options.fail_below };
        Ok(nights.iter().flat_map(|now| judge(&self.history, now, levels)).collect())
    }
}

/// A line for each.
pub(super) fn tell(output: &mut impl Write, judgements: &[Judgement]) -> io::Result<()> {
    judgements.iter().try_for_each(|judgement| writeln!(output, "{judgement}"))
}

/// 1 when a speed fails.
pub(super) fn exit_code(judgements: &[Judgement]) -> u8 {
    u8::from(judgements.iter().any(|judgement| judgement.verdict == Word::Fail))
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        let hint = error.hint();
        Self::input(error.to_string()).hint(hint)
    }
}
