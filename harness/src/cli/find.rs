//! `lockstep find`: the run with every operation watched, and after a divergence who made it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use reference::Mode;

use super::options::{ReferenceChoice, RunOptions, word};
use super::run;
use super::sides::{self, Setup};
use super::{EXIT_CODES, Failure, Format};
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
use crate::run::{Lanes, Plan, run_searching};
use crate::sides::TapLevel;

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
        let mut options = self.options;
        run::check(&options)?;
        if options.reference == ReferenceChoice::Exact {
            options.tap = TapLevel::Op;
        }
        let model = Model::resolve(options.model.as_deref())?;
        let prompt_ids = run::prompt(&options, &model)?;
        let context_tokens = run::context(&options, &model, prompt_ids.len())?;
        let folder = options.out.as_deref().map(Folder::prepare).transpose()?;
        let threads = options.threads.unwrap_or_else(run::all_threads);
        let setup = Setup::new(&options, context_tokens, threads);
        let size = Size { tokens: prompt_ids, steps: options.max_tokens, ubatch: options.ubatch };
        let this = Surroundings { options: &options, setup: &setup, model: &model };
        let sides = this.load(&size)?;
        let mut displays = run::displays(&options, folder)?;
        let interrupted = run::watch_interrupts();
        let mut searched = this.search(&size, sides, true, &interrupted, &mut displays)?;
        let answer = this.explain(&mut searched)?;
        this.report(&searched, answer.as_ref())?;
        if let Some(answer) = answer.filter(|_| self.minimise) {
            let step = answer.finding.divergence.place.step;
            let start = Size { steps: step + 1, ..size };
            this.smaller(start, &Signature::of(&answer.finding), &interrupted)?;
        }
        Ok(searched.outcome.exit_code())
    }
}

/// What a search stands in.
struct Surroundings<'a> {
    options: &'a RunOptions,
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

impl Surroundings<'_> {
    /// Both sides for a run of this size, and who they are.
    fn load(&self, size: &Size) -> Result<(Lanes, RunIdentity), Failure> {
        let (options, model) = (self.options, self.model);
        let setup = Setup { ubatch: size.ubatch, ..self.setup.clone() };
        let lanes = sides::load(&setup, options.reference, &model.file, &model.path)?;
        let identity = run::identity(options, &setup, model, &lanes)?;
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
    fn report(&self, searched: &Searched, answer: Option<&Answer>) -> Result<(), Failure> {
        let mut output = Output::new(io::stdout());
        let shown = self.options.format == Format::Terminal && !self.options.quiet;
        let Some(answer) = answer else {
            if shown {
                let text = report::nothing(&searched.outcome, searched.search.taps_seen());
                output.write_all(text.as_bytes())?;
            }
            return Ok(());
        };
        let witness = match &answer.examination {
            // Nobody could replay it: a foreign engine runs no operation alone.
            Some(_) if self.options.engine_command.is_some() => None,
            None => None,
            Some(examination) => {
                let (path, options) = (self.witness_path(), self.witness_options());
                let identity = &searched.identity;
                Witness::new(examination, &answer.finding, identity, options).write(&path)?;
                Some(path.display().to_string())
            }
        };
        if let Some(out) = &self.options.out {
            let folder = Folder::prepare(out)?;
            let facts = report::facts(&answer.finding, |id| self.model.text(id));
            let witness = witness.as_ref().map(|_| "witness.json");
            let file = FindingFile { facts, finding: &answer.finding, witness };
            write_whole(&folder, FINDING, &file)?;
            write_report(&folder)?;
        }
        if self.options.format == Format::Json {
            output.write_all(report::json(&answer.finding, witness.as_deref()).as_bytes())?;
        } else if shown {
            let mut text = report::lines(&answer.finding, |id| self.model.text(id));
            text += &match witness {
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
        Ok(output.flush()?)
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
        let command = self.command(&size);
        match self.options.format {
            Format::Json => {
                let line = serde_json::json!({ "event": "minimised", "command": command });
                writeln!(output, "{line}")?;
            }
            Format::Terminal => writeln!(output, "minimal    {command}")?,
        }
        Ok(output.flush()?)
    }

    /// The command line of a run of this size.
    fn command(&self, size: &Size) -> String {
        let options = self.options;
        let tokens: Vec<String> = size.tokens.iter().map(u32::to_string).collect();
        let mut words = vec!["lockstep find".to_owned()];
        if let Some(model) = &options.model {
            words.push(format!("--model {model}"));
        }
        words.push(format!("--tokens {}", tokens.join(",")));
        words.push(format!("--max-tokens {} --ubatch {}", size.steps, size.ubatch));
        words.push(format!("--context-tokens {}", size.tokens.len() + size.steps));
        for (name, value, default) in [
            ("device", options.device.to_string(), "auto"),
            ("reference", word(options.reference), "exact"),
            ("activations", word(options.activations), "i24"),
            ("kv", word(options.kv), "f32"),
            ("drive", word(options.drive), "reference"),
        ] {
            if value != default {
                words.push(format!("--{name} {value}"));
            }
        }
        if let Some(command) = &options.engine_command {
            words.push(format!("--engine-command {command:?}"));
        }
        if options.past_end {
            words.push("--past-end".to_owned());
        }
        if let Some(fault) = options.plant {
            words.push(format!("--plant {}", fault.id()));
        }
        words.join(" ")
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
