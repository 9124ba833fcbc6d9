//! Attention that reads other keys: too few, too many, of another layer, of another head.

use std::borrow::Cow;
use std::ops::Range;

use reference::KvType;
use reference::exact::ops::{self, Attention};

use super::operation::{Named, Source, level, source};
use super::{Evidence, No, same};

/// Positions in a chunk (CONTRACT.md, section 10).
pub(super) const CHUNK: usize = 64;

/// The inputs of one layer's attention. Keys and values have one row of zeros more than there are
/// positions: what a cache that was never written may hold.
#[derive(Clone)]
pub(super) struct Inputs<'a> {
    pub(super) layer: usize,
    pub(super) queries: Cow<'a, [f32]>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) kv: KvType,
}

/// What a head of a position reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) kv_head: usize,
    pub(super) positions: Range<usize>,
    /// Chunks are counted from position 0 all the same; from the first key that is read otherwise.
    pub(super) in_place: bool,
}

impl<'a> Inputs<'a> {
    pub(super) fn of(evidence: &Evidence<'a>) -> Result<Self, No> {
        let Source::Attention { layer } = source(evidence)? else { return Err(No::Idle) };
        let queries = evidence.input_like(&Named { tap: "q_rope", layer: Some(layer) })?;
        if evidence.heads().is_none() {
            return Err(No::Lacks(format!("rows of {} heads", evidence.config.heads)));
        }
        let rows = |tap| rows_and_zeros(evidence, &Named { tap, layer: Some(layer) });
        let (keys, values) = (rows("k_rope")?, rows("v")?);
        Ok(Self { layer, queries, keys, values, kv: evidence.kv })
    }

    /// One head's output, as the contract computes it over these keys and values.
    fn head(&self, evidence: &Evidence<'_>, row: usize, head: usize, read: &Reading) -> Vec<f32> {
        let size = evidence.config.head_size;
        let width = evidence.config.kv_heads * size;
        let query = &self.queries[(row * evidence.config.heads + head) * size..][..size];
        // A masked key has no weight. The chunk it stands in keeps its place.
        let first =
            if read.in_place { read.positions.start / CHUNK * CHUNK } else { read.positions.start };
        let gather = |rows: &[f32]| -> Vec<f32> {
            let row = |position: usize| &rows[position * width + read.kv_head * size..][..size];
            (first..read.positions.end).flat_map(row).copied().collect()
        };
        let (mut keys, values) = (gather(&self.keys), gather(&self.values));
        if let Some(at) = query.iter().position(|value| *value != 0.0) {
            for key in keys.chunks_exact_mut(size).take(read.positions.start - first) {
                key.fill(0.0);
                key[at] = f32::NEG_INFINITY.copysign(-query[at]);
            }
        }
        ops::attention(
            level(),
            Attention {
                heads: 1,
                kv_heads: 1,
                head_size: size,
                kv: self.kv,
                queries: query,
                keys: &keys,
                values: &values,
            },
        )
    }

    /// Whether the engine's head is this; `None` where nothing is read, so nothing is said.
    pub(super) fn head_holds(
        &self,
        evidence: &Evidence<'_>,
        row: usize,
        head: usize,
        read: &Reading,
    ) -> Option<bool> {
        let size = evidence.config.head_size;
        let known = self.keys.len() / (evidence.config.kv_heads * size);
        if read.positions.is_empty() {
            return None;
        }
        if read.positions.end > known {
            return Some(false);
        }
        let candidate = self.head(evidence, row, head, read);
        let got = &evidence.actual_row(row)[head * size..][..size];
        Some(candidate.iter().zip(got).all(|(one, two)| same(*one, *two)))
    }

    /// Whether all heads of all rows are what these readings give: the elements of which nothing
    /// is said, if so. A head that differs is tried before all others.
    pub(super) fn open(
        &self,
        evidence: &Evidence<'_>,
        reading: &dyn Fn(usize, usize) -> Reading,
    ) -> Option<usize> {
        let (heads, size) = (evidence.config.heads, evidence.config.head_size);
        let holds = |row: usize, head: usize| {
            let read = reading(evidence.first_position + row, head);
            self.head_holds(evidence, row, head, &read)
        };
        let differing = evidence.differing().map(|index| index / size);
        let first = differing.into_iter().find_map(|index| holds(index / heads, index % heads));
        if first != Some(true) {
            return None;
        }
        let mut open = 0;
        for index in 0..evidence.rows() * heads {
            match holds(index / heads, index % heads) {
                Some(true) => {}
                Some(false) => return None,
                None => open += size,
            }
        }
        (open * 2 <= evidence.actual.len()).then_some(open)
    }

    /// The contract's own reading.
    pub(super) fn plain(evidence: &Evidence<'_>, position: usize, head: usize) -> Reading {
        let group = evidence.config.heads / evidence.config.kv_heads;
        Reading { kv_head: head / group, positions: 0..position + 1, in_place: true }
    }

    /// Whether these inputs, read as the contract says, give the engine's rows.
    pub(super) fn holds(&self, evidence: &Evidence<'_>) -> bool {
        let plain = |position, head| Self::plain(evidence, position, head);
        self.open(evidence, &plain) == Some(0)
    }
}

/// Rows of all positions so far, and one of zeros.
pub(super) fn rows_and_zeros(evidence: &Evidence<'_>, named: &Named) -> Result<Vec<f32>, No> {
    let positions = 0..evidence.pass_positions.end;
    let width = evidence.config.kv_heads * evidence.config.head_size;
    let mut rows = evidence.rows_of(named, positions.clone())?.into_owned();
    if rows.len() != positions.len() * width {
        return Err(No::Lacks(format!("rows of {named} of {width} values")));
    }
    rows.resize(rows.len() + width, 0.0);
    Ok(rows)
}
