//! The operation behind a tap: what it reads, and the same operation of the reference once more.

use std::borrow::Cow;
use std::ops::Range;

use reference::exact::{Level, ops};

use super::attention::Inputs;
use super::{Evidence, No, Weight, same};

/// As many elements have to be explained by a cause that does not hold everywhere.
const PART_MIN: usize = 4;

/// A tap of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) tap: &'static str,
    pub(super) layer: Option<usize>,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "`{}` of layer {layer}", self.tap),
            None => write!(f, "`{}`", self.tap),
        }
    }
}

/// What a tap is computed from (CONTRACT.md, section 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Embed,
    Norm { stream: Named, weight: String },
    Product { input: Named, weight: String },
    Rope { input: Named },
    Attention { layer: usize },
    Swiglu { layer: usize },
    Residual { stream: Named, branch: Named },
}

/// The instructions to compute with; the bits are the same on all.
pub(super) fn level() -> Level {
    Level::best(true)
}

/// The stream that a layer reads.
pub(super) fn stream_into(layer: usize) -> Named {
    match layer.checked_sub(1) {
        None => Named { tap: "embed", layer: None },
        Some(before) => Named { tap: "ffn_residual", layer: Some(before) },
    }
}

/// The operation of a tap; a tap that the contract does not name has none.
pub(super) fn source(evidence: &Evidence<'_>) -> Result<Source, No> {
    let last = Named { tap: "ffn_residual", layer: evidence.config.layers.checked_sub(1) };
    let output = if evidence.config.tied { "token_embd.weight" } else { "output.weight" };
    let Some(layer) = evidence.layer else {
        return match &*evidence.tap {
            "embed" => Ok(Source::Embed),
            "final_norm" => Ok(Source::Norm { stream: last, weight: "output_norm.weight".into() }),
            "logits" => Ok(Source::Product {
                input: Named { tap: "final_norm", layer: None },
                weight: output.into(),
            }),
            _ => Err(No::Idle),
        };
    };
    let named = |tap| Named { tap, layer: Some(layer) };
    let weight = |name: &str| format!("blk.{layer}.{name}.weight");
    let product = |input, name| Source::Product { input: named(input), weight: weight(name) };
    Ok(match &*evidence.tap {
        "attn_norm" => Source::Norm { stream: stream_into(layer), weight: weight("attn_norm") },
        "q" => product("attn_norm", "attn_q"),
        "k" => product("attn_norm", "attn_k"),
        "v" => product("attn_norm", "attn_v"),
        "q_rope" => Source::Rope { input: named("q") },
        "k_rope" => Source::Rope { input: named("k") },
        "attn_out" => Source::Attention { layer },
        "wo" => product("attn_out", "attn_output"),
        "attn_residual" => Source::Residual { stream: stream_into(layer), branch: named("wo") },
        "ffn_norm" => Source::Norm { stream: named("attn_residual"), weight: weight("ffn_norm") },
        "gate" => product("ffn_norm", "ffn_gate"),
        "up" => product("ffn_norm", "ffn_up"),
        "swiglu" => Source::Swiglu { layer },
        "down" => product("swiglu", "ffn_down"),
        "ffn_residual" => {
            Source::Residual { stream: named("attn_residual"), branch: named("down") }
        }
        _ => return Err(No::Idle),
    })
}

/// The taps that an operation works on element by element, or row by row.
pub(super) fn row_inputs(evidence: &Evidence<'_>) -> Vec<Named> {
    match source(evidence) {
        Ok(Source::Norm { stream, .. }) => vec![stream],
        Ok(Source::Rope { input }) => vec![input],
        Ok(Source::Residual { stream, branch }) => vec![stream, branch],
        Ok(Source::Swiglu { layer }) => {
            ["gate", "up"].map(|tap| Named { tap, layer: Some(layer) }).to_vec()
        }
        _ => Vec::new(),
    }
}

