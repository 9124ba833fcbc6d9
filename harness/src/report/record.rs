//! The lines of the files: field names as the seed's engine had them, and what we add.

use serde::{Serialize, Serializer};

use crate::compare::triangle::Triangle;
use crate::compare::{Divergence, Phase, Reason, Verdict};
use crate::event::{Chunking, Outcome, RowFacts, SideStep, Start, Step};
use crate::identity::RunIdentity;
use crate::landscape::{Landscape, Logit};
use crate::number::{Address, Hash, Number};

/// The first line of every file of lines.
#[derive(Debug, Serialize)]
pub struct IdentityLine<'a> {
    /// What the run is.
    pub identity: &'a RunIdentity,
}

/// One side's readout at one step, or of one chunking.
#[derive(Debug, Serialize)]
pub struct ReadoutLine<'a> {
    side: &'a str,
    device: &'a str,
    phase: Phase,
    step: usize,
    layer: Option<usize>,
    tap: &'static str,
    pos_id: usize,
    token_index: usize,
    token_id: u32,
    token: Option<&'a str>,
    seq_len: usize,
    tokens_total: usize,
    hidden_ptr: Option<Address>,
    hidden_alloc_bytes: Option<u64>,
    hidden_offset_bytes: Option<u64>,
    hidden_hash: Option<Hash>,
    hidden_min: Number,
    hidden_max: Number,
    hidden_mean: Number,
    logits_ptr: Option<Address>,
    logits_alloc_bytes: Option<u64>,
    logits_offset_bytes: Option<u64>,
    logits_hash: Option<Hash>,
    logits_min: Number,
    logits_max: Number,
    logits_mean: Number,
    top1_id: Option<u32>,
    top1_logit: Option<Number>,
    top2_id: Option<u32>,
    top2_logit: Option<Number>,
    gap: Option<Number>,
    vocab: usize,
    nan: usize,
    inf: usize,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_tokens: Option<usize>,
}

/// The rows and their surroundings, however they came about.
struct Parts<'a> {
    side: &'a str,
    device: &'a str,
    hidden: &'a RowFacts,
    logits: &'a RowFacts,
    landscape: &'a Landscape,
    verdict: &'a Verdict,
    step: usize,
    position: usize,
    token_id: u32,
    token: Option<&'a str>,
}

impl<'a> ReadoutLine<'a> {
    /// What one side gave at a step.
    pub fn of_step(step: &'a Step, side: &'a SideStep) -> Self {
        let parts = Parts {
            side: side.side,
            device: &side.device,
            hidden: &side.hidden,
            logits: &side.logits,
            landscape: &side.landscape,
            verdict: &step.verdict,
            step: step.step,
            position: step.position,
            token_id: step.token.id,
            token: step.token.text.as_deref(),
        };
        Self::new(&parts, step.phase, step.step_tokens, step.tokens_total)
    }

    /// A step as the baseline of the chunkings.
    pub fn of_baseline(step: &'a Step, side: &'a SideStep) -> Self {
        let mut line = Self::of_step(step, side);
        line.chunking = Some("one prefill");
        line
    }

    /// What one side gave in another chunking.
    pub fn of_chunking(chunking: &'a Chunking) -> Self {
        let parts = Parts {
            side: chunking.side,
            device: &chunking.device,
            hidden: &chunking.hidden,
            logits: &chunking.logits,
            landscape: &chunking.landscape,
            verdict: &chunking.verdict,
            step: chunking.step,
            position: chunking.position,
            token_id: chunking.token.id,
            token: chunking.token.text.as_deref(),
        };
        let phase = if chunking.piece_tokens == 1 { Phase::Decode } else { Phase::PrefillLast };
        let seq_len = match chunking.tokens_checked % chunking.piece_tokens {
            0 => chunking.piece_tokens,
            rest => rest,
        };
        let mut line = Self::new(&parts, phase, seq_len, chunking.tokens_checked);
        line.chunking = Some(&chunking.words);
        line.chunk_tokens = Some(chunking.piece_tokens);
        line
    }

    fn new(parts: &Parts<'a>, phase: Phase, seq_len: usize, tokens_total: usize) -> Self {
        let Parts { hidden, logits, landscape, .. } = parts;
        let (top1, top2) = (landscape.top1(), landscape.top2());
        Self {
            side: parts.side,
            device: parts.device,
            phase,
            step: parts.step,
            layer: None,
            tap: "final_norm",
            pos_id: parts.position,
            token_index: parts.position,
            token_id: parts.token_id,
            token: parts.token,
            seq_len,
            tokens_total,
            hidden_ptr: hidden.place.map(|place| Address(place.pointer)),
            hidden_alloc_bytes: hidden.place.map(|place| place.allocation_bytes),
            hidden_offset_bytes: hidden.place.map(|place| place.offset_bytes),
            hidden_hash: hidden.hash,
            hidden_min: hidden.min,
            hidden_max: hidden.max,
            hidden_mean: hidden.mean,
            logits_ptr: logits.place.map(|place| Address(place.pointer)),
            logits_alloc_bytes: logits.place.map(|place| place.allocation_bytes),
            logits_offset_bytes: logits.place.map(|place| place.offset_bytes),
            logits_hash: logits.hash,
            logits_min: logits.min,
            logits_max: logits.max,
            logits_mean: logits.mean,
            top1_id: top1.map(|top| top.id),
            top1_logit: top1.map(|top| top.logit),
            top2_id: top2.map(|top| top.id),
            top2_logit: top2.map(|top| top.logit),
            gap: landscape.gap,
            vocab: logits.elements_count,
            nan: hidden.nan_count + logits.nan_count,
            inf: hidden.infinite_count + logits.infinite_count,
            verdict: parts.verdict.word(),
            chunking: None,
            chunk_tokens: None,
        }
    }
}

