//! A side with one planted fault: proof that every comparison can fail.

use super::question::{Answer, Question};
use super::{
    Copies, Readout, Row, Side, SideError, SideIdentity, Tap, TapLevel, Values, Verified, Watcher,
};

/// What is done to the rows of one tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One bit of one element of the first row.
    FlipBit {
        /// Which element.
        index: usize,
        /// Which bit, 0 is the lowest.
        bit: u32,
    },
    /// Two rows of one chunk change places.
    SwapRows {
        /// One of them.
        one: usize,
        /// The other.
        two: usize,
    },
    /// One element of the first row becomes NaN.
    WriteNan {
        /// Which element.
        index: usize,
    },
    /// One element of the first row becomes infinite.
    WriteInfinity {
        /// Which element.
        index: usize,
    },
    /// One bit of one element of the readout, although its tap is right.
    FlipReadout {
        /// Which element.
        index: usize,
        /// Which bit.
        bit: u32,
    },
    /// The last element is missing.
    Shorten,
    /// The tap is not emitted.
    DropTap,
    /// The rows claim to stand one position later.
    ShiftPosition,
}

/// Where a fault is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sabotage {
    /// The tap; `final_norm` and `logits` touch the readout as well.
    pub tap: &'static str,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// Which call of `forward` since the side was loaded, counted from 0.
    pub call: usize,
    /// What is done there.
    pub fault: Fault,
}

/// A side that behaves like the one inside, except for one fault.
pub struct Sabotaged<S> {
    inner: S,
    sabotage: Sabotage,
    calls: usize,
}

impl<S: Side> Sabotaged<S> {
    /// Plants a fault into a side.
    pub fn new(inner: S, sabotage: Sabotage) -> Self {
        Self { inner, sabotage, calls: 0 }
    }

    fn sabotage_readout(&self, readout: &mut Readout) {
        let row = match self.sabotage.tap {
            "final_norm" => &mut readout.hidden,
            "logits" => &mut readout.logits,
            _ => return,
        };
        if self.sabotage.fault == Fault::ShiftPosition {
            readout.position += 1;
        } else {
            plant(row, self.sabotage.fault);
        }
    }
}

impl<S: Side> Side for Sabotaged<S> {
    fn identity(&self) -> SideIdentity {
        self.inner.identity()
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        let due = self.calls == self.sabotage.call;
        self.calls += 1;
        if !due {
            return self.inner.forward(tokens, watcher);
        }
        let mut between = Saboteur { sabotage: self.sabotage, watcher, done: false };
        let mut readout = self.inner.forward(tokens, &mut between)?;
        self.sabotage_readout(&mut readout);
        Ok(readout)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn position(&self) -> usize {
        self.inner.position()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        self.inner.hasher()
    }

    fn copies(&self) -> Option<Copies> {
        self.inner.copies()
    }

    fn verified(&self) -> Option<Verified> {
        self.inner.verified()
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, SideError> {
        self.inner.answer(question)
    }
}

/// Damages one row in place. Dropping, swapping and shifting are no matter of one row.
pub fn plant(row: &mut Row, fault: Fault) {
    match (row, fault) {
        (Row::F32(values), Fault::FlipBit { index, bit } | Fault::FlipReadout { index, bit }) => {
            values[index] = f32::from_bits(values[index].to_bits() ^ (1 << bit));
        }
        (Row::F64(values), Fault::FlipBit { index, bit } | Fault::FlipReadout { index, bit }) => {
            values[index] = f64::from_bits(values[index].to_bits() ^ (1 << bit));
        }
        (Row::F32(values), Fault::WriteNan { index }) => values[index] = f32::NAN,
        (Row::F64(values), Fault::WriteNan { index }) => values[index] = f64::NAN,
        (Row::F32(values), Fault::WriteInfinity { index }) => values[index] = f32::INFINITY,
        (Row::F64(values), Fault::WriteInfinity { index }) => values[index] = f64::INFINITY,
        (Row::F32(values), Fault::Shorten) => drop(values.pop()),
        (Row::F64(values), Fault::Shorten) => drop(values.pop()),
        (_, Fault::SwapRows { .. } | Fault::DropTap | Fault::ShiftPosition) => {}
    }
}

/// Stands between the side and its watcher.
struct Saboteur<'a> {
    sabotage: Sabotage,
    watcher: &'a mut dyn Watcher,
    done: bool,
}

impl Watcher for Saboteur<'_> {
    fn level(&self) -> TapLevel {
        self.watcher.level()
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let innocent = matches!(self.sabotage.fault, Fault::FlipReadout { .. });
        let named = tap.name == self.sabotage.tap && tap.layer == self.sabotage.layer;
        let here = named && !innocent;
        if !here || self.done {
            return self.watcher.tap(tap);
        }
        self.done = true;
        let mut row = Row::copy_of(tap.values);
        let mut changed = tap;
        match self.sabotage.fault {
            Fault::DropTap => return,
            Fault::ShiftPosition => changed.first_position += 1,
            Fault::SwapRows { one, two } => swap_rows(&mut row, tap.width, one, two),
            Fault::Shorten => {
                // A width the other side does not have, with values to match.
                changed.width -= 1;
                row = first_columns(&row, tap.width, changed.width);
            }
            fault => plant(&mut row, fault),
        }
        changed.values = match &row {
            Row::F32(values) => Values::F32(values),
            Row::F64(values) => Values::F64(values),
        };
        self.watcher.tap(changed);
    }
}

fn swap_rows(rows: &mut Row, width: usize, one: usize, two: usize) {
    for column in 0..width {
        match rows {
            Row::F32(values) => values.swap(one * width + column, two * width + column),
            Row::F64(values) => values.swap(one * width + column, two * width + column),
        }
    }
}

fn first_columns(rows: &Row, width: usize, kept: usize) -> Row {
    match rows {
        Row::F32(v) => Row::F32(v.chunks(width).flat_map(|r| r[..kept].to_vec()).collect()),
        Row::F64(v) => Row::F64(v.chunks(width).flat_map(|r| r[..kept].to_vec()).collect()),
    }
}