impl<'a> Evidence<'a> {
    /// Rows of the reference at these positions.
    pub(super) fn rows_of(
        &self,
        named: &Named,
        positions: Range<usize>,
    ) -> Result<Cow<'a, [f32]>, No> {
        let count = positions.len();
        self.library
            .rows(named.tap, named.layer, positions)
            .filter(|rows| !rows.is_empty() && rows.len().is_multiple_of(count))
            .ok_or_else(|| No::Lacks(format!("rows of {named}")))
    }

    /// Rows of an input at the positions of the tap.
    pub(super) fn input(&self, named: &Named) -> Result<Cow<'a, [f32]>, No> {
        self.rows_of(named, self.positions())
    }

    /// Rows of an input that is as wide as the tap.
    pub(super) fn input_like(&self, named: &Named) -> Result<Cow<'a, [f32]>, No> {
        let rows = self.input(named)?;
        if rows.len() == self.expected.len() {
            Ok(rows)
        } else {
            Err(No::Lacks(format!("rows of {named} of {} values", self.width)))
        }
    }

    /// A tensor of the file.
    pub(super) fn weight(&self, name: &str) -> Result<Weight<'a>, No> {
        let weight = self.library.weight(name).filter(Weight::is_whole);
        weight.ok_or_else(|| No::Lacks(format!("tensor `{name}`")))
    }

    /// A vector of the file, widened.
    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>, No> {
        Ok(ops::embed(self.weight(name)?.matrix(), &[0]))
    }

    /// The rotary embedding of the model.
    pub(super) fn rope<'f>(&self, factors: Option<&'f [f32]>) -> ops::Rope<'f> {
        ops::Rope {
            head_size: self.config.head_size,
            dimensions: self.config.rope_dimensions,
            base: self.config.rope_base,
            factors,
        }
    }

    /// The factors of the rotary frequencies, where the file has them.
    pub(super) fn rope_factors(&self) -> Result<Option<Vec<f32>>, No> {
        self.config.rope_factors.then(|| self.vector("rope_freqs.weight")).transpose()
    }

    /// How a tensor of this tap is made of heads: how many, and how wide.
    pub(super) fn heads(&self) -> Option<(usize, usize)> {
        let heads = match &*self.tap {
            "q" | "q_rope" | "attn_out" => self.config.heads,
            "k" | "k_rope" | "v" => self.config.kv_heads,
            _ => return None,
        };
        (heads * self.config.head_size == self.width).then_some((heads, self.config.head_size))
    }

    /// Whether the candidate is what the engine has, in every element.
    pub(super) fn equals(&self, candidate: &[f32]) -> bool {
        candidate.len() == self.actual.len()
            && candidate.iter().zip(&self.actual).all(|(one, two)| same(*one, *two))
    }

    /// Where the candidate is what the engine has, in words: in every element, or in all of those
    /// that differ while the others are the reference's; a few of them may be a coincidence.
    pub(super) fn extent(&self, candidate: &[f32]) -> Option<String> {
        if self.equals(candidate) {
            return Some(self.all());
        }
        let differing: Vec<usize> = self.differing().collect();
        let holds =
            |at: &usize| candidate.get(*at).is_some_and(|value| same(*value, self.actual[*at]));
        let is_enough = candidate.len() == self.actual.len() && differing.len() >= PART_MIN;
        (is_enough && differing.iter().all(holds)).then(|| self.those_that_differ(differing.len()))
    }

    /// "in all 32 of 4608 elements that differ".
    pub(super) fn those_that_differ(&self, count: usize) -> String {
        format!("in all {count} of {} elements that differ", self.actual.len())
    }

    /// The same for a candidate made row by row: a row that differs first, then all.
    pub(super) fn equals_rows(&self, row: impl Fn(usize) -> Vec<f32>) -> bool {
        let holds = |index: usize| {
            let candidate = row(index);
            candidate.len() == self.width
                && candidate.iter().zip(self.actual_row(index)).all(|(one, two)| same(*one, *two))
        };
        let Some(first) = self.differing().next() else { return false };
        holds(first / self.width) && (0..self.rows()).all(holds)
    }

    /// The same where the candidate does not say what some elements are: how many it leaves open,
    /// if it holds for the others and they are most.
    pub(super) fn equals_inside(&self, candidate: &[Option<f32>]) -> Option<usize> {
        let holds = |(one, two): (&Option<f32>, &f32)| one.is_none_or(|one| same(one, *two));
        if candidate.len() != self.actual.len() || !candidate.iter().zip(&self.actual).all(holds) {
            return None;
        }
        let open = candidate.iter().filter(|value| value.is_none()).count();
        let explained = self.differing().filter(|index| candidate[*index].is_some()).count();
        (open * 2 <= candidate.len() && explained >= 2).then_some(open)
    }

    /// Whether the engine's values can tell causes apart: at least two elements differ, and they
    /// are finite and not all the same. Anything that gives a constant would explain a constant.
    pub(super) fn is_telling(&self) -> bool {
        let mut values = self.differing().map(|index| self.actual[index]);
        let mut finite = values.by_ref().filter(|value| value.is_finite());
        let Some(first) = finite.next() else { return false };
        finite.any(|value| value != first)
    }

    /// "96 of 96 elements".
    pub(super) fn all(&self) -> String {
        format!("{0} of {0} elements", self.actual.len())
    }
}

