//! `lockstep find`: the run with every operation watched, and after a divergence who made it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use reference::Mode;

use super::options::{ReferenceChoice, RunOptions, word};
use super::run::{self, Begun};
use super::sides::{self, Setup};
use super::{EXIT_CODES, Failure, Format};
use super::{command_line, reports};
use crate::compare::Verdict;
use crate::event::{Display, Event, Outcome};
use crate::find::examine::Means;
use crate::find::minimise::{Signature, Size, minimise};
use crate::find::report::FindingFile;
use crate::find::search::Search;
use crate::find::witness::{Witness, WitnessOptions};
use crate::find::{self, Answer, report};
use crate::identity::RunIdentity;
use crate::model::Model;
use crate::report::files::{FINDING, Folder, write_report, write_whole};
use crate::report::output::Output;
use crate::report::record::message;
use crate::run::{Lanes, Plan, run_searching};
use crate::sides::TapLevel;
use crate::suite::{Drawn, Found};

/// Where a witness goes that has no folder of a run.
const WITNESS: &str = "lockstep-witness.json";
/// How many smaller runs `--minimise` tries.
const ATTEMPTS_MAX: usize = 60;

const EXAMPLES: &str = "\
Examples:
  lockstep find
  lockstep find --model smollm2-135m-instruct --prompt \"Hi\" --max-tokens 16 --out out
  lockstep find --model model.gguf --tokens 1,2,3 --device hip --minimise

Every operation is compared, in the order of computation and over all positions. After the first
step that diverges the first operation that differs runs alone on the reference's inputs, its
weights are compared with the file, and what explains its rows is named. A witness is written, to
witness.json in the folder of --out, else lockstep-witness.json: `lockstep replay` runs it again.
Against `wide` and `stock` bits cannot be equal: after a step that is too far away each operation is
held against f64 on the engine's own inputs, within the bounds of CONTRACT.md section 15.";

/// As `run`, then the first operation that diverges, who is to blame, why, and a witness
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct FindCommand {
    #[command(flatten)]
    options: RunOptions,

    /// After a divergence, look for a shorter run that shows the same, and print its command
    #[arg(long)]
    minimise: bool,
}

impl FindCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let options = watching(self.options);
        let mut begun = run::begin(&options, None)?;
        let folder = begun.take_folder();
        let this = Surroundings::new(&options, &begun);
        let (size, interrupted) = (this.size(), run::watch_interrupts());
        let sides = this.load(&size)?;
        let mut displays = run::displays(&options, folder)?;
        let mut searched = this.search(&size, sides, true, &interrupted, &mut displays)?;
        let answer = this.explain(&mut searched)?;
        let found = this.report(&searched, answer.as_ref())?;
        if let Some(answer) = answer.filter(|_| self.minimise) {
            let step = answer.finding.divergence.place.step;
            let start = Size { steps: step + 1, ..size };
            this.smaller(start, &Signature::of(&answer.finding), &interrupted)?;
        }
        let outcome = &searched.outcome;
        reports::of_run("find", &options, &begun.prompt_ids, outcome, found.as_ref())?;
        Ok(outcome.exit_code())
    }
}

/// Every operation is watched where bits are compared.
fn watching(mut options: RunOptions) -> RunOptions {
    if options.reference == ReferenceChoice::Exact {
        options.tap = TapLevel::Op;
    }
    options
}

/// Searches a run that has diverged, without showing it: what was found, and its witness in the
/// folder of --out. Nothing is found where it agrees; a search in doubt says why.
pub(super) fn look_into(
    options: &RunOptions,
    drawn: Option<Drawn>,
    interrupted: &AtomicBool,
) -> Result<Option<Found>, Failure> {
    let options = watching(options.clone());
    let begun = run::begin_beside(&options, drawn)?;
    let this = Surroundings::new(&options, &begun);
    let size = this.size();
    let sides = this.load(&size)?;
    let mut searched = this.search(&size, sides, true, interrupted, &mut Unseen)?;
    let Some(answer) = this.explain(&mut searched)? else {
        let doubt = matches!(searched.outcome.verdict, Verdict::Inconclusive(_));
        let words = || format!("the search saw no end: {}", message(&searched.outcome));
        return Ok(doubt.then(|| Found::said(words())));
    };
    let witness = match options.out {
        Some(_) => this.witness(&searched, &answer)?,
        None => None,
    };
    this.write_page(&answer, witness.as_deref())?;
    Ok(Some(Found::of(&answer.finding, witness)))
}

/// What a search stands in.
struct Surroundings<'a> {
    options: &'a RunOptions,
    begun: &'a Begun,
    setup: &'a Setup,
    model: &'a Model,
}

/// A run that was searched.
struct Searched {
    outcome: Outcome,
    search: Search,
    lanes: Lanes,
    identity: RunIdentity,
}

impl<'a> Surroundings<'a> {
    fn new(options: &'a RunOptions, begun: &'a Begun) -> Self {
        Self { options, begun, setup: &begun.setup, model: &begun.model }
    }

    /// The whole run.
    fn size(&self) -> Size {
        let (steps, ubatch) = (self.options.max_tokens, self.options.ubatch);
        Size { tokens: self.begun.prompt_ids.clone(), steps, ubatch }
    }

    /// Both sides for a run of this size, and who they are.
    fn load(&self, size: &Size) -> Result<(Lanes, RunIdentity), Failure> {
        let (options, model) = (self.options, self.model);
        let setup = Setup { ubatch: size.ubatch, ..self.setup.clone() };
        let lanes = sides::load(&setup, options.reference, &model.file, &model.path)?;
        let identity = run::identity(options, &setup, &self.begun.identity, &lanes);
        Ok((lanes, identity))
    }

