//! The options that `run` shares with every command that runs both sides.

#![expect(clippy::doc_markdown, reason = "these comments are the help on a terminal")]

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use engine::DeviceChoice;
use serde::{Deserialize, Serialize};

use super::Format;
use crate::run::Drive;
use crate::sides::TapLevel;

/// Which arithmetic judges the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReferenceChoice {
    /// The contract: equal bits
    #[default]
    Exact,
    /// candle's floats: distances, measured against f64 as well
    Stock,
    /// f64: distances, with candle's floats as the measure
    Wide,
}

/// Digits of an activation in products with quantised weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum ActivationsChoice {
    /// Three int8 digits, 24 bits
    #[default]
    I24,
    /// Two int8 digits, 16 bits
    I16,
    /// One int8 digit, as other engines do
    I8,
}

/// Type of the cache of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum KvChoice {
    /// Four bytes a value
    #[default]
    F32,
    /// Two bytes a value
    F16,
}

/// How long a device may take for a launch, unless it is said otherwise.
pub(super) const TIME_LIMIT_SECONDS: usize = 120;

/// What both sides run on, and how.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// A GGUF file, or a name `lockstep fetch` knows [default: the embedded model]
    #[arg(long, value_name = "FILE|NAME", value_hint = clap::ValueHint::FilePath)]
    pub model: Option<String>,

    /// The text to begin with [default: "The capital of France is"]
    #[arg(long, value_name = "TEXT", group = "text")]
    pub prompt: Option<String>,

    /// A file with the text to begin with
    #[arg(long, value_name = "FILE", group = "text")]
    pub prompt_file: Option<PathBuf>,

    /// Token ids to begin with, for a model without a tokeniser
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', group = "text")]
    pub tokens: Option<Vec<u32>>,

    /// How many steps are compared: the prompt, then one generated token after another
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = positive)]
    pub max_tokens: usize,

    /// Choose the largest logit, the lower id among equals; there is no other way to choose
    #[arg(long)]
    pub greedy: bool,

    /// Go on after the token that ends a text
    #[arg(long)]
    pub past_end: bool,

    /// Where the engine runs: auto, host, hip, hip:N, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,

    /// Another engine instead: a process that speaks JSON lines (docs/foreign-engine.md)
    #[arg(long, value_name = "COMMAND")]
    #[arg(conflicts_with_all = ["device", "verify_weights", "unchecked"])]
    pub engine_command: Option<String>,

    /// What the engine is compared with
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub reference: ReferenceChoice,

    /// Fixed point of the activations in products with quantised weights
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    pub activations: ActivationsChoice,

    /// Type of the cache of keys and values
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    pub kv: KvChoice,

    /// Whose largest logit is the next token of both sides
    #[arg(long, value_name = "SIDE", value_enum, default_value_t)]
    pub drive: Drive,

    /// The most tokens of a prompt that a side runs at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = positive)]
    pub ubatch: usize,

    /// How many positions the cache has [default: what the run needs]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub context_tokens: Option<usize>,

    /// What is compared besides the last token's hidden state and logits
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub tap: TapLevel,

    /// Threads of each side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,

    /// Read every weight back from the device after loading and compare it with the file
    #[arg(long)]
    pub verify_weights: bool,

    /// Leave guard zones and poison away, for measurements; bounds are asserted all the same
    #[arg(long)]
    pub unchecked: bool,

    /// How long a launch or a wait of the engine's device, or an answer of --engine-command, may
    /// take before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT_SECONDS)]
    #[arg(value_parser = positive)]
    pub time_limit: usize,

    /// A folder for report.html and the files it is made from: verdict.json, and readout.jsonl,
    /// prefill_decode.jsonl, landscape.jsonl and taps.jsonl as the run goes
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Text for people, or JSON lines for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,

    /// Print the verdict only
    #[arg(long, short)]
    pub quiet: bool,

    /// A fault to plant into the engine, by its id in `lockstep faults`
    #[arg(long, value_name = "ID", conflicts_with = "engine_command")]
    pub plant: Option<engine::Fault>,
}

/// What a command line without options asks for.
impl Default for RunOptions {
    fn default() -> Self {
        #[derive(Parser)]
        struct Bare {
            #[command(flatten)]
            options: RunOptions,
        }
        Bare::parse_from(["lockstep"]).options
    }
}

/// A count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("a whole number is needed".to_owned()),
    }
}

/// The word of a choice, as it is written on the command line.
pub(super) fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
