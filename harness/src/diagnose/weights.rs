//! A weight tensor read in another way, in the operation that reads it: a product or the embedding.

use std::borrow::Cow;

use reference::WeightType;
use reference::exact::ops::{self, MatrixBytes};

use super::operation::{Source, level, source, tokens};
use super::{Evidence, No, Weight, same};

/// Rows of a product that are tried before all of them: as many as the reference computes at once.
const SCREEN: usize = 16;

/// The operation of a tap that reads a weight tensor, ready to be tried with other weights.
pub(super) struct Reader<'a> {
    pub(super) name: String,
    pub(super) weight: Weight<'a>,
    input: Input<'a>,
}

enum Input<'a> {
    /// The activations of a product.
    Rows(Cow<'a, [f32]>),
    /// The tokens of an embedding.
    Tokens(Vec<u32>),
}

/// Bytes for a row of weights; none where they would lie beyond the tensor.
pub(super) type RowBytes<'f> = &'f dyn Fn(usize) -> Option<Vec<u8>>;

impl<'a> Reader<'a> {
    pub(super) fn of(evidence: &Evidence<'a>) -> Result<Self, No> {
        let (name, input) = match source(evidence)? {
            Source::Embed => ("token_embd.weight".to_owned(), Input::Tokens(tokens(evidence)?)),
            Source::Product { input, weight } => (weight, Input::Rows(evidence.input(&input)?)),
            _ => return Err(No::Idle),
        };
        let weight = evidence.weight(&name)?;
        let columns = match &input {
            Input::Rows(x) => x.len() / evidence.rows(),
            Input::Tokens(_) => evidence.width,
        };
        let outputs = match &input {
            Input::Rows(_) => evidence.width,
            Input::Tokens(_) => evidence.config.vocabulary,
        };
        if weight.columns != columns || weight.rows != outputs {
            return Err(No::Lacks(format!("rows of {} values for `{name}`", weight.columns)));
        }
        Ok(Self { name, weight, input })
    }

    /// How many weights one output needs; the columns of the tensor.
    pub(super) fn columns(&self) -> usize {
        self.weight.columns
    }

    /// Whether weights of these bytes give the engine's rows: the elements left open, if so.
    pub(super) fn open(
        &self,
        evidence: &Evidence<'_>,
        kind: WeightType,
        row: RowBytes<'_>,
    ) -> Option<usize> {
        if !self.columns().is_multiple_of(kind.block_values()) {
            return None;
        }
        match &self.input {
            Input::Rows(x) => self.product_open(evidence, kind, row, x),
            Input::Tokens(tokens) => self.embed_open(evidence, kind, row, tokens),
        }
    }

    fn embed_open(
        &self,
        evidence: &Evidence<'_>,
        kind: WeightType,
        row: RowBytes<'_>,
        tokens: &[u32],
    ) -> Option<usize> {
        let columns = self.columns();
        let embedded = |index: usize| -> Option<Vec<f32>> {
            let bytes = row(tokens[index] as usize)?;
            Some(ops::embed(MatrixBytes { kind, bytes: &bytes, rows: 1, columns }, &[0]))
        };
        let holds = |index: usize| {
            embedded(index).is_none_or(|values| {
                values.iter().zip(evidence.actual_row(index)).all(|(one, two)| same(*one, *two))
            })
        };
        let first = evidence.differing().next()? / evidence.width;
        if !holds(first) || !(0..tokens.len()).all(holds) {
            return None;
        }
        let open = (0..tokens.len()).filter(|index| row(tokens[*index] as usize).is_none()).count();
        (open * 2 <= tokens.len()).then_some(open * evidence.width)
    }

    fn product_open(
        &self,
        evidence: &Evidence<'_>,
        kind: WeightType,
        row: RowBytes<'_>,
        x: &[f32],
    ) -> Option<usize> {
        let first = evidence.differing().find(|at| row(at % evidence.width).is_some())?;
        let (token, output) = (first / evidence.width, first % evidence.width);
        let begin = output / SCREEN * SCREEN;
        let screen: Vec<usize> = (begin..(begin + SCREEN).min(self.weight.rows)).collect();
        let x_row = &x[token * self.columns()..][..self.columns()];
        self.outputs_hold(evidence, kind, row, &screen, (x_row, token))?;
        let all: Vec<usize> = (0..self.weight.rows).collect();
        let open = self.outputs_hold(evidence, kind, row, &all, (x, 0))?;
        (open * 2 <= all.len()).then_some(open * evidence.rows())
    }

    /// Whether these outputs of the tokens of `x`, from `token` on, are the engine's: how many
    /// outputs are left open, if so.
    fn outputs_hold(
        &self,
        evidence: &Evidence<'_>,
        kind: WeightType,
        row: RowBytes<'_>,
        outputs: &[usize],
        (x, token): (&[f32], usize),
    ) -> Option<usize> {
        let known: Vec<(usize, Vec<u8>)> =
            outputs.iter().filter_map(|output| Some((*output, row(*output)?))).collect();
        if known.is_empty() {
            return None;
        }
        let columns = self.columns();
        let bytes: Vec<u8> = known.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        let matrix = MatrixBytes { kind, bytes: &bytes, rows: known.len(), columns };
        let values = ops::product(level(), evidence.activations, matrix, x);
        let holds = |(index, values): (usize, &[f32])| {
            let got = evidence.actual_row(token + index);
            values.iter().zip(&known).all(|(value, (output, _))| same(*value, got[*output]))
        };
        values.chunks_exact(known.len()).enumerate().all(holds).then(|| outputs.len() - known.len())
    }
}
