//! Who watches a forward pass: taps, named rows in the order of the contract, and their observer.

/// How much an observer wants to see. Each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TapLevel {
    /// Nothing but the readout that `forward` returns.
    #[default]
    Readout,
    /// `embed`, the `ffn_residual` of every layer, `final_norm` and `logits`.
    Layer,
    /// Every tap of the contract's section 12.
    Op,
}

/// The values of a tap: f32 in `exact` and `stock`, f64 in `wide`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// binary32.
    F32(&'a [f32]),
    /// binary64.
    F64(&'a [f64]),
}

/// One operation's output for the rows of one chunk, row after row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap<'a> {
    /// The name in the contract's section 12.
    pub name: &'static str,
    /// The layer, for the taps that are inside one.
    pub layer: Option<usize>,
    /// The position of the first row.
    pub first_position: usize,
    /// How many rows; `final_norm` and `logits` have one.
    pub rows: usize,
    /// How many values a row has.
    pub width: usize,
    /// `rows * width` values.
    pub values: Values<'a>,
}

/// Receives the taps of a forward pass, in order.
pub trait Observer {
    /// What this observer wants to see. Asked once a chunk.
    fn level(&self) -> TapLevel;
    /// One tap. It is called on the thread that called `forward`, or on one of its pool.
    fn tap(&mut self, tap: Tap<'_>);
}

/// An observer that wants only the readout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn level(&self) -> TapLevel {
        TapLevel::Readout
    }

    fn tap(&mut self, _tap: Tap<'_>) {}
}