/// A logit with its token's text.
#[derive(Debug, Serialize)]
struct Top<'a> {
    id: u32,
    logit: Number,
    text: Option<&'a str>,
}

/// One side's landscape at one step.
#[derive(Debug, Serialize)]
pub struct LandscapeLine<'a> {
    side: &'a str,
    step: usize,
    phase: Phase,
    pos_id: usize,
    token_id: u32,
    top1: Option<Top<'a>>,
    top2: Option<Top<'a>>,
    gap: Option<Number>,
    entropy_topk: Number,
    top5: Vec<Top<'a>>,
    nan: usize,
    inf: usize,
}

impl<'a> LandscapeLine<'a> {
    /// What one side gave at a step.
    pub fn of(step: &'a Step, side: &'a SideStep) -> Self {
        let landscape = &side.landscape;
        let top = |index: usize| -> Option<Top<'a>> {
            let Logit { id, logit } = *landscape.top.get(index)?;
            let text = side.top_texts.get(index).and_then(|text| text.as_deref());
            Some(Top { id, logit, text })
        };
        Self {
            side: side.side,
            step: step.step,
            phase: step.phase,
            pos_id: step.position,
            token_id: step.token.id,
            top1: top(0),
            top2: top(1),
            gap: landscape.gap,
            entropy_topk: landscape.entropy,
            top5: (0..landscape.top.len()).filter_map(top).collect(),
            nan: landscape.nan_count,
            inf: landscape.infinite_count,
        }
    }
}

/// The whole of `verdict.json`.
#[derive(Debug, Serialize)]
pub struct VerdictFile<'a> {
    identity: &'a RunIdentity,
    verdict: &'static str,
    exit_code: u8,
    message: String,
    divergence: Option<&'a Divergence>,
    reason: Option<&'a Reason>,
    prompt_ids: &'a [u32],
    chosen_ids: &'a [u32],
    chosen_text: Option<&'a str>,
    stopped: crate::event::Stopped,
    steps_compared: usize,
    steps_agreeing: usize,
    #[serde(flatten)]
    tally: crate::compare::sequence::Tally,
    prefill_decode: Option<&'a crate::event::PrefillDecode>,
    worst_ratio: Option<&'a crate::event::WorstRatio>,
    canary: Option<crate::compare::canary::Canary>,
    copies: Option<crate::sides::Copies>,
    weights_verified: Option<&'a crate::sides::Verified>,
    duration: &'a crate::event::Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<&'a str>,
}

impl<'a> VerdictFile<'a> {
    /// With the command that looks into what the run has shown, where there is anything.
    pub fn with_search(self, command: Option<&'a str>) -> Self {
        let search = command.filter(|_| self.exit_code != 0);
        Self { search, ..self }
    }

    /// The end of a run.
    pub fn of(start: &'a Start, outcome: &'a Outcome) -> Self {
        let (divergence, reason) = match &outcome.verdict {
            Verdict::Agrees => (None, None),
            Verdict::Diverges(divergence) => (Some(divergence.as_ref()), None),
            Verdict::Inconclusive(reason) => (None, Some(reason)),
        };
        Self {
            identity: &start.identity,
            verdict: outcome.verdict.word(),
            exit_code: outcome.exit_code(),
            message: message(outcome),
            divergence,
            reason,
            prompt_ids: &start.prompt_ids,
            chosen_ids: &outcome.chosen_ids,
            chosen_text: outcome.chosen_text.as_deref(),
            stopped: outcome.stopped,
            steps_compared: outcome.steps_compared,
            steps_agreeing: outcome.steps_agreeing,
            tally: outcome.tally,
            prefill_decode: outcome.prefill_decode.as_ref(),
            worst_ratio: outcome.worst_ratio.as_ref(),
            canary: outcome.canary,
            copies: outcome.copies,
            weights_verified: outcome.weights_verified.as_ref(),
            duration: &outcome.duration,
            search: None,
        }
    }
}

/// The verdict in one sentence.
pub fn message(outcome: &Outcome) -> String {
    let steps = outcome.steps_compared;
    match &outcome.verdict {
        Verdict::Agrees if outcome.worst_ratio.is_some() => {
            format!("{steps} steps within the limits")
        }
        Verdict::Agrees => format!(
            "{steps} steps, {} rows, {} elements, {} differing",
            outcome.tally.rows_compared,
            outcome.tally.elements_compared,
            outcome.tally.elements_differing
        ),
        Verdict::Diverges(divergence) => divergence.to_string(),
        Verdict::Inconclusive(reason) => reason.to_string(),
    }
}

/// One event as one line on standard output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventLine<'a> {
    /// Both sides are loaded.
    Started {
        /// What runs.
        identity: &'a RunIdentity,
        /// On which tokens.
        prompt_ids: &'a [u32],
        /// The most steps there can be.
        steps_max: usize,
    },
    /// A step has been compared.
    Step {
        /// The step.
        step: usize,
        /// Its verdict.
        verdict: &'static str,
        /// In one sentence, unless it agrees.
        message: Option<String>,
        /// The next token.
        chosen_id: Option<u32>,
        /// The distances.
        triangle: Option<&'a Triangle>,
        /// One for each side.
        readouts: Vec<ReadoutLine<'a>>,
        /// One for each side.
        landscapes: Vec<LandscapeLine<'a>>,
    },
    /// A chunking has been compared.
    Chunking {
        /// The readout.
        readout: Box<ReadoutLine<'a>>,
    },
    /// The end.
    Finished {
        /// As in `verdict.json`.
        #[serde(serialize_with = "boxed")]
        outcome: Box<VerdictFile<'a>>,
    },
}

fn boxed<S: Serializer>(value: &VerdictFile<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    value.serialize(serializer)
}
