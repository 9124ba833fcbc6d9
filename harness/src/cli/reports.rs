//! What is left of a command for others: junit.xml, summary.md, annotations, a job's summary.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::ci::Ci;
use super::options::RunOptions;
use super::{Failure, Format, command_line};
use crate::event::Outcome;
use crate::report::files::write_text;
use crate::report::github::annotations;
use crate::report::junit::junit;
use crate::report::kinds::kinds;
use crate::report::markdown::markdown;
use crate::report::output::Output;
use crate::report::record::message;
use crate::suite::{CaseResult, Found};

/// After a single run: one test a kind of comparison.
pub(super) fn of_run(
    command: &str,
    options: &RunOptions,
    prompt_ids: &[u32],
    outcome: &Outcome,
    found: Option<&Found>,
) -> Result<(), Failure> {
    let kinds = kinds(outcome, found, &command_line::of_run(options, prompt_ids));
    let word = outcome.verdict.word().to_uppercase();
    let report = Report {
        title: command,
        cases: &kinds,
        last_line: &format!("{word}: {}", message(outcome)),
    };
    let ci = Ci::from_environment();
    if options.format == Format::Terminal {
        report.annotate(&ci, &mut Output::new(io::stdout()))?;
    }
    report.write(options.out.as_deref())?;
    report.append_summary(&ci)
}

/// Cases under one title.
pub(super) struct Report<'a> {
    pub(super) title: &'a str,
    pub(super) cases: &'a [CaseResult],
    /// As on the terminal.
    pub(super) last_line: &'a str,
}

impl Report<'_> {
    /// For whoever reads standard output beside the source.
    pub(super) fn annotate(&self, ci: &Ci, output: &mut impl Write) -> io::Result<()> {
        if ci.annotated {
            output.write_all(annotations(self.title, self.cases).as_bytes())?;
        }
        output.flush()
    }

    /// The files in the folder of --out, if there is one.
    pub(super) fn write(&self, out: Option<&Path>) -> Result<(), Failure> {
        let Some(out) = out else { return Ok(()) };
        write_text(out, "junit.xml", &junit(self.title, self.cases))?;
        Ok(write_text(out, "summary.md", &self.summary())?)
    }

    fn summary(&self) -> String {
        markdown(self.title, self.cases, self.last_line)
    }

    /// The job's summary, where somebody reads one.
    pub(super) fn append_summary(&self, ci: &Ci) -> Result<(), Failure> {
        let summary = self.summary();
        let Some(path) = &ci.step_summary else { return Ok(()) };
        let appended = OpenOptions::new().create(true).append(true).open(path);
        appended.and_then(|mut file| file.write_all(summary.as_bytes())).map_err(|error| {
            Failure::input(format!("cannot append the summary to {}: {error}", path.display()))
                .hint("GITHUB_STEP_SUMMARY names a file that can be written to")
        })
    }
}