    fn search(
        &self,
        size: &Size,
        (mut lanes, identity): (Lanes, RunIdentity),
        chunkings: bool,
        interrupted: &AtomicBool,
        display: &mut dyn Display,
    ) -> Result<Searched, Failure> {
        let (options, model) = (self.options, self.model);
        let plan = Plan {
            prompt_ids: size.tokens.clone(),
            max_tokens: size.steps,
            drive: options.drive,
            level: options.tap,
            ubatch: size.ubatch,
            end_ids: model.end_ids(),
            prefill_decode: chunkings,
            past_end: options.past_end,
            text: &|id| model.text(id),
            decode: &|ids| model.decode(ids),
        };
        let mut search = Search::default();
        let (named, watched) = (identity.clone(), Some(&mut search));
        let outcome = run_searching(&plan, &mut lanes, named, interrupted, display, watched)?;
        Ok(Searched { outcome, search, lanes, identity })
    }

    /// Looks into the divergence, if there is one.
    fn explain(&self, searched: &mut Searched) -> Result<Option<Answer>, Failure> {
        let Verdict::Diverges(divergence) = &searched.outcome.verdict else { return Ok(None) };
        let options = self.setup.reference(Mode::Exact);
        let mut operations = reference::Operations::open(&self.model.path, &options)?;
        let mut means = Means {
            engine: &mut searched.lanes.engine,
            operations: &mut operations,
            file: &self.model.file,
            activations: options.activations,
            kv: options.kv,
        };
        Ok(Some(find::explain(divergence, &searched.search, &mut means)))
    }

    /// Says what was found, and writes a witness of it.
    fn report(
        &self,
        searched: &Searched,
        answer: Option<&Answer>,
    ) -> Result<Option<Found>, Failure> {
        let mut output = Output::new(io::stdout());
        let shown = self.options.format == Format::Terminal && !self.options.quiet;
        let Some(answer) = answer else {
            if shown {
                let text = report::nothing(&searched.outcome, searched.search.taps_seen());
                output.write_all(text.as_bytes())?;
            }
            return Ok(None);
        };
        let witness = self.witness(searched, answer)?;
        self.write_page(answer, witness.as_deref())?;
        if self.options.format == Format::Json {
            output.write_all(report::json(&answer.finding, witness.as_deref()).as_bytes())?;
        } else if shown {
            let mut text = report::lines(&answer.finding, |id| self.model.text(id));
            text += &match &witness {
                Some(path) => {
                    format!("witness    {path}\nreplay     lockstep replay {path}\n")
                }
                None if self.options.engine_command.is_some() => {
                    "witness    none: a foreign engine runs no operation alone\n".to_owned()
                }
                None => "witness    none: there is no operation to run again\n".to_owned(),
            };
            output.write_all(text.as_bytes())?;
        }
        output.flush()?;
        Ok(Some(Found::of(&answer.finding, witness)))
    }

    /// Writes the witness, where there is an operation to run again.
    fn witness(&self, searched: &Searched, answer: &Answer) -> Result<Option<String>, Failure> {
        // Nobody could replay it: a foreign engine runs no operation alone.
        let examination = answer.examination.as_ref();
        let examination = examination.filter(|_| self.options.engine_command.is_none());
        let Some(examination) = examination else { return Ok(None) };
        let (path, options) = (self.witness_path(), self.witness_options());
        Witness::new(examination, &answer.finding, &searched.identity, options).write(&path)?;
        Ok(Some(path.display().to_string()))
    }

    /// What was found, as a file, and the page anew; nothing without a folder.
    fn write_page(&self, answer: &Answer, witness: Option<&str>) -> Result<(), Failure> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let folder = Folder::prepare(out)?;
        let facts = report::facts(&answer.finding, |id| self.model.text(id));
        let witness = witness.map(|_| "witness.json");
        let file = FindingFile { facts, finding: &answer.finding, witness };
        write_whole(&folder, FINDING, &file)?;
        Ok(write_report(&folder)?)
    }

    /// Looks for a smaller run with the same finding, and prints its command.
    fn smaller(
        &self,
        start: Size,
        signature: &Signature,
        interrupted: &AtomicBool,
    ) -> Result<(), Failure> {
        let mut failure = None;
        let size = minimise(start, signature, ATTEMPTS_MAX, &mut |size| {
            let attempt = self
                .load(size)
                .and_then(|sides| self.search(size, sides, false, interrupted, &mut Unseen))
                .and_then(|mut searched| self.explain(&mut searched));
            match attempt {
                Ok(answer) => Some(Signature::of(&answer?.finding)),
                Err(error) => {
                    failure.get_or_insert(error);
                    None
                }
            }
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut output = Output::new(io::stdout());
        let command = command_line::find(self.options, &size);
        match self.options.format {
            Format::Json => {
                let line = serde_json::json!({ "event": "minimised", "command": command });
                writeln!(output, "{line}")?;
            }
            Format::Terminal => writeln!(output, "minimal    {command}")?,
        }
        Ok(output.flush()?)
    }

    fn witness_path(&self) -> PathBuf {
        match &self.options.out {
            Some(folder) => folder.join("witness.json"),
            None => PathBuf::from(WITNESS),
        }
    }

    fn witness_options(&self) -> WitnessOptions {
        WitnessOptions {
            model: self.options.model.clone(),
            device: self.options.device.to_string(),
            activations: word(self.options.activations),
            kv: word(self.options.kv),
            context_tokens: self.setup.context_tokens,
            ubatch: self.setup.ubatch,
            plant: self.options.plant.map(|fault| fault.id().to_owned()),
        }
    }
}

/// Of the smaller runs the last line is shown.
struct Unseen;

impl Display for Unseen {
    fn show(&mut self, _event: Event<'_>) -> io::Result<()> {
        Ok(())
    }
}
