//! What happens in a run, as it happens: the runner emits events, displays show them.

use std::io;

use serde::Serialize;

use crate::compare::canary::Canary;
use crate::compare::familiar::Familiar;
use crate::compare::neighbourhood::Neighbourhood;
use crate::compare::outcomes::TapOutcome;
use crate::compare::sequence::Tally;
use crate::compare::triangle::Triangle;
use crate::compare::{Phase, Verdict};
use crate::identity::RunIdentity;
use crate::landscape::Landscape;
use crate::number::{Hash, Number};
use crate::sides::{Copies, Place, Row, Verified};

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Both sides are loaded.
    Started(&'a Start),
    /// A step has been compared.
    Step(&'a Step),
    /// One side has run the tokens again, cut in another way.
    Chunking(&'a Chunking),
    /// So much of the work is done.
    Progress(Progress),
    /// The end.
    Finished(&'a Outcome),
}

/// Shows events somewhere.
pub trait Display {
    /// One event. An error ends the run.
    fn show(&mut self, event: Event<'_>) -> io::Result<()>;
}

/// Several displays at once.
impl Display for Vec<Box<dyn Display>> {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        self.iter_mut().try_for_each(|display| display.show(event))
    }
}

/// What is about to run.
#[derive(Clone, Debug)]
pub struct Start {
    /// Model, sides, options.
    pub identity: RunIdentity,
    /// The ids both sides get.
    pub prompt_ids: Vec<u32>,
    /// The text of each.
    pub prompt_tokens: Vec<Option<String>>,
    /// The most steps there can be.
    pub steps_max: usize,
}

/// Tokens run, of how many at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tokens that have been run.
    pub done_tokens: usize,
    /// Tokens in all.
    pub total_tokens: usize,
}

/// A row in a few figures, over all of its values.
#[derive(Clone, Debug)]
pub struct RowFacts {
    /// The side's own hash; f64 rows have none.
    pub hash: Option<Hash>,
    /// The smallest value that is a number.
    pub min: Number,
    /// The largest.
    pub max: Number,
    /// The mean in f64.
    pub mean: Number,
    /// How many are NaN.
    pub nan_count: usize,
    /// How many are infinite.
    pub infinite_count: usize,
    /// How many values there are.
    pub elements_count: usize,
    /// Where it was read from.
    pub place: Option<Place>,
}

impl RowFacts {
    /// Looks at a whole row.
    pub fn of(row: &Row, hash: Option<Hash>, place: Option<Place>) -> Self {
        let (mut min, mut max) = (None::<Number>, None::<Number>);
        let (mut sum, mut nan_count, mut infinite_count) = (0.0, 0, 0);
        for index in 0..row.len() {
            let number = row.at(index);
            let value = number.to_f64();
            sum += value;
            nan_count += usize::from(value.is_nan());
            infinite_count += usize::from(value.is_infinite());
            if value.is_nan() {
                continue;
            }
            if min.is_none_or(|least| value < least.to_f64()) {
                min = Some(number);
            }
            if max.is_none_or(|most| value > most.to_f64()) {
                max = Some(number);
            }
        }
        let nothing = Number::F32(f32::NAN);
        Self {
            hash,
            min: min.unwrap_or(nothing),
            max: max.unwrap_or(nothing),
            mean: Number::F64(sum / row.len() as f64),
            nan_count,
            infinite_count,
            elements_count: row.len(),
            place,
        }
    }
}

/// A token that people can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its text, where the model has a tokeniser.
    pub text: Option<String>,
}

/// What one side had to say at a step.
#[derive(Clone, Debug)]
pub struct SideStep {
    /// The word for the side.
    pub side: &'static str,
    /// Where it ran.
    pub device: String,
    /// What the output projection read.
    pub hidden: RowFacts,
    /// The logits.
    pub logits: RowFacts,
    /// Their top.
    pub landscape: Landscape,
    /// The text of the landscape's top tokens, in its order.
    pub top_texts: Vec<Option<String>>,
}

/// One step, compared.
#[derive(Clone, Debug)]
pub struct Step {
    /// 0 is the prompt.
    pub step: usize,
    /// Prompt or decode.
    pub phase: Phase,
    /// The position of the token whose readout this is.
    pub position: usize,
    /// That token.
    pub token: Token,
    /// How many tokens this step ran.
    pub step_tokens: usize,
    /// How many tokens have been run in all.
    pub tokens_total: usize,
    /// The engine first, then the references.
    pub sides: Vec<SideStep>,
    /// The distances, where f64 judges.
    pub triangle: Option<Triangle>,
    /// What the step showed.
    pub verdict: Verdict,
    /// How much was compared.
    pub tally: Tally,
    /// What each tap came to, in the order of the run.
    pub taps: Vec<TapOutcome>,
    /// What surrounds the first element that differs, at the first step that diverges.
    pub neighbourhood: Option<Box<Neighbourhood>>,
    /// The next token, where one could be chosen.
    pub chosen: Option<Token>,
}

/// The same tokens once more, cut in another way, on one side.
#[derive(Clone, Debug)]
pub struct Chunking {
    /// The word for the side.
    pub side: &'static str,
    /// Where it ran.
    pub device: String,
    /// How the tokens were cut, in words.
    pub words: String,
    /// The most tokens of one call.
    pub piece_tokens: usize,
    /// How many tokens were run.
    pub tokens_checked: usize,
    /// The step of the run whose readout this has to equal.
    pub step: usize,
    /// The position of the readout.
    pub position: usize,
    /// The token there.
    pub token: Token,
    /// The readout.
    pub hidden: RowFacts,
    /// The logits.
    pub logits: RowFacts,
    /// Their top.
    pub landscape: Landscape,
    /// Whether the bits are those of one prefill.
    pub verdict: Verdict,
    /// How much was compared.
    pub tally: Tally,
}

/// The hashes of the prompt's readout over all chunkings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefillDecode {
    /// How many chunkings were run again, over all sides.
    pub chunkings_count: usize,
    /// How many of them gave other bits.
    pub diverging_count: usize,
    /// How many tokens of the prompt were run again.
    pub prompt_tokens_checked: usize,
    /// Of how many.
    pub prompt_tokens: usize,
    /// Whether the whole sequence was run again as one prefill and compared with the last decode.
    pub decode_checked: bool,
    /// What was left out, in words.
    pub not_checked: Option<String>,
}

