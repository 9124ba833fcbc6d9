//! The tensors of the reference that a hypothesis may ask for, and a shelf of them in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use reference::WeightType;
use reference::exact::ops::MatrixBytes;

/// A weight tensor in the bytes of its file. A vector has one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight<'a> {
    /// The type of its values.
    pub kind: WeightType,
    /// How many rows.
    pub rows: usize,
    /// How many values a row has.
    pub columns: usize,
    /// Its rows, one after the other.
    pub bytes: Cow<'a, [u8]>,
}

impl Weight<'_> {
    /// How many bytes a row has.
    pub fn row_bytes(&self) -> usize {
        self.columns / self.kind.block_values() * self.kind.block_bytes()
    }

    /// The bytes of one row.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// What the reference's operations take.
    pub fn matrix(&self) -> MatrixBytes<'_> {
        let Self { kind, rows, columns, .. } = *self;
        MatrixBytes { kind, rows, columns, bytes: &self.bytes }
    }

    /// Whether rows, columns and bytes belong together.
    pub fn is_whole(&self) -> bool {
        self.columns.is_multiple_of(self.kind.block_values())
            && self.bytes.len() == self.rows * self.row_bytes()
    }
}

/// What the reference knows beyond the tap that differs. Each answer may be missing, and may be
/// computed only when it is asked for.
pub trait Library {
    /// The reference's rows of a tap (CONTRACT.md, section 12) at these positions, row after row.
    /// All of them or none: a position that was never run gives nothing.
    fn rows(
        &self,
        tap: &str,
        layer: Option<usize>,
        positions: Range<usize>,
    ) -> Option<Cow<'_, [f32]>>;

    /// A tensor of the file by its GGUF name, `blk.3.attn_q.weight`.
    fn weight(&self, name: &str) -> Option<Weight<'_>>;

    /// The same tensor as the device holds it now, in the layout of the file.
    fn device_weight(&self, _name: &str) -> Option<Weight<'_>> {
        None
    }
}

/// A library in memory, filled piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    rows: BTreeMap<(String, Option<usize>), BTreeMap<usize, Vec<f32>>>,
    weights: BTreeMap<String, Weight<'static>>,
    device_weights: BTreeMap<String, Weight<'static>>,
}

impl Shelf {
    /// Keeps rows of a tap from `first_position` on; the same position again replaces its row.
    pub fn put_rows(
        &mut self,
        tap: &str,
        layer: Option<usize>,
        first_position: usize,
        width: usize,
        values: &[f32],
    ) {
        assert!(values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
        let rows = self.rows.entry((tap.to_owned(), layer)).or_default();
        for (row, values) in values.chunks_exact(width).enumerate() {
            rows.insert(first_position + row, values.to_vec());
        }
    }

    /// Keeps a tensor of the file.
    pub fn put_weight(&mut self, name: &str, weight: Weight<'static>) {
        assert!(weight.is_whole(), "{name}: {} bytes do not fit", weight.bytes.len());
        self.weights.insert(name.to_owned(), weight);
    }

    /// Keeps what the device holds of a tensor.
    pub fn put_device_weight(&mut self, name: &str, weight: Weight<'static>) {
        assert!(weight.is_whole(), "{name}: {} bytes do not fit", weight.bytes.len());
        self.device_weights.insert(name.to_owned(), weight);
    }
}

fn borrowed<'a>(weight: &'a Weight<'static>) -> Weight<'a> {
    Weight { bytes: Cow::Borrowed(&weight.bytes), ..*weight }
}

impl Library for Shelf {
    fn rows(
        &self,
        tap: &str,
        layer: Option<usize>,
        positions: Range<usize>,
    ) -> Option<Cow<'_, [f32]>> {
        let rows = self.rows.get(&(tap.to_owned(), layer))?;
        if positions.len() == 1 {
            return rows.get(&positions.start).map(|row| Cow::Borrowed(row.as_slice()));
        }
        let mut values = Vec::new();
        for position in positions {
            values.extend_from_slice(rows.get(&position)?);
        }
        Some(Cow::Owned(values))
    }

    fn weight(&self, name: &str) -> Option<Weight<'_>> {
        self.weights.get(name).map(borrowed)
    }

    fn device_weight(&self, name: &str) -> Option<Weight<'_>> {
        self.device_weights.get(name).map(borrowed)
    }
}
