//! `lockstep bench`: each part in a child process of this binary, then the table.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use clap::Args;
use engine::DeviceChoice;
use reference::Mode;

use super::nights::{self, NightsOptions};
use super::options::{
    ActivationsChoice, KvChoice, ReferenceChoice, TIME_LIMIT_SECONDS, positive, word,
};
use super::sides::{self, Setup};
use super::{EXIT_CODES, Failure, Format, run};
use crate::bench::candle::Candle;
use crate::bench::history::{Machine, Setting};
use crate::bench::judgement::Judgement;
use crate::bench::part::{Alone, Steps, Together, measure};
use crate::bench::table::{Ratio, ratios, table};
use crate::bench::{Measured, Part, Seconds, Work};
use crate::model::Model;
use crate::report::output::Output;
use crate::sides::TapLevel;
use crate::sides::engine::EngineSide;
use crate::sides::reference::ReferenceSide;

const EXAMPLES: &str = "\
Examples:
  lockstep bench --model smollm2-135m-instruct --threads 2
  lockstep bench --model smollm2-135m-instruct --repeat 5 --format json
  lockstep bench --model 8b.gguf --device cuda --parts engine --prefill 4096 --decode 64
  lockstep bench --device hip --parts engine --history nights.jsonl --night 2026-07-01

The engine's steps bring back digests of what is watched, 32 bytes a row, and never a whole row.
Each line of the table is measured in its own process, after one warm-up; figures are medians.

With --history each speed is compared with the median of the last 14 nights; with fewer than 3 it is
not judged. The spread is four median deviations: a speed below --fail-below but within the spread
warns, one below --warn-below but within it is ok. Exit code 1: a speed fails.";

/// Measure both sides, apart and together, and candle beside them
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct BenchCommand {
    /// A GGUF file, or a name `lockstep fetch` knows [default: the embedded model]
    #[arg(long, value_name = "FILE|NAME")]
    model: Option<String>,

    /// Threads of each side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// How often each part is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = three)]
    repeat: usize,

    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = positive)]
    prefill: usize,

    /// Tokens one by one after the prompt
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    decode: usize,

    /// Where the engine runs: auto, host, hip, hip:N, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "host")]
    device: DeviceChoice,

    /// Fixed point of the activations in products with quantised weights
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    activations: ActivationsChoice,

    /// Type of the cache of keys and values
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    kv: KvChoice,

    /// The most tokens of the prompt that a side runs at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    ubatch: usize,

    /// What the engine takes digests of while it is measured
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    tap: TapLevel,

    /// Leave guard zones and poison away; the table is then of that
    #[arg(long)]
    unchecked: bool,

    /// What is measured [default: everything]
    #[arg(long, value_name = "PART,PART", value_delimiter = ',', value_enum)]
    parts: Vec<Part>,

    #[command(flatten)]
    nights: NightsOptions,

    /// Text for people, or one JSON object for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,

    /// What a child process measures.
    #[arg(long, hide = true, value_enum)]
    part: Option<Part>,
}

/// A median of fewer is none.
fn three(text: &str) -> Result<usize, String> {
    match positive(text)? {
        count if count >= 3 => Ok(count),
        _ => Err("at least 3 are needed for a median".to_owned()),
    }
}

/// The result for programs.
#[derive(serde::Serialize)]
struct Report<'a> {
    lockstep: &'a str,
    model: &'a str,
    work: Work,
    checking: bool,
    parts: &'a [Measured],
    ratios: &'a [Ratio],
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<&'a [Judgement]>,
}

