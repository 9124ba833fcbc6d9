//! What becomes of a tap: its rows are read at once, or digests of them are taken on the device, or
//! digests first and then the rows that somebody wants.
//!
//! Invariant: the same kernels run in the same order either way; digests add launches behind them.

use super::engine::Engine;
use super::layer::Pass;
use super::tuned::WAVE_ROWS;
use crate::device::{Buffer, DeviceError};
use crate::kernels::{HASH_TENSORS, HashTensor, RowDigest};
use crate::taps::{DigestedTap, Observer, TapLevel};
use bytemuck::Zeroable;

/// The watch of one pass.
pub(super) struct Watch<'e, 'o> {
    level: TapLevel,
    mode: Mode<'e, 'o>,
}

enum Mode<'e, 'o> {
    Rows(&'o mut dyn Observer),
    Digests(Digests<'e>),
    First(Digests<'e>, Vec<Shown<'e>>, &'o mut dyn Observer),
}

/// A tap whose digests the observer has not seen; its buffer is not written before it has.
struct Shown<'e> {
    pass: Pass,
    level: TapLevel,
    planned: PlannedTap,
    buffer: &'e Buffer,
}

/// Where the digests of a tap's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedTap {
    pub(super) name: &'static str,
    pub(super) layer: Option<usize>,
    /// Of row 0; those of the other rows follow.
    pub(super) record: u32,
    pub(super) rows: u32,
    /// Records of a row, one for each of its pieces.
    pub(super) pieces: u32,
}

/// Values of a row's piece: a row of logits is too long for one block of threads.
const PIECE: u32 = 8192;

/// Pieces of a row of the readout.
pub(super) fn readout_pieces(width: usize) -> usize {
    width.div_ceil(PIECE as usize).max(1)
}

#[derive(Default)]
struct Digests<'e> {
    planned: Vec<PlannedTap>,
    pending: Vec<HashTensor<'e>>,
    records: u32,
}

impl<'e, 'o> Watch<'e, 'o> {
    /// Rows for an observer.
    pub(super) fn rows(observer: &'o mut dyn Observer) -> Self {
        Self { level: observer.level(), mode: Mode::Rows(observer) }
    }

    /// Digests down to a level, and of the readout in any case.
    pub(super) fn digests(level: TapLevel) -> Self {
        Self { level, mode: Mode::Digests(Digests::default()) }
    }

    /// Digests for an observer, and the rows that it then wants.
    pub(super) fn digests_first(observer: &'o mut dyn Observer) -> Self {
        let level = observer.level();
        Self { level, mode: Mode::First(Digests::default(), Vec::new(), observer) }
    }

    /// What was planned; nothing where rows are read.
    pub(super) fn into_planned(self) -> Vec<PlannedTap> {
        match self.mode {
            Mode::Rows(_) | Mode::First(..) => Vec::new(),
            Mode::Digests(digests) => digests.planned,
        }
    }

