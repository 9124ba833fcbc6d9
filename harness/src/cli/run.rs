//! `lockstep run`: everything is checked before a side is loaded, then the run says what it finds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::options::{ActivationsChoice, KvChoice, ReferenceChoice, RunOptions, word};
use super::sides::{self, Setup, Source};
use super::{EXIT_CODES, Failure, Format};
use super::{command_line, reports};
use crate::event::{Display, Outcome};
use crate::identity::{ModelIdentity, OptionsIdentity, RunIdentity};
use crate::model::{Model, Prompt};
use crate::report::files::{FilesDisplay, Folder};
use crate::report::json::JsonDisplay;
use crate::report::output::Output;
use crate::report::progress::ProgressDisplay;
use crate::report::terminal::TerminalDisplay;
use crate::run::{self, Lanes, Plan};
use crate::sides::{TapLevel, foreign};
use crate::suite::Drawn;

/// The prompt of a run that was given none.
const DEFAULT_PROMPT: &str = "The capital of France is";

const EXAMPLES: &str = "\
Examples:
  lockstep run
  lockstep run --model smollm2-135m-instruct --prompt \"Hi\" --max-tokens 16 --out out
  lockstep run --model model.gguf --tokens 1,2,3 --tap op
  lockstep run --model smollm2-135m-instruct --reference wide

The engine and `exact` have to agree in every bit. Against `wide` and `stock` the engine may be
three and four times as far away as candle's floats are from f64; both distances are printed.
The run ends at the model's end-of-text token unless --past-end is given.";

/// Run both sides in lockstep and compare every step
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct RunCommand {
    #[command(flatten)]
    options: RunOptions,
}

impl RunCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let options = self.options;
        let mut begun = begin(&options, None)?;
        let sides = begun.load(&options, Source::Live)?;
        let outcome = go(&options, &mut begun, sides, watch_interrupts, displays)?;
        reports::of_run("run", &options, &begun.prompt_ids, &outcome, None)?;
        Ok(outcome.exit_code())
    }
}

/// A run whose input has been checked; no side is loaded yet.
pub(super) struct Begun {
    pub(super) model: Model,
    pub(super) identity: ModelIdentity,
    pub(super) prompt_ids: Vec<u32>,
    pub(super) setup: Setup,
    folder: Option<Folder>,
}

/// Checks everything that can be checked before a side is loaded; what an earlier command left in
/// the folder as its answer goes.
pub(super) fn begin(options: &RunOptions, drawn: Option<Drawn>) -> Result<Begun, Failure> {
    let begun = begin_beside(options, drawn)?;
    begun.folder.as_ref().map(Folder::clear).transpose()?;
    Ok(begun)
}

/// The same beside the files of the run that a search looks into.
pub(super) fn begin_beside(options: &RunOptions, drawn: Option<Drawn>) -> Result<Begun, Failure> {
    check(options)?;
    let model = Model::resolve(options.model.as_deref())?;
    let prompt_ids = match drawn {
        Some(drawn) => drawn.tokens(model.vocabulary),
        None => prompt(options, &model)?,
    };
    let context_tokens = context(options, &model, prompt_ids.len())?;
    let search = || command_line::of_run(options, &prompt_ids);
    let folder = options.out.as_deref().map(Folder::prepare).transpose()?;
    let folder = folder.map(|folder| folder.with_search(search()));
    let threads = options.threads.unwrap_or_else(all_threads);
    let setup = Setup::new(options, context_tokens, threads);
    let identity = ModelIdentity::of_file(model.name.clone(), &model.path).map_err(|error| {
        Failure::input(format!("cannot read the model {}: {error}", model.name))
    })?;
    Ok(Begun { model, identity, prompt_ids, setup, folder })
}

impl Begun {
    /// Loads the sides.
    pub(super) fn load(&self, options: &RunOptions, source: Source) -> Result<Lanes, Failure> {
        let Self { model, setup, .. } = self;
        Ok(sides::load_from(setup, options.reference, source, &model.file, &model.path)?)
    }

    /// The folder of --out, which was tried out; the displays take it.
    pub(super) fn take_folder(&mut self) -> Option<Folder> {
        self.folder.take()
    }
}

