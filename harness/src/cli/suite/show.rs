//! A suite on standard output: a line a case for people, or the lines of `suite.jsonl`.

use std::io::{self, Stdout, Write};

use crate::cli::Format;
use crate::report::output::Output;
use crate::report::words::facts;
use crate::suite::{CaseResult, SuiteLine, Word};

/// Width of the word at the head of a line.
const HEAD_COLUMNS: usize = 12;

/// Who reads.
pub(super) struct Shown {
    output: Output<Stdout>,
    format: Format,
    quiet: bool,
}

impl Shown {
    pub(super) fn new(format: Format, quiet: bool) -> Self {
        Self { output: Output::new(io::stdout()), format, quiet }
    }

    /// For programs.
    pub(super) fn line(&mut self, line: &SuiteLine<'_>) -> io::Result<()> {
        if self.format == Format::Terminal {
            return Ok(());
        }
        serde_json::to_writer(&mut self.output, line)?;
        self.output.write_all(b"\n")?;
        self.output.flush()
    }

    fn labelled(&mut self, label: &str, text: &str) -> io::Result<()> {
        if self.format == Format::Json {
            return Ok(());
        }
        writeln!(self.output, "{label:>HEAD_COLUMNS$} {text}")
    }

    /// The number that stands for the day.
    pub(super) fn seed(&mut self, seed: u64) -> io::Result<()> {
        self.labelled("Seed", &format!("{seed}: --seed {seed} draws the same tokens"))
    }

    /// A case that has ended.
    pub(super) fn case(
        &mut self,
        (number, count): (usize, usize),
        case: &CaseResult,
    ) -> io::Result<()> {
        if self.quiet && matches!(case.verdict, Word::Agrees | Word::NotRun) {
            return Ok(());
        }
        let (seconds, width) = (case.duration_seconds, count.to_string().len());
        let mut notes: Vec<&str> = case.reference.iter().map(String::as_str).collect();
        if case.reused {
            notes.push("taken over");
        }
        let notes = match notes.is_empty() {
            true => String::new(),
            false => format!(" ({})", notes.join("; ")),
        };
        let text = format!(
            "[{seconds:>7.1}s] ({number:>width$}/{count}) {}: {}{notes}",
            case.name, case.message
        );
        self.labelled(case.verdict.head(), &text)?;
        for (label, words) in facts(case) {
            self.labelled(&format!("{label}:"), &words)?;
        }
        self.output.flush()
    }

    /// The last line.
    pub(super) fn summary(&mut self, seconds: f64, summary: &str) -> io::Result<()> {
        self.labelled("Summary", &format!("[{seconds:>7.1}s] {summary}"))?;
        self.output.flush()
    }
}