    /// A tap inside a pass.
    pub(super) fn see(
        &mut self,
        engine: &'e Engine,
        pass: Pass,
        (level, name, layer): (TapLevel, &'static str, Option<usize>),
        buffer: &'e Buffer,
    ) -> Result<(), DeviceError> {
        if self.level < level {
            return Ok(());
        }
        match &mut self.mode {
            Mode::Rows(observer) => engine.tap(pass, level, name, layer, buffer, *observer),
            Mode::Digests(digests) => {
                let width = engine.tap_width(name);
                digests.plan((name, layer), buffer, (pass.rows, width));
                if digests.is_full() { self.flush(engine) } else { Ok(()) }
            }
            Mode::First(digests, shown, _) => {
                let width = engine.tap_width(name);
                let planned = digests.plan((name, layer), buffer, (pass.rows, width));
                shown.push(Shown { pass, level, planned, buffer });
                if digests.is_full() { self.flush(engine) } else { Ok(()) }
            }
        }
    }

    /// A row of the readout; where rows are read, the caller reads it.
    pub(super) fn see_readout(
        &mut self,
        engine: &'e Engine,
        name: &'static str,
        buffer: &'e Buffer,
    ) -> Result<(), DeviceError> {
        let Mode::Digests(digests) = &mut self.mode else { return Ok(()) };
        let width = u32::try_from(buffer.all::<f32>().count()).expect("compared with 2^24");
        let (pieces, record) = (readout_pieces(width as usize) as u32, digests.records);
        digests.records += pieces;
        digests.planned.push(PlannedTap { name, layer: None, record, rows: 1, pieces });
        for piece in 0..pieces {
            let (first, record) = (piece * PIECE, record + piece);
            let width = PIECE.min(width - first);
            let values = buffer.view(u64::from(first), u64::from(width))?;
            digests.pending.push(HashTensor { values, width, rows: 1, record, first });
            if digests.is_full() {
                digests.flush(engine)?;
            }
        }
        Ok(())
    }

    /// Takes the digests that wait where the next layer writes their buffers again. Where every
    /// layer has its own, those of several share a launch.
    pub(super) fn end_layer(&mut self, engine: &Engine, pass: Pass) -> Result<(), DeviceError> {
        match &self.mode {
            Mode::Digests(_) if pass.rows <= WAVE_ROWS => Ok(()),
            _ => self.flush(engine),
        }
    }

    /// Takes the digests that wait, before their buffers are written again.
    pub(super) fn flush(&mut self, engine: &Engine) -> Result<(), DeviceError> {
        match &mut self.mode {
            Mode::Rows(_) => Ok(()),
            Mode::Digests(digests) => digests.flush(engine),
            Mode::First(digests, shown, observer) => {
                digests.flush(engine)?;
                let taken = std::mem::take(shown);
                show(engine, &taken, *observer)
            }
        }
    }
}

/// Shows the digests of some taps, and reads those of them that are wanted.
fn show(
    engine: &Engine,
    shown: &[Shown<'_>],
    observer: &mut dyn Observer,
) -> Result<(), DeviceError> {
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return Ok(()) };
    let begin = first.planned.record;
    let count = (last.planned.record + last.planned.rows - begin) as usize;
    let mut records = vec![RowDigest::zeroed(); count];
    engine.workspace.digests.read(u64::from(begin), &mut records)?;
    let taps: Vec<DigestedTap<'_>> = shown
        .iter()
        .map(|Shown { pass, planned, .. }| {
            let from = (planned.record - begin) as usize;
            let digests = &records[from..from + planned.rows as usize];
            let taken = digests.iter().all(|digest| digest.written == 1);
            assert!(taken, "the digests of {} were taken", planned.name);
            let (name, layer) = (planned.name, planned.layer);
            DigestedTap { name, layer, first_position: pass.first_position as usize, digests }
        })
        .collect();
    observer.digests(&taps);
    while let Some(Shown { pass, level, planned, buffer }) =
        observer.wanted().and_then(|index| shown.get(index))
    {
        engine.tap(*pass, *level, planned.name, planned.layer, buffer, observer)?;
    }
    Ok(())
}

impl<'e> Digests<'e> {
    fn plan(
        &mut self,
        (name, layer): (&'static str, Option<usize>),
        buffer: &'e Buffer,
        (rows, width): (u32, usize),
    ) -> PlannedTap {
        let record = self.records;
        self.records += rows;
        let planned = PlannedTap { name, layer, record, rows, pieces: 1 };
        self.planned.push(planned.clone());
        let width = u32::try_from(width).expect("sizes were compared with 2^24");
        self.pending.push(HashTensor { values: buffer.all(), width, rows, record, first: 0 });
        planned
    }

    /// Whether one launch takes no more.
    fn is_full(&self) -> bool {
        self.pending.len() == HASH_TENSORS
    }

    fn flush(&mut self, engine: &Engine) -> Result<(), DeviceError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        engine.kernels.hash_rows(&self.pending, engine.workspace.digests.all())?;
        self.pending.clear();
        Ok(())
    }
}