/// The reference's operation on the inputs that were given.
pub(super) fn recompute(evidence: &Evidence<'_>) -> Result<Vec<f32>, No> {
    let level = level();
    Ok(match source(evidence)? {
        Source::Embed => {
            let tokens = tokens(evidence)?;
            ops::embed(evidence.weight("token_embd.weight")?.matrix(), &tokens)
        }
        Source::Norm { stream, weight } => {
            let (x, weight) = (evidence.input_like(&stream)?, evidence.vector(&weight)?);
            ops::rms_norm(level, &x, &weight, evidence.config.eps)
        }
        Source::Product { input, weight } => {
            let (x, weight) = (evidence.input(&input)?, evidence.weight(&weight)?);
            if x.len() != evidence.rows() * weight.columns {
                return Err(No::Lacks(format!("rows of {input} of {} values", weight.columns)));
            }
            ops::product(level, evidence.activations, weight.matrix(), &x)
        }
        Source::Rope { input } => {
            let factors = evidence.rope_factors()?;
            let rope = evidence.rope(factors.as_deref());
            let x = evidence.input_like(&input)?;
            ops::rope(level, rope, &x, evidence.width, evidence.first_position)
        }
        Source::Attention { .. } => {
            let inputs = Inputs::of(evidence)?;
            let config = &evidence.config;
            let seen = evidence.positions().end * config.kv_heads * config.head_size;
            ops::attention(
                level,
                ops::Attention {
                    heads: config.heads,
                    kv_heads: config.kv_heads,
                    head_size: config.head_size,
                    kv: evidence.kv,
                    queries: &inputs.queries,
                    keys: &inputs.keys[..seen],
                    values: &inputs.values[..seen],
                },
            )
        }
        Source::Swiglu { layer } => {
            let named = |tap| Named { tap, layer: Some(layer) };
            let gate = evidence.input_like(&named("gate"))?;
            ops::swiglu(level, &gate, &evidence.input_like(&named("up"))?)
        }
        Source::Residual { stream, branch } => {
            ops::add(&evidence.input(&stream)?, &evidence.input(&branch)?)
        }
    })
}

/// The tokens of the rows.
pub(super) fn tokens(evidence: &Evidence<'_>) -> Result<Vec<u32>, No> {
    let tokens = evidence.tokens.as_ref().ok_or_else(|| No::Lacks("the tokens".into()))?;
    let skipped = evidence.first_position.saturating_sub(evidence.pass_positions.start);
    let tokens: Vec<u32> = tokens.iter().skip(skipped).take(evidence.rows()).copied().collect();
    let vocabulary = evidence.config.vocabulary;
    let known = tokens.iter().all(|token| (*token as usize) < vocabulary);
    if tokens.len() == evidence.rows() && known {
        Ok(tokens)
    } else {
        Err(No::Lacks("a token for each row".into()))
    }
}
