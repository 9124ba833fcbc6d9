//! Named points of the forward pass and the caller's window on them.
//!
//! Invariant: what an observer asks for changes nothing in what runs; it only adds readbacks.

use crate::kernels::RowDigest;

/// How much an observer wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapLevel {
    /// Nothing but the readout.
    #[default]
    Readout,
    /// The residual stream after the embedding and after every layer.
    Layer,
    /// Every operation of CONTRACT.md section 12.
    Op,
}

/// One tensor of the forward pass: `rows` positions of `width` values each.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// The name in CONTRACT.md section 12.
    pub name: &'static str,
    /// The layer, for taps inside one.
    pub layer: Option<usize>,
    /// Position of the first row.
    pub first_position: usize,
    /// Number of rows.
    pub rows: usize,
    /// Values in a row.
    pub width: usize,
    /// `[rows][width]`.
    pub values: &'a [f32],
}

/// One tensor of the forward pass as the device's digests, whose rows have not been read.
#[derive(Clone, Copy, Debug)]
pub struct DigestedTap<'a> {
    /// The name in CONTRACT.md section 12.
    pub name: &'static str,
    /// The layer, for taps inside one.
    pub layer: Option<usize>,
    /// Position of the first row.
    pub first_position: usize,
    /// One a row.
    pub digests: &'a [RowDigest],
}

/// Receives taps in the order of CONTRACT.md section 12.
pub trait Observer {
    /// How much this observer wants; asked once per pass.
    fn level(&self) -> TapLevel;
    /// One tensor; the slice lives only during the call.
    fn tap(&mut self, tap: Tap<'_>);
    /// Whether a device that takes digests shows those first, and rows only where they are wanted.
    /// Others show rows all the same.
    fn digests_first(&self) -> bool {
        false
    }
    /// Some tensors by their digests, before any of them is written again.
    fn digests(&mut self, _taps: &[DigestedTap<'_>]) {}
    /// Which of the tensors just shown is to be read, by its place among them; asked again after
    /// each, until there is none.
    fn wanted(&mut self) -> Option<usize> {
        None
    }
}

/// Wants nothing but the readout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn level(&self) -> TapLevel {
        TapLevel::Readout
    }

    fn tap(&mut self, _tap: Tap<'_>) {}
}

/// Where in device memory a row was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Device address of the allocation.
    pub pointer: u64,
    /// Size of the allocation.
    pub allocation_bytes: u64,
    /// Offset of the row in the allocation.
    pub offset_bytes: u64,
}

/// What the last token of a pass left behind.
#[derive(Clone, Debug)]
pub struct Readout {
    /// Position of the token.
    pub position: usize,
    /// Tap `final_norm`: what the output projection reads, `[hidden]`.
    pub hidden: Vec<f32>,
    /// `[vocabulary]`.
    pub logits: Vec<f32>,
    /// Where `hidden` was read from.
    pub hidden_place: Place,
    /// Where `logits` was read from.
    pub logits_place: Place,
}