impl BenchCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let model = Model::resolve(self.model.as_deref())?;
        let work = Work {
            threads: self.threads.unwrap_or_else(run::all_threads),
            repeat: self.repeat,
            prefill_tokens: self.prefill,
            decode_tokens: self.decode,
        };
        let (needed, most) = (work.context_tokens(), model.context_tokens);
        if needed > most {
            let message = format!(
                "--prefill {} and --decode {} need {needed} positions, the model has {most}",
                work.prefill_tokens, work.decode_tokens
            );
            return Err(Failure::input(message).hint("lower --prefill or --decode"));
        }
        match self.part {
            Some(part) => self.child(part, &model, &work),
            None => self.parent(&model, &work),
        }
    }

    fn parent(&self, model: &Model, work: &Work) -> Result<u8, Failure> {
        let nights = self.nights.open(self.device, model)?;
        let mut parts = Vec::new();
        let chosen = if self.parts.is_empty() { &Part::ALL[..] } else { &self.parts };
        for &part in chosen {
            if self.format == Format::Terminal {
                let _ = writeln!(io::stderr(), "measuring {}", part.name());
            }
            let seconds = self.spawn(part, work)?;
            parts.push(Measured::new(part, work, seconds));
        }
        let judgements = match &nights {
            Some(nights) => Some(nights.add(&self.setting(nights.machine(), work), &parts)?),
            None => None,
        };
        self.tell(model, work, &parts, judgements.as_deref())?;
        Ok(judgements.as_deref().map_or(0, nights::exit_code))
    }

    /// What a speed of this command depends on.
    fn setting(&self, machine: Machine, work: &Work) -> Setting {
        Setting {
            machine,
            work: *work,
            activations: word(self.activations),
            kv: word(self.kv),
            ubatch: self.ubatch,
            tap: word(self.tap),
            checking: !self.unchecked,
        }
    }

    fn tell(
        &self,
        model: &Model,
        work: &Work,
        parts: &[Measured],
        history: Option<&[Judgement]>,
    ) -> io::Result<()> {
        let mut output = Output::new(io::stdout());
        let ratios = ratios(parts);
        if self.format == Format::Json {
            let report = Report {
                lockstep: env!("CARGO_PKG_VERSION"),
                model: &model.name,
                work: *work,
                checking: !self.unchecked,
                parts,
                ratios: &ratios,
                history,
            };
            serde_json::to_writer(&mut output, &report)?;
            return writeln!(output);
        }
        writeln!(
            output,
            "{}, {} threads a side, prompt of {}, then {} one by one, median of {}{}",
            model.name,
            work.threads,
            work.prefill_tokens,
            work.decode_tokens,
            work.repeat,
            if self.unchecked { "; unchecked: no guard zones, no poison" } else { "" }
        )?;
        writeln!(output, "{}", table(parts))?;
        for Ratio { name, value, goal } in &ratios {
            writeln!(output, "{name:<48}  {value:>6.2}  (goal: {goal})")?;
        }
        nights::tell(&mut output, history.unwrap_or_default())
    }

    fn spawn(&self, part: Part, work: &Work) -> Result<Seconds, Failure> {
        let failed = |words: String| {
            Failure::input(format!("the measurement of {} failed: {words}", part.name()))
        };
        let binary = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(binary);
        command.args(["bench", "--part", part.name()]);
        for (option, value) in [
            ("--threads", work.threads),
            ("--repeat", work.repeat),
            ("--prefill", work.prefill_tokens),
            ("--decode", work.decode_tokens),
        ] {
            command.args([option, &value.to_string()]);
        }
        command.args(["--device", &self.device.to_string()]);
        command.args(["--activations", &word(self.activations), "--kv", &word(self.kv)]);
        command.args(["--ubatch", &self.ubatch.to_string(), "--tap", &word(self.tap)]);
        if self.unchecked {
            command.arg("--unchecked");
        }
        if let Some(model) = &self.model {
            command.args(["--model", model]);
        }
        // candle reads all three when it builds its products and its pools.
        command.env_remove("CANDLE_DEQUANTIZE_ALL").env_remove("CANDLE_DEQUANTIZE_ALL_F16");
        command.env("RAYON_NUM_THREADS", work.threads.to_string());
        if part == Part::CandleDequantised {
            command.env("CANDLE_DEQUANTIZE_ALL", "1");
        }
        let answer =
            command.stderr(Stdio::piped()).output().map_err(|error| failed(error.to_string()))?;
        if !answer.status.success() {
            let words = String::from_utf8_lossy(&answer.stderr);
            return Err(failed(words.trim().trim_start_matches("error: ").to_owned()));
        }
        serde_json::from_slice(&answer.stdout).map_err(|error| failed(error.to_string()))
    }

    /// Measures one part and prints its seconds.
    fn child(&self, part: Part, model: &Model, work: &Work) -> Result<u8, Failure> {
        let setup = Setup {
            device: self.device,
            activations: self.activations,
            kv: self.kv,
            context_tokens: work.context_tokens(),
            ubatch: self.ubatch,
            threads: work.threads,
            unchecked: self.unchecked,
            time_limit_seconds: TIME_LIMIT_SECONDS,
            verify_weights: false,
            plant: None,
            engine_command: None,
        };
        let vocabulary = model.vocabulary;
        let reference = |mode: Mode| -> Result<Seconds, Failure> {
            let side = ReferenceSide::load(&model.path, &setup.reference(mode))?;
            Ok(measure(&mut Alone(side), work, vocabulary)?)
        };
        let seconds = match part {
            Part::Engine => {
                let side = EngineSide::load(&model.file, &setup.engine())?;
                measure(&mut Steps { side, level: self.tap }, work, vocabulary)?
            }
            Part::Exact => reference(Mode::Exact)?,
            Part::Stock => reference(Mode::Stock)?,
            Part::Wide => reference(Mode::Wide)?,
            Part::Candle | Part::CandleDequantised => Candle::load(&model.path)
                .and_then(|mut candle| measure(&mut candle, work, vocabulary))
                .map_err(|error| Failure::input(format!("candle: {error}")))?,
            Part::Lockstep => {
                let exact = ReferenceChoice::Exact;
                let lanes = sides::load(&setup, exact, &model.file, &model.path)?;
                measure(&mut Together(lanes), work, vocabulary)?
            }
        };
        let mut output = Output::new(io::stdout());
        serde_json::to_writer(&mut output, &seconds).map_err(io::Error::from)?;
        writeln!(output)?;
        Ok(0)
    }
}
