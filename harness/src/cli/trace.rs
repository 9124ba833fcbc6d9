//! `lockstep trace`: one side alone, every row in a line, for another machine to compare with.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use engine::DeviceChoice;

use super::options::{ActivationsChoice, KvChoice, ReferenceChoice, RunOptions, positive, word};
use super::run::{all_threads, context, prompt, watch_interrupts};
use super::sides::{Setup, engine_loader, reference_loader};
use super::{EXIT_CODES, Failure};
use crate::event::Stopped;
use crate::identity::ModelIdentity;
use crate::model::{Model, Prompt};
use crate::report::output::Output;
use crate::run::lane::{Lane, Loading};
use crate::sides::engine::NAME;
use crate::sides::{SideIdentity, TapLevel};
use crate::trace::record::{Recorded, Recording};
use crate::trace::{
    self, Contract, HashKind, Header, Precision, Trace, TraceError, TraceOptions, VERSION, Writer,
};

const EXAMPLES: &str = "\
Examples:
  lockstep trace --device hip --tap op --out card.jsonl          on one machine
  lockstep trace --side reference --follow card.jsonl --tap op --out cpu.jsonl
  lockstep diff cpu.jsonl card.jsonl                             anywhere
  lockstep trace --max-tokens 1 --tap op --rows | less

Each row is written as soon as it is there: a run that was killed leaves a trace that reads.
The exit code is 4 where the run was interrupted or its side failed.";

/// Which side is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SideChoice {
    /// On the device
    #[default]
    Engine,
    /// On the CPU, in the mode of --reference
    Reference,
}

/// Run one side alone and write every row to a file of JSON lines
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct TraceCommand {
    /// Which side runs
    #[arg(long, value_name = "SIDE", value_enum, default_value_t)]
    side: SideChoice,

    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write every value of every row as well, eight hexadecimal digits each
    #[arg(long)]
    rows: bool,

    /// A GGUF file, or a name `lockstep fetch` knows [default: the embedded model]
    #[arg(long, value_name = "FILE|NAME")]
    model: Option<String>,

    /// The text to begin with [default: "The capital of France is"]
    #[arg(long, value_name = "TEXT", group = "text")]
    prompt: Option<String>,

    /// A file with the text to begin with
    #[arg(long, value_name = "FILE", group = "text")]
    prompt_file: Option<PathBuf>,

    /// Token ids to begin with
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', group = "text")]
    tokens: Option<Vec<u32>>,

    /// Token ids to run after the prompt, in place of the side's own largest logits
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', conflicts_with = "max_tokens")]
    feed: Option<Vec<u32>>,

    /// Another trace, whose prompt and tokens are run: its rows and these can be paired
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["text", "feed", "max_tokens"])]
    follow: Option<PathBuf>,

    /// How many steps at most: the prompt is one, and each token after it
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive)]
    max_tokens: usize,

    /// Go on after the token that ends a text
    #[arg(long)]
    past_end: bool,

    /// Where the engine runs: auto, host, hip, hip:N, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,

    /// The arithmetic of the reference [default: exact]
    #[arg(long, value_name = "MODE", value_enum)]
    reference: Option<ReferenceChoice>,

    /// Fixed point of the activations in products with quantised weights
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    activations: ActivationsChoice,

    /// Type of the cache of keys and values
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    kv: KvChoice,

    /// The most tokens of a prompt that are run at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    ubatch: usize,

    /// How many positions the cache has [default: what the run needs]
    #[arg(long, value_name = "N", value_parser = positive)]
    context_tokens: Option<usize>,

    /// What is recorded besides the last token's hidden state and logits
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    tap: TapLevel,

    /// Threads of the side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,
}

impl TraceCommand {
    pub(super) fn execute(mut self) -> Result<u8, Failure> {
        let mode = self.mode();
        self.check()?;
        if self.rows && mode == Some(reference::Mode::Wide) {
            return Err(Failure::input("--rows holds f32, and the rows of wide are f64")
                .hint("leave --rows away: minimum, maximum and mean are recorded in f64"));
        }
        if let Some(path) = &self.follow {
            let (tokens, feed) = followed(&read(path)?, path)?;
            (self.tokens, self.feed) = (Some(tokens), Some(feed));
        }
        if let Some(feed) = &self.feed {
            self.max_tokens = feed.len() + 1;
        }
        let options = self.run_options();
        let model = Model::resolve(options.model.as_deref())?;
        let prompt_ids = prompt(&options, &model)?;
        self.feed.as_deref().map(|ids| model.ids(Prompt::Ids(ids))).transpose()?;
        let context_tokens = context(&options, &model, prompt_ids.len())?;
        let target = self.out.as_deref().map(create).transpose()?;
        let threads = options.threads.unwrap_or_else(all_threads);
        let setup = Setup::new(&options, context_tokens, threads);
        let loading = match mode {
            None => Loading::start(NAME, engine_loader(&setup, &model.file, &model.path)),
            Some(mode) => Loading::start(mode.name(), reference_loader(&setup, mode, &model.path)),
        };
        let mut lane = loading.wait()?;
        let header = self.header(&setup, &model, lane.identity(), &prompt_ids)?;
        let ends = if self.past_end { Default::default() } else { model.end_ids() };
        let recording = Recording {
            prompt_ids,
            feed: self.feed.clone(),
            steps_max: self.max_tokens,
            level: self.tap,
            rows: self.rows,
            end_ids: ends,
        };
        let recorded = match target {
            Some(file) => self.record(&recording, &mut lane, &header, file)?,
            None => self.record(&recording, &mut lane, &header, Output::new(io::stdout()))?,
        };
        self.tell(&header, &recorded)
    }

