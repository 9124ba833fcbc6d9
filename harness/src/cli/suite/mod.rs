//! `lockstep suite`: the cases of a file one by one, a line for each, one answer for all.

mod case;
mod limit;
mod recordings;
mod resume;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use clap::Args;
use engine::DeviceChoice;

use super::ci::Ci;
use super::diff::name;
use super::reports::Report;
use super::run::watch_interrupts;
use super::{EXIT_CODES, Failure, Format, command_line};
use crate::report::files::{Folder, Lines, write_report, write_whole};
use crate::report::output::Output;
use crate::suite::{
    Case, CaseResult, NotRun, Seed, Suite, SuiteLine, SuiteResult, Word, day, parse, worst,
};
use case::Runs;
use recordings::Recordings;
use resume::Keys;
use show::Shown;

const EXAMPLES: &str = "\
Examples:
  lockstep suite fixtures/suites/quick.toml
  lockstep suite nightly.toml --filter kv --out out --budget-minutes 90
  lockstep suite nightly.toml --device hip --seed date --out out --resume
  lockstep suite nightly.toml --record recorded
  lockstep suite nightly.toml --against recorded --device hip

A case says in TOML what `lockstep run` takes as options; docs/suites.md says how, and
fixtures/suites/quick.toml shows it. A case that diverges is looked into as `lockstep find` does.
--out DIR gets suite.jsonl with a line for each case as it ends, suite.json, rewritten after each
case, junit.xml, summary.md, a folder for each case, and at the end report.html.
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

    /// Only the case of this name, or else those with this in their names
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Where the engine runs, whatever the cases say
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,

    /// The stream of drawn prompts whose case names no number; `date` is today's in UTC
    #[arg(long, value_name = "N|date")]
    seed: Option<Seed>,

    /// Write the reference's side of each case into a folder
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Take the reference's side of each case from such a folder where it is there
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,

    /// Take over what an earlier run has left in --out: cases that agreed or diverged are not run
    #[arg(long, requires = "out")]
    resume: bool,

    /// Begin no further case after so many minutes [default: what the file says]
    #[arg(long, value_name = "N", value_parser = minutes)]
    budget_minutes: Option<f64>,

    /// A folder for suite.jsonl, suite.json, junit.xml, summary.md, report.html, and each case's
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Text for people, or the lines of suite.jsonl for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,

    /// Print the last line only, and every case that does not agree
    #[arg(long, short)]
    quiet: bool,

    /// A fault to plant into the engine of every case, by its id in `lockstep faults`
    #[arg(long, value_name = "ID", hide = true)]
    plant: Option<engine::Fault>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes >= 0.0 && minutes.is_finite() => Ok(minutes),
        _ => Err("a number of minutes is needed".to_owned()),
    }
}

/// The day, which is the only thing that a suite takes from the clock.
#[expect(clippy::disallowed_methods, reason = "this is where the clock enters")]
fn today() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    day(since.map_or(0, |since| since.as_secs()))
}