/// Runs the sides to the end.
pub(super) fn go(
    options: &RunOptions,
    begun: &mut Begun,
    mut lanes: Lanes,
    interrupts: impl FnOnce() -> Arc<AtomicBool>,
    displays: impl FnOnce(&RunOptions, Option<Folder>) -> Result<Vec<Box<dyn Display>>, Failure>,
) -> Result<Outcome, Failure> {
    let folder = begun.take_folder();
    let Begun { model, setup, prompt_ids, .. } = &*begun;
    let identity = identity(options, setup, &begun.identity, &lanes);
    let mut displays = displays(options, folder)?;
    let plan = Plan {
        prompt_ids: prompt_ids.clone(),
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
    Ok(run::run(&plan, &mut lanes, identity, &interrupts(), &mut displays)?)
}

pub(super) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the options say against each other.
pub(super) fn check(options: &RunOptions) -> Result<(), Failure> {
    let reference = word(options.reference);
    if options.reference == ReferenceChoice::Exact {
        return Ok(());
    }
    if options.tap != TapLevel::Readout {
        let tap = word(options.tap);
        return Err(Failure::input(format!(
            "--tap {tap} needs --reference exact: {reference} is judged at the readout only"
        ))
        .hint("leave --tap away, or compare bits with --reference exact"));
    }
    if options.activations != ActivationsChoice::I24 {
        let activations = word(options.activations);
        return Err(Failure::input(format!(
            "--activations {activations} has no limit against {reference}, only i24 has"
        ))
        .hint("compare bits with --reference exact, or leave --activations away"));
    }
    if options.kv != KvChoice::F32 {
        return Err(Failure::input(format!(
            "--kv f16 has no limit against {reference}, whose cache is not narrowed"
        ))
        .hint("compare bits with --reference exact, or leave --kv away"));
    }
    Ok(())
}

/// The ids of the prompt that was asked for.
pub(super) fn prompt(options: &RunOptions, model: &Model) -> Result<Vec<u32>, Failure> {
    if let Some(ids) = &options.tokens {
        return Ok(model.ids(Prompt::Ids(ids))?);
    }
    if let Some(path) = &options.prompt_file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::input(format!("cannot read the prompt from {}: {error}", path.display()))
                .hint("give --prompt-file a text file in UTF-8")
        })?;
        return Ok(model.ids(Prompt::Text(&text))?);
    }
    Ok(model.ids(Prompt::Text(options.prompt.as_deref().unwrap_or(DEFAULT_PROMPT)))?)
}

/// How many positions the cache gets. Everything the run may need is there before it begins.
pub(super) fn context(
    options: &RunOptions,
    model: &Model,
    prompt: usize,
) -> Result<usize, Failure> {
    let most = model.context_tokens;
    let needed = prompt.saturating_add(options.max_tokens);
    let context = options.context_tokens.unwrap_or_else(|| needed.min(most));
    if context > most {
        return Err(Failure::input(format!(
            "--context-tokens {context} is more than the {most} positions of the model"
        ))
        .hint(format!("give --context-tokens at most {most}")));
    }
    if needed > context {
        let steps = options.max_tokens;
        return Err(Failure::input(format!(
            "the prompt's {prompt} tokens and --max-tokens {steps} need {needed} positions, \
             the context has {context}"
        ))
        .hint(if context < most {
            format!("raise --context-tokens (the model allows {most}), or shorten the run")
        } else {
            "shorten the prompt, or lower --max-tokens".to_owned()
        }));
    }
    Ok(context)
}

pub(super) fn identity(
    options: &RunOptions,
    setup: &Setup,
    model: &ModelIdentity,
    lanes: &Lanes,
) -> RunIdentity {
    RunIdentity {
        lockstep: env!("CARGO_PKG_VERSION"),
        model: model.clone(),
        engine: lanes.engine.identity().clone(),
        references: lanes.references().iter().map(|lane| lane.identity().clone()).collect(),
        options: OptionsIdentity {
            device: options.device.to_string(),
            reference: word(options.reference),
            activations: word(options.activations),
            kv: word(options.kv),
            drive: word(options.drive),
            ubatch: setup.ubatch,
            context_tokens: setup.context_tokens,
            tap: options.tap,
            threads: setup.threads,
            max_tokens: options.max_tokens,
            past_end: options.past_end,
            checking: !options.unchecked,
        },
    }
}

pub(super) fn displays(
    options: &RunOptions,
    folder: Option<Folder>,
) -> Result<Vec<Box<dyn Display>>, Failure> {
    let progress = ProgressDisplay::new(options.quiet);
    let output = Output::new(io::stdout());
    let mut displays: Vec<Box<dyn Display>> = Vec::new();
    // Files first: what is on the screen is on the disk.
    if let Some(folder) = folder {
        displays.push(Box::new(FilesDisplay::new(folder)?));
    }
    displays.push(match options.format {
        Format::Terminal => Box::new(TerminalDisplay::new(output, progress.bar(), options.quiet)),
        Format::Json => Box::new(JsonDisplay::new(output)),
    });
    displays.push(Box::new(progress));
    Ok(displays)
}

/// Whether a second Ctrl-C is ending the process.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Leaves the exit code to a second Ctrl-C where there was one: it ends the engines first, which
/// this thread would take for a failure of theirs.
pub(super) fn leave_to_interrupt() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// The first Ctrl-C lets the step end and the files be written; the second ends the process.
pub(super) fn watch_interrupts() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let watch = move || {
        if flag.swap(true, Ordering::SeqCst) {
            ENDING.store(true, Ordering::SeqCst);
            // Nothing is dropped behind this.
            foreign::end_all();
            std::process::exit(130);
        }
    };
    // Without a handler Ctrl-C ends the process, and the lines written so far are there.
    let _ = ctrlc::set_handler(watch);
    interrupted
}