    /// An option that would change nothing is refused: the trace would not be of what was asked.
    fn check(&self) -> Result<(), Failure> {
        let (option, side) = match self.side {
            SideChoice::Engine if self.reference.is_some() => ("--reference", "engine"),
            SideChoice::Reference if self.device.is_some() => ("--device", "reference"),
            _ => return Ok(()),
        };
        Err(Failure::input(format!("{option} says nothing to --side {side}"))
            .hint(format!("leave {option} away, or record the other side")))
    }

    fn device(&self) -> DeviceChoice {
        self.device.unwrap_or(DeviceChoice::Auto)
    }

    /// The mode of the reference, where it is the side.
    fn mode(&self) -> Option<reference::Mode> {
        let mode = match self.reference.unwrap_or_default() {
            ReferenceChoice::Exact => reference::Mode::Exact,
            ReferenceChoice::Stock => reference::Mode::Stock,
            ReferenceChoice::Wide => reference::Mode::Wide,
        };
        Some(mode).filter(|_| self.side == SideChoice::Reference)
    }

    fn run_options(&self) -> RunOptions {
        RunOptions {
            model: self.model.clone(),
            prompt: self.prompt.clone(),
            prompt_file: self.prompt_file.clone(),
            tokens: self.tokens.clone(),
            max_tokens: self.max_tokens,
            device: self.device(),
            activations: self.activations,
            kv: self.kv,
            ubatch: self.ubatch,
            context_tokens: self.context_tokens,
            tap: self.tap,
            threads: self.threads,
            ..RunOptions::default()
        }
    }

    fn header(
        &self,
        setup: &Setup,
        model: &Model,
        side: &SideIdentity,
        prompt_ids: &[u32],
    ) -> Result<Header, Failure> {
        let identity =
            ModelIdentity::of_file(model.name.clone(), &model.path).map_err(|error| {
                Failure::input(format!("cannot read the model {}: {error}", model.name))
            })?;
        let mode = self.mode();
        let wide = mode == Some(reference::Mode::Wide);
        let in_contract = mode.is_none_or(|mode| mode == reference::Mode::Exact);
        let (activations, kv) = (word(self.activations), word(self.kv));
        Ok(Header {
            trace: VERSION,
            written_by: format!("lockstep {}", env!("CARGO_PKG_VERSION")),
            side: side.clone(),
            model: Some(identity),
            contract: in_contract.then_some(Contract { activations, kv }),
            precision: if wide { Precision::F64 } else { Precision::F32 },
            digits: None,
            hash: if wide { HashKind::None } else { HashKind::Contract },
            tap: Some(self.tap),
            options: Some(TraceOptions {
                device: self.device().to_string(),
                ubatch: setup.ubatch,
                context_tokens: setup.context_tokens,
                threads: setup.threads,
                max_tokens: self.max_tokens,
            }),
            prompt_ids: Some(prompt_ids.to_vec()),
        })
    }

    fn record(
        &self,
        recording: &Recording,
        lane: &mut Lane,
        header: &Header,
        target: impl Write,
    ) -> Result<Recorded, Failure> {
        let writer = Writer::begin(target, header)?;
        Ok(recording.run(lane, writer, &watch_interrupts())?)
    }

    /// Says what was written; nothing stands between the lines on standard output.
    fn tell(&self, header: &Header, recorded: &Recorded) -> Result<u8, Failure> {
        if let Some(error) = &recorded.failure {
            return Err(error.clone().into());
        }
        let interrupted = recorded.stopped == Stopped::Interrupted;
        if let Some(path) = &self.out {
            let mut output = Output::new(io::stdout());
            let side = &header.side;
            writeln!(
                output,
                "side       {} on {}, {}",
                side.implementation, side.device, side.build
            )?;
            let (steps, rows) = (recorded.steps_count, recorded.rows_count);
            let words = if interrupted { ", interrupted" } else { "" };
            writeln!(output, "trace      {steps} steps, {rows} rows{words}: {}", path.display())?;
        }
        Ok(if interrupted { 4 } else { 0 })
    }
}

/// Opens a file for a trace.
pub(super) fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        Failure::input(format!("cannot write {}: {error}", path.display()))
            .hint("give --out a file in a folder that can be written to")
    })
}

/// Reads a trace from a file.
pub(super) fn read(path: &Path) -> Result<Trace, Failure> {
    let file = File::open(path).map_err(|error| {
        Failure::input(format!("cannot read {}: {error}", path.display()))
            .hint("give a file that `lockstep trace --out FILE` wrote")
    })?;
    trace::read(BufReader::new(file)).map_err(|error| failure(path, &error))
}

/// A defect with the file it is in.
pub(super) fn failure(path: &Path, error: &TraceError) -> Failure {
    Failure::input(format!("{}: {error}", path.display())).hint(error.hint())
}

/// The prompt of a trace, and the token of each step after it.
fn followed(trace: &Trace, path: &Path) -> Result<(Vec<u32>, Vec<u32>), Failure> {
    let missing = |what: &str| {
        Failure::input(format!("{} cannot be followed: {what}", path.display()))
            .hint("give --tokens and --feed with ids instead")
    };
    let prompt = trace.header.prompt_ids.clone().ok_or_else(|| missing("it has no prompt ids"))?;
    let mut feed = Vec::new();
    for record in trace.records.iter().filter(|record| record.step > 0) {
        let token = record.token_id.ok_or_else(|| missing("it does not say its tokens"))?;
        match record.step {
            step if step == feed.len() + 1 => feed.push(token),
            step if step <= feed.len() => {}
            step => return Err(missing(&format!("no row of step {} stands in it", step - 1))),
        }
    }
    Ok((prompt, feed))
}