impl SuiteCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let (bytes, mut suite) = self.read()?;
        let seed = suite.draw_from(self.seed, today());
        let all = self.choose(&mut suite)?;
        let recordings = Recordings::new(self.record.clone(), self.against.clone());
        let folder = self.out.as_deref().map(Folder::prepare).transpose()?;
        // Tried out before the first case: its reference may take an hour.
        self.record.as_deref().map(Folder::prepare).transpose()?;
        let mut work = Work {
            command: &self,
            folder,
            names: suite.cases.iter().map(|case| case.name.clone()).collect(),
            all,
            lines: None,
            result: SuiteResult {
                lockstep: env!("CARGO_PKG_VERSION"),
                suite: name(&self.file),
                complete: false,
                exit_code: 4,
                seed,
                cases_count: suite.cases.len(),
                cases: Vec::new(),
            },
            shown: Shown::new(self.format, self.quiet),
        };
        work.run(&suite, &bytes, &recordings)
    }

    fn read(&self) -> Result<(Vec<u8>, Suite), Failure> {
        let path = self.file.display();
        let bytes = std::fs::read(&self.file).map_err(|error| {
            Failure::input(format!("cannot read the suite {path}: {error}"))
                .hint("fixtures/suites/quick.toml is an example")
        })?;
        let suite = parse(&bytes)
            .map_err(|error| Failure::input(format!("{path}: {error}")).hint(error.hint()))?;
        Ok((bytes, suite))
    }

    /// Leaves the cases of the filter; none is bad input, or a typing error would be a success.
    /// Returns all cases of the file, as they would be run.
    fn choose(&self, suite: &mut Suite) -> Result<Vec<Case>, Failure> {
        for case in &mut suite.cases {
            case.options.device = self.device.unwrap_or(case.options.device);
            case.options.plant = self.plant;
        }
        let all = suite.cases.clone();
        let wanted = self.filter.as_deref().unwrap_or_default();
        let names: Vec<String> = suite.cases.iter().map(|case| case.name.clone()).collect();
        let exact = names.iter().any(|name| name == wanted);
        suite.cases.retain(|case| match exact {
            true => case.name == wanted,
            false => case.name.contains(wanted),
        });
        if suite.cases.is_empty() {
            let more = names.len().saturating_sub(NAMES_MAX);
            let shown = names[..names.len() - more].join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Failure::input(format!("no case has `{wanted}` in its name"))
                .hint(format!("there are: {shown}{more}")));
        }
        Ok(all)
    }

    /// The command that runs a case alone, on the same tokens.
    fn replay(&self, case: &Case) -> String {
        let file = command_line::quoted(&self.file.display().to_string());
        let mut words = format!("lockstep suite {file} --filter {}", case.name);
        if let Some(device) = self.device {
            words += &format!(" --device {device}");
        }
        if let Some(drawn) = case.drawn.filter(|drawn| drawn.dated) {
            words += &format!(" --seed {}", drawn.seed);
        }
        if let Some(against) = &self.against {
            words +=
                &format!(" --against {}", command_line::quoted(&against.display().to_string()));
        }
        if let Some(fault) = self.plant {
            words += &format!(" --plant {}", fault.id());
        }
        words
    }
}

/// The most names in a hint.
const NAMES_MAX: usize = 50;

/// A suite while it runs.
struct Work<'a> {
    command: &'a SuiteCommand,
    folder: Option<Folder>,
    lines: Option<Lines>,
    /// Of the cases, in the order of their results.
    names: Vec<String>,
    /// The cases of the file, those too that the filter left out.
    all: Vec<Case>,
    result: SuiteResult,
    shown: Shown,
}

