//! What becomes of a tap: its rows are read at once, or digests of them are taken on the device.
//!
//! Invariant: the same kernels run in the same order either way; digests add launches behind them.

use super::engine::Engine;
use super::layer::Pass;
use crate::device::{Buffer, DeviceError};
use crate::kernels::{HASH_TENSORS, HashTensor};
use crate::taps::{Observer, TapLevel};

/// The watch of one pass.
pub(super) struct Watch<'e, 'o> {
    level: TapLevel,
    mode: Mode<'e, 'o>,
}

enum Mode<'e, 'o> {
    Rows(&'o mut dyn Observer),
    Digests(Digests<'e>),
}

/// Where the digests of a tap's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedTap {
    pub(super) name: &'static str,
    pub(super) layer: Option<usize>,
    /// Of row 0; those of the other rows follow.
    pub(super) record: u32,
    pub(super) rows: u32,
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

    /// What was planned; nothing where rows are read.
    pub(super) fn into_planned(self) -> Vec<PlannedTap> {
        match self.mode {
            Mode::Rows(_) => Vec::new(),
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
                digests.plan(engine, (name, layer), buffer, (pass.rows, width))
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
        let width = usize::try_from(buffer.all::<f32>().count()).expect("a row fits in memory");
        digests.plan(engine, (name, None), buffer, (1, width))
    }

    /// Takes the digests that wait, before their buffers are written again.
    pub(super) fn flush(&mut self, engine: &Engine) -> Result<(), DeviceError> {
        match &mut self.mode {
            Mode::Rows(_) => Ok(()),
            Mode::Digests(digests) => digests.flush(engine),
        }
    }
}

impl<'e> Digests<'e> {
    fn plan(
        &mut self,
        engine: &Engine,
        (name, layer): (&'static str, Option<usize>),
        buffer: &'e Buffer,
        (rows, width): (u32, usize),
    ) -> Result<(), DeviceError> {
        let record = self.records;
        self.records += rows;
        self.planned.push(PlannedTap { name, layer, record, rows });
        let width = u32::try_from(width).expect("sizes were compared with 2^24");
        self.pending.push(HashTensor { values: buffer.all(), width, rows, record });
        if self.pending.len() == HASH_TENSORS { self.flush(engine) } else { Ok(()) }
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
