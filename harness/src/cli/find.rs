//! `lockstep find`: the run with every operation watched, and after a divergence who made it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use reference::Mode;

use super::options::{ReferenceChoice, RunOptions, word};
use super::run;
use super::sides::{self, Setup};
use super::{EXIT_CODES, Failure, Format};
use crate::compare::Verdict;
use crate::event::Outcome;
use crate::find::examine::Means;
use crate::find::search::Search;
use crate::find::witness::{Witness, WitnessOptions};
use crate::find::{self, report};
use crate::identity::RunIdentity;
use crate::model::Model;
use crate::report::files::Folder;
use crate::report::output::Output;
use crate::run::{Lanes, Plan, run_searching};
use crate::sides::TapLevel;

/// Where a witness goes that has no folder of a run.
const WITNESS: &str = "lockstep-witness.json";

const EXAMPLES: &str = "\
Examples:
  lockstep find
  lockstep find --model smollm2-135m-instruct --prompt \"Hi\" --max-tokens 16 --out out
  lockstep find --model model.gguf --tokens 1,2,3 --device hip

Every operation is compared, in the order of computation and over all positions. After the first
step that diverges the first operation that differs runs alone on the reference's inputs, its
weights are compared with the file, and what explains its rows is named. A witness is written, to
witness.json in the folder of --out, else lockstep-witness.json: `lockstep replay` runs it again.";

/// As `run`, then the first operation that diverges, who is to blame, why, and a witness
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct FindCommand {
    #[command(flatten)]
    options: RunOptions,
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
        let mut lanes = sides::load(&setup, options.reference, &model.file, &model.path)?;
        let identity = run::identity(&options, &setup, &model, &lanes)?;
        let mut displays = run::displays(&options, folder)?;
        let plan = Plan {
            prompt_ids,
            max_tokens: options.max_tokens,
            drive: options.drive,
            level: options.tap,
            ubatch: options.ubatch,
            end_ids: model.end_ids(),
            prefill_decode: true,
            past_end: options.past_end,
            text: &|id| model.text(id),
            decode: &|ids| model.decode(ids),
        };
        let interrupted = run::watch_interrupts();
        let mut search = Search::default();
        let named = identity.clone();
        let watched = Some(&mut search);
        let outcome =
            run_searching(&plan, &mut lanes, identity, &interrupted, &mut displays, watched)?;
        let this = Surroundings { options: &options, setup: &setup, model: &model };
        this.report(&outcome, &named, &search, &mut lanes)?;
        Ok(outcome.exit_code())
    }
}

/// What a search stands in.
struct Surroundings<'a> {
    options: &'a RunOptions,
    setup: &'a Setup,
    model: &'a Model,
}

impl Surroundings<'_> {
    /// Says what was found, and writes a witness of it.
    fn report(
        &self,
        outcome: &Outcome,
        identity: &RunIdentity,
        search: &Search,
        lanes: &mut Lanes,
    ) -> Result<(), Failure> {
        let mut output = Output::new(io::stdout());
        let Verdict::Diverges(divergence) = &outcome.verdict else {
            let text = report::nothing(outcome, search.taps_seen());
            if self.options.format == Format::Terminal && !self.options.quiet {
                output.write_all(text.as_bytes())?;
            }
            return Ok(());
        };
        let reference_options = self.setup.reference(Mode::Exact);
        let mut operations = reference::Operations::open(&self.model.path, &reference_options)?;
        let mut means = Means {
            engine: &mut lanes.engine,
            operations: &mut operations,
            file: &self.model.file,
            activations: reference_options.activations,
            kv: reference_options.kv,
        };
        let answer = find::explain(divergence, search, &mut means);
        let witness = match &answer.examination {
            None => None,
            Some(examination) => {
                let path = self.witness_path();
                let options = self.witness_options();
                Witness::new(examination, &answer.finding, identity, options).write(&path)?;
                Some(path.display().to_string())
            }
        };
        match self.options.format {
            Format::Json => {
                output.write_all(report::json(&answer.finding, witness.as_deref()).as_bytes())?;
            }
            Format::Terminal if self.options.quiet => {}
            Format::Terminal => {
                let mut text = report::lines(&answer.finding, |id| self.model.text(id));
                text += &match witness {
                    Some(path) => {
                        format!("witness    {path}\nreplay     lockstep replay {path}\n")
                    }
                    None => "witness    none: there is no operation to run again\n".to_owned(),
                };
                output.write_all(text.as_bytes())?;
            }
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
