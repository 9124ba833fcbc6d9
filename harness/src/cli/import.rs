//! `lockstep import`: traces of other engines, in the form of this project.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::trace::create;
use super::{EXIT_CODES, Failure, diff};
use crate::report::output::Output;
use crate::trace::greta::{FileReport, GretaError, Import, Wish, import};

const EXAMPLES: &str = "\
Examples:
  lockstep import greta b3_12_readout.jsonl
  lockstep import greta p0_prefill_decode.jsonl p0_landscape.jsonl --layers 32 --out greta.jsonl
  lockstep diff greta.jsonl cpu.jsonl

Each rule that a file breaks is told, with the number of lines and the first of them; rules 4, 6
and 7 leave no mark in a file. A file can hold several runs; --run says which is brought in. Where
the files do not say a token, it is that of --tokens or the largest logit of the step before, for
these runs were greedy. The exit code is 0 when every line was read, whatever it breaks.";

/// Bring traces of other engines into the form of `lockstep trace`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ImportCommand {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    Greta(GretaCommand),
}

/// GRETA CORE's: readouts, landscapes, stages and metrics
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct GretaCommand {
    /// Files of one run, or of several runs one behind the other
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// The file to write [default: none, only the findings are told]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Which run of the files is brought in
    #[arg(long, value_name = "N", default_value_t = 1)]
    run: usize,

    /// How many layers the model has: the hidden state stands behind the last
    #[arg(long, value_name = "N")]
    layers: Option<usize>,

    /// The token ids of the prompt, which the files do not say
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,

    /// Where the run was, which the files do not say
    #[arg(long, value_name = "TEXT")]
    device: Option<String>,

    /// What was built, which the files do not say
    #[arg(long, value_name = "TEXT")]
    build: Option<String>,
}

impl ImportCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        match self.from {
            From::Greta(command) => command.execute(),
        }
    }
}

impl GretaCommand {
    fn execute(self) -> Result<u8, Failure> {
        let mut sources = Vec::new();
        for path in &self.files {
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::input(format!("cannot read {}: {error}", path.display()))
                    .hint("give files that GRETA CORE wrote, one JSON object a line")
            })?;
            sources.push((diff::name(path), bytes));
        }
        let wish = Wish {
            run: self.run,
            layers_count: self.layers,
            prompt_ids: self.tokens.clone(),
            device: self.device.clone(),
            build: self.build.clone(),
        };
        let import = import(&sources, &wish).map_err(|error: GretaError| {
            let hint = error.hint();
            Failure::input(error.to_string()).hint(hint)
        })?;
        if let Some(path) = &self.out {
            import.trace.write(create(path)?)?;
        }
        self.tell(&import)?;
        Ok(0)
    }

    fn tell(&self, import: &Import) -> io::Result<()> {
        let mut output = Output::new(io::stdout());
        import.files.iter().try_for_each(|file| tell_file(&mut output, file))?;
        let (rows, tops) = (import.trace.records.len(), import.trace.landscapes.len());
        writeln!(output, "run {}: {rows} rows, {tops} landscapes", self.run)?;
        if import.derived_count > 0 {
            let count = import.derived_count;
            writeln!(
                output,
                "  {count} rows got their token from the prompt or the choice before"
            )?;
        }
        if import.unknown_count > 0 {
            let count = import.unknown_count;
            writeln!(output, "  {count} rows have no token and pair with nothing: give --tokens")?;
        }
        if import.weights_count > 0 {
            writeln!(output, "  {} lines are of weights and were left out", import.weights_count)?;
        }
        match &self.out {
            Some(path) => writeln!(output, "  written to {}", path.display()),
            None => Ok(()),
        }
    }
}

fn tell_file(output: &mut impl Write, file: &FileReport) -> io::Result<()> {
    let kinds: Vec<&str> = file.kinds.iter().map(|kind| kind.words()).collect();
    let (lines, runs) = (file.lines_count, file.runs_count);
    let word = if runs == 1 { "run" } else { "runs" };
    writeln!(output, "{}: {lines} lines, {runs} {word}, {}", file.name, kinds.join(", "))?;
    for finding in &file.findings {
        let rule = match finding.defect.rule() {
            Some(rule) => format!("rule {rule}"),
            None => "note".to_owned(),
        };
        let (count, line, words) = (finding.count, finding.first_line, finding.defect.words());
        writeln!(output, "  {rule:<8} {count:>3} from line {line:<3} {words}")?;
    }
    Ok(())
}
