//! `lockstep diff`: two recorded traces, from wherever they come.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::trace::read;
use super::{EXIT_CODES, Failure, Format};
use crate::report::output::Output;
use crate::trace::diff::{Refusal, Report, compare};

const EXAMPLES: &str = "\
Examples:
  lockstep diff cpu.jsonl card.jsonl
  lockstep diff greta.jsonl cpu.jsonl --format json

Rows are paired on token id, position, layer and tap, never on the step. Where both traces hash
whole rows under the same contract, bits decide. Elsewhere minimum, maximum, mean and samples are
looked at: they can show a divergence, and figures that are alike end in exit code 4. A record
that only one trace has is a divergence, unless the other did not watch it or ended early.";

/// Compare two recorded traces and name the first row that differs
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct DiffCommand {
    /// A trace that `lockstep trace` or `lockstep import` wrote
    #[arg(value_name = "A")]
    one: PathBuf,

    /// Another, of another side
    #[arg(value_name = "B")]
    two: PathBuf,

    /// Text for people, or one JSON object for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

impl DiffCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let (one, two) = (read(&self.one)?, read(&self.two)?);
        let diff = compare(&one, &two).map_err(|refusal| {
            let hint = match refusal {
                Refusal::Models { .. } => "record both with the same --model",
                Refusal::Contracts { .. } => {
                    "record both with the same --activations and the same --kv"
                }
            };
            Failure::input(refusal.to_string()).hint(hint)
        })?;
        let mut output = Output::new(io::stdout());
        match self.format {
            Format::Terminal => {
                let (name_one, name_two) = (name(&self.one), name(&self.two));
                let traces = [(name_one.as_str(), &one), (name_two.as_str(), &two)];
                writeln!(output, "{}", Report { diff: &diff, traces })?;
            }
            Format::Json => {
                let line = serde_json::to_string(&diff).map_err(io::Error::from)?;
                writeln!(output, "{line}")?;
            }
        }
        Ok(diff.exit_code())
    }
}

/// A file without its folder.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