/// The largest distances of a run that f64 judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WorstRatio {
    /// The step of the largest ratio of the hidden state.
    pub hidden_step: usize,
    /// That ratio.
    pub hidden_ratio: Number,
    /// The step of the largest ratio of the logits.
    pub logits_step: usize,
    /// That ratio.
    pub logits_ratio: Number,
    /// The worst of each distance that people know.
    pub familiar: Option<Familiar>,
}

/// How long each part took; the only clock in the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Duration {
    /// From the first step to the verdict.
    pub run_seconds: f64,
    /// What each side spent in its own calls during the steps.
    pub sides_seconds: Vec<(String, f64)>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it says.
    pub verdict: Verdict,
    /// Whether the device failed; its own exit code.
    pub device_failed: bool,
    /// How much was compared.
    pub tally: Tally,
    /// How many steps were compared.
    pub steps_compared: usize,
    /// How many of them agree.
    pub steps_agreeing: usize,
    /// Why the steps ended.
    pub stopped: Stopped,
    /// The tokens that were chosen.
    pub chosen_ids: Vec<u32>,
    /// Their text.
    pub chosen_text: Option<String>,
    /// The chunkings, where they were run.
    pub prefill_decode: Option<PrefillDecode>,
    /// The worst step, where f64 judges.
    pub worst_ratio: Option<WorstRatio>,
    /// The planted bit.
    pub canary: Option<Canary>,
    /// The engine's copies.
    pub copies: Option<Copies>,
    /// The engine's weights, where they were read back from the device.
    pub weights_verified: Option<Verified>,
    /// The time.
    pub duration: Duration,
}

/// Why there is no further step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// As many tokens as were asked for.
    MaxTokens,
    /// The model ended its text.
    EndOfText,
    /// The user.
    Interrupted,
    /// No token could be chosen from logits that are not all numbers.
    NoChoice,
    /// A search has found a step that diverges.
    Diverged,
    /// A side failed, or nothing was begun.
    Failed,
}

impl Outcome {
    /// 0 agrees, 1 diverges, 3 device, 4 inconclusive.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Agrees => 0,
            Verdict::Diverges(_) => 1,
            Verdict::Inconclusive(_) if self.device_failed => 3,
            Verdict::Inconclusive(_) => 4,
        }
    }
}
