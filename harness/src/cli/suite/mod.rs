//! `lockstep suite`: the cases of a file one by one, a line for each, one answer for all.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;

use super::diff::name;
use super::run::{outcome, watch_interrupts};
use super::{EXIT_CODES, Failure};
use crate::event::Display;
use crate::report::files::{FilesDisplay, Folder, write_whole};
use crate::report::output::Output;
use crate::report::record::message;
use crate::suite::{Case, CaseResult, NotRun, Suite, SuiteResult, Word, parse, worst};

const EXAMPLES: &str = "\
Examples:
  lockstep suite fixtures/suites/quick.toml
  lockstep suite nightly.toml --filter kv --out out --budget-minutes 90

A case says in TOML what `lockstep run` takes as options; fixtures/suites/quick.toml shows all of
it. --out DIR gets suite.json, rewritten after each case, and a folder for each case.
When the budget is spent no further case begins; those are told as not run.

The exit code is that of the worst case: 1 before 4 before 3 before 2 before 0. Cases that were not
run change nothing, unless none was: then it is 4.";

/// Run every case of a file and say how many agree
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct SuiteCommand {
    /// The cases, in TOML
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,

    /// Only the cases with this in their names
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Begin no further case after so many minutes [default: what the file says]
    #[arg(long, value_name = "N", value_parser = minutes)]
    budget_minutes: Option<f64>,

    /// A folder for suite.json and the files of each case
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print the last line only, and every case that does not agree
    #[arg(long, short)]
    quiet: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes >= 0.0 && minutes.is_finite() => Ok(minutes),
        _ => Err("a number of minutes is needed".to_owned()),
    }
}

impl SuiteCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let suite = self.read()?;
        let cases = self.chosen(&suite)?;
        let folder = self.out.as_deref().map(Folder::prepare).transpose()?;
        let budget_minutes = self.budget_minutes.or(suite.budget_minutes);
        let (begin, interrupted) = (Instant::now(), watch_interrupts());
        let mut output = Output::new(io::stdout());
        let mut result = SuiteResult {
            lockstep: env!("CARGO_PKG_VERSION"),
            suite: name(&self.file),
            complete: false,
            exit_code: 4,
            cases_count: cases.len(),
            cases: Vec::new(),
        };
        for (index, case) in cases.iter().enumerate() {
            let spent = begin.elapsed().as_secs_f64();
            let stopped = interrupted.load(Ordering::SeqCst);
            let over = budget_minutes.is_some_and(|budget| spent >= budget * 60.0);
            result.cases.push(match (stopped, over) {
                (true, _) => not_run(case, NotRun::Interrupted),
                (_, true) => not_run(case, NotRun::Budget),
                _ => self.run(case, &interrupted),
            });
            result.complete = index + 1 == cases.len();
            result.exit_code = answer(&result, interrupted.load(Ordering::SeqCst));
            if let Some(folder) = &folder {
                write_whole(folder, "suite.json", &result)?;
            }
            let last = &result.cases[index];
            if !self.quiet || !matches!(last.verdict, Word::Agrees | Word::NotRun) {
                self.tell(&mut output, (index + 1, cases.len()), last)?;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        writeln!(output, "{:>12} [{seconds:>7.1}s] {}", "Summary", result.summary())?;
        Ok(result.exit_code)
    }

    fn read(&self) -> Result<Suite, Failure> {
        let path = self.file.display();
        let bytes = std::fs::read(&self.file).map_err(|error| {
            Failure::input(format!("cannot read the suite {path}: {error}"))
                .hint("fixtures/suites/quick.toml is an example")
        })?;
        parse(&bytes).map_err(|error| Failure::input(format!("{path}: {error}")).hint(error.hint()))
    }

    /// The cases that the filter leaves; none is bad input, or a typing error would be a success.
    fn chosen<'a>(&self, suite: &'a Suite) -> Result<Vec<&'a Case>, Failure> {
        let wanted = self.filter.as_deref().unwrap_or_default();
        let cases: Vec<&Case> =
            suite.cases.iter().filter(|case| case.name.contains(wanted)).collect();
        if cases.is_empty() {
            let names: Vec<&str> = suite.cases.iter().map(|case| case.name.as_str()).collect();
            let hint = format!("there are: {}", names.join(", "));
            return Err(Failure::input(format!("no case has `{wanted}` in its name")).hint(hint));
        }
        Ok(cases)
    }

    fn run(&self, case: &Case, interrupted: &Arc<AtomicBool>) -> CaseResult {
        let begin = Instant::now();
        let mut options = case.options.clone();
        options.out = self.out.as_ref().map(|out| out.join(&case.name));
        let interrupts = || Arc::clone(interrupted);
        let (code, message) =
            match outcome(&options, case.drawn, interrupts, |_, folder| files(folder)) {
                Ok(outcome) => (outcome.exit_code(), message(&outcome)),
                Err(failure) => (failure.code, failure.first_line()),
            };
        CaseResult {
            name: case.name.clone(),
            verdict: Word::of(Some(code)),
            exit_code: Some(code),
            duration_seconds: begin.elapsed().as_secs_f64(),
            message,
        }
    }

    fn tell(
        &self,
        output: &mut impl Write,
        (number, count): (usize, usize),
        case: &CaseResult,
    ) -> io::Result<()> {
        let (head, seconds) = (case.verdict.head(), case.duration_seconds);
        let width = count.to_string().len();
        writeln!(
            output,
            "{head:>12} [{seconds:>7.1}s] ({number:>width$}/{count}) {}: {}",
            case.name, case.message
        )?;
        if matches!(case.verdict, Word::Diverges | Word::Inconclusive) {
            let (file, name) = (self.file.display(), &case.name);
            writeln!(output, "{:>12} lockstep suite {file} --filter {name}", "again:")?;
        }
        Ok(())
    }
}

/// An interrupted suite is no success, whatever the cases before said.
fn answer(result: &SuiteResult, interrupted: bool) -> u8 {
    let mut codes: Vec<Option<u8>> = result.cases.iter().map(|case| case.exit_code).collect();
    codes.extend(interrupted.then_some(Some(4)));
    worst(&codes)
}

fn not_run(case: &Case, why: NotRun) -> CaseResult {
    CaseResult {
        name: case.name.clone(),
        verdict: Word::NotRun,
        exit_code: None,
        duration_seconds: 0.0,
        message: why.words().to_owned(),
    }
}

/// A case shows nothing while it runs; its files are those of a run.
fn files(folder: Option<Folder>) -> Result<Vec<Box<dyn Display>>, Failure> {
    let mut displays: Vec<Box<dyn Display>> = Vec::new();
    if let Some(folder) = folder {
        displays.push(Box::new(FilesDisplay::new(folder)?));
    }
    Ok(displays)
}