impl Work<'_> {
    fn run(&mut self, suite: &Suite, bytes: &[u8], recordings: &Recordings) -> Result<u8, Failure> {
        let (keys, known) = self.keys(suite, bytes)?;
        let mut earlier = self.begin(&known)?;
        let budget_minutes = self.command.budget_minutes.or(suite.budget_minutes);
        let (begin, interrupted) = (Instant::now(), watch_interrupts());
        let out = self.command.out.clone();
        let runs = Runs { out, recordings, interrupted: &interrupted };
        for (case, key) in suite.cases.iter().zip(keys) {
            let spent = begin.elapsed().as_secs_f64();
            let stopped = interrupted.load(Ordering::SeqCst);
            let over = budget_minutes.is_some_and(|budget| spent >= budget * 60.0);
            let reused = key.as_ref().and_then(|key| earlier.remove(key));
            let mut result = match (reused, stopped, over) {
                (Some(reused), ..) => reused,
                (_, true, _) => CaseResult::new(&case.name, None, NotRun::Interrupted.words()),
                (_, _, true) => CaseResult::new(&case.name, None, NotRun::Budget.words()),
                _ => runs.run(case),
            };
            result.key = key;
            if matches!(result.verdict, Word::Diverges | Word::Inconclusive) {
                result.replay = Some(self.command.replay(case));
            }
            self.ended(result, interrupted.load(Ordering::SeqCst))?;
        }
        self.finish(begin.elapsed().as_secs_f64())
    }

    /// One key a case, where results are kept for later; and to resume, those of the whole file.
    fn keys(
        &self,
        suite: &Suite,
        bytes: &[u8],
    ) -> Result<(Vec<Option<String>>, BTreeSet<String>), Failure> {
        if self.folder.is_none() {
            return Ok((vec![None; suite.cases.len()], BTreeSet::new()));
        }
        let references = format!("{:?} {:?}", self.command.record, self.command.against);
        let mut keys = Keys::new(bytes, &references)?;
        let chosen = suite.cases.iter().map(|case| keys.key(case)).collect();
        let all = self.all.iter().filter(|_| self.command.resume);
        let known = all.filter_map(|case| keys.key(case)).collect();
        Ok((chosen, known))
    }

    /// Begins the files; what can be taken over stands in them before anything is run, so that a
    /// suite that is killed and resumed again loses nothing.
    fn begin(&mut self, known: &BTreeSet<String>) -> Result<BTreeMap<String, CaseResult>, Failure> {
        let mut earlier = BTreeMap::new();
        self.shown.line(&SuiteLine::first(&self.result))?;
        if let Some(out) = &self.command.out {
            let path = out.join("suite.jsonl");
            if self.command.resume {
                earlier = resume::earlier(&path)?;
                earlier.retain(|key, _| known.contains(key));
                earlier.values_mut().for_each(|result| result.reused = true);
            }
            self.folder.as_ref().map(Folder::clear).transpose()?;
            let first = SuiteLine::first(&self.result);
            let lines = std::iter::once(first).chain(earlier.values().map(SuiteLine::Case));
            self.lines = Some(Lines::begin_whole(out, "suite.jsonl", lines)?);
        }
        if let Some(seed) = self.result.seed {
            self.shown.seed(seed)?;
        }
        Ok(earlier)
    }

    fn ended(&mut self, result: CaseResult, interrupted: bool) -> Result<(), Failure> {
        let line = SuiteLine::Case(&result);
        self.shown.line(&line)?;
        if let Some(lines) = self.lines.as_mut().filter(|_| !result.reused) {
            lines.write(&line)?;
        }
        let (number, count) = (self.result.cases.len() + 1, self.result.cases_count);
        self.shown.case((number, count), &result)?;
        self.result.cases.push(result);
        self.result.complete = number == count;
        self.result.exit_code = answer(&self.result, interrupted);
        if let Some(folder) = &self.folder {
            write_whole(folder, "suite.json", &self.result)?;
        }
        // Not at the end alone: a suite that is killed has its reports.
        // Those to come are in them, or they would be a smaller suite's that has ended.
        let to_come = self.names.iter().skip(self.result.cases.len());
        let to_come = to_come.map(|name| CaseResult::new(name, None, NotRun::Pending.words()));
        let cases: Vec<CaseResult> = self.result.cases.iter().cloned().chain(to_come).collect();
        let (title, last_line) = (&self.result.suite, self.result.summary());
        let report = Report { title, cases: &cases, last_line: &last_line };
        report.write(self.command.out.as_deref())
    }

    fn finish(&mut self, seconds: f64) -> Result<u8, Failure> {
        let line = SuiteLine::last(&self.result);
        self.shown.line(&line)?;
        if let Some(lines) = &mut self.lines {
            lines.write(&line)?;
        }
        if let Some(folder) = &self.folder {
            write_report(folder)?;
        }
        let summary = self.result.summary();
        let (title, cases) = (&self.result.suite, &self.result.cases);
        let report = Report { title, cases, last_line: &summary };
        let ci = Ci::from_environment();
        if self.command.format == Format::Terminal {
            report.annotate(&ci, &mut Output::new(io::stdout()))?;
        }
        report.append_summary(&ci)?;
        self.shown.summary(seconds, &summary)?;
        Ok(self.result.exit_code)
    }
}

/// A suite that is interrupted, or not at its end, is no success, whatever the cases before said.
fn answer(result: &SuiteResult, interrupted: bool) -> u8 {
    let mut codes: Vec<Option<u8>> = result.cases.iter().map(|case| case.exit_code).collect();
    codes.extend((interrupted || !result.complete).then_some(Some(4)));
    worst(&codes)
}
