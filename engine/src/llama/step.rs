//! A step that brings back digests, 32 bytes a tap and row, instead of the rows.

use super::engine::Engine;
use super::layer::Pass;
use super::watch::{PlannedTap, Watch};
use crate::device::Graph;
use crate::error::Error;
use crate::hash::digest_row;
use crate::kernels::RowDigest;
use crate::taps::{Observer, Tap, TapLevel};
use bytemuck::Zeroable;

/// One row of a tap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TapDigest {
    /// The name in CONTRACT.md section 12.
    pub name: &'static str,
    /// The layer, for taps inside one.
    pub layer: Option<usize>,
    /// The row's position.
    pub position: usize,
    /// What the row is.
    pub digest: RowDigest,
}

/// What a step left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Position of the last token.
    pub position: usize,
    /// Tap `final_norm`.
    pub hidden: RowDigest,
    /// Tap `logits`.
    pub logits: RowDigest,
    /// The other taps that were asked for, in the order of CONTRACT.md section 12, row by row.
    pub taps: Vec<TapDigest>,
}

/// A captured pass of one token, readout included.
#[derive(Debug)]
struct Captured {
    graph: Graph,
    planned: Vec<PlannedTap>,
}

/// Captured passes of one token, by what is watched.
#[derive(Debug, Default)]
pub(super) struct Singles {
    /// Without digests, then with digests for each level.
    slots: [Slot; 4],
}

#[derive(Debug, Default)]
struct Slot {
    /// Whether the pass has run once as it is, which makes every kernel ready.
    warm: bool,
    captured: Option<Captured>,
}

fn slot(level: Option<TapLevel>) -> usize {
    match level {
        None => 0,
        Some(TapLevel::Readout) => 1,
        Some(TapLevel::Layer) => 2,
        Some(TapLevel::Op) => 3,
    }
}

impl Engine {
    /// As [`Engine::forward`], but what is watched stays on the device: digests come back. Taps and
    /// the readout are computed by the same launches.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub fn step(&mut self, tokens: &[u32], level: TapLevel) -> Result<Step, Error> {
        if !self.kernels.has_tuned() {
            return self.step_of_rows(tokens, level);
        }
        self.check_tokens(tokens)?;
        let step = self.attempt(tokens, |engine| engine.passes_of_digests(tokens, level))?;
        self.position += tokens.len();
        self.calls += 1;
        Ok(step)
    }

    fn passes_of_digests(&mut self, tokens: &[u32], level: TapLevel) -> Result<Step, Error> {
        let mut position = self.position;
        let mut taps = Vec::new();
        let pieces = tokens.len().div_ceil(self.ubatch);
        for (index, piece) in tokens.chunks(self.ubatch).enumerate() {
            let pass = Pass::new(piece.len(), position, level);
            self.write_inputs(piece, pass)?;
            self.poison_digests(pass)?;
            let last = index + 1 == pieces;
            let planned = if pass.rows == 1 {
                self.single(pass, Some(level))?
            } else {
                let mut watch = Watch::digests(level);
                self.tuned_pass(pass, &mut watch)?;
                if last {
                    self.tuned_readout(pass, &mut watch)?;
                }
                watch.into_planned()
            };
            self.read_digests(&planned, pass, &mut taps)?;
            position += piece.len();
        }
        Ok(finish(position - 1, taps))
    }

    /// Runs the pass of one token and its readout, the first time as it is, later as a graph.
    pub(super) fn single(
        &mut self,
        pass: Pass,
        level: Option<TapLevel>,
    ) -> Result<Vec<PlannedTap>, Error> {
        let index = slot(level);
        if !self.singles.slots[index].warm {
            let planned = self.whole_single(pass, level)?;
            self.singles.slots[index].warm = true;
            return Ok(planned);
        }
        if self.singles.slots[index].captured.is_none() {
            let captured = self.capture(level)?;
            self.singles.slots[index].captured = Some(captured);
        }
        let captured = self.singles.slots[index].captured.as_ref().expect("it was captured above");
        captured.graph.replay()?;
        Ok(captured.planned.clone())
    }

    /// The pass of one token with its readout, written down instead of run.
    fn capture(&self, level: Option<TapLevel>) -> Result<Captured, Error> {
        // A replay stands at any position of the context.
        let largest = u32::try_from(self.context_tokens - 1).expect("compared with 2^31");
        let pass = Pass { rows: 1, first_position: largest, level: TapLevel::Readout };
        let mut planned = Vec::new();
        let graph = self.kernels.device().capture(|| -> Result<(), Error> {
            planned = self.whole_single(pass, level)?;
            Ok(())
        })?;
        Ok(Captured { graph, planned })
    }

    /// The launches of a pass of one token and of its readout, with digests down to a level.
    fn whole_single(&self, pass: Pass, level: Option<TapLevel>) -> Result<Vec<PlannedTap>, Error> {
        let mut silent = crate::taps::Silent;
        let mut watch = match level {
            Some(level) => Watch::digests(level),
            None => Watch::rows(&mut silent),
        };
        self.tuned_pass(pass, &mut watch)?;
        self.tuned_readout(pass, &mut watch)?;
        Ok(watch.into_planned())
    }

    /// Brings the planned records back, in one copy.
    fn read_digests(
        &self,
        planned: &[PlannedTap],
        pass: Pass,
        taps: &mut Vec<TapDigest>,
    ) -> Result<(), Error> {
        let records = planned.last().map_or(0, |tap| (tap.record + tap.rows * tap.pieces) as usize);
        let mut digests = vec![RowDigest::zeroed(); records];
        self.workspace.digests.read(0, &mut digests)?;
        for tap in planned {
            let readout = tap.layer.is_none() && tap.name != "embed";
            // The readout is of the last row, whatever the pass had.
            let first = pass.first_position + if readout { pass.rows - 1 } else { 0 };
            for row in 0..tap.rows {
                let from = (tap.record + row * tap.pieces) as usize;
                let digest = RowDigest::joined(&digests[from..from + tap.pieces as usize]);
                assert_eq!(digest.written, 1, "the digest of {} was taken", tap.name);
                let PlannedTap { name, layer, .. } = *tap;
                taps.push(TapDigest { name, layer, position: (first + row) as usize, digest });
            }
        }
        Ok(())
    }

    /// Where rows have to be read, digests are taken on the host.
    fn step_of_rows(&mut self, tokens: &[u32], level: TapLevel) -> Result<Step, Error> {
        let mut digester = Digester { level, taps: Vec::new() };
        let readout = self.forward(tokens, &mut digester)?;
        let (hidden, logits) = (digest_row(&readout.hidden), digest_row(&readout.logits));
        let mut taps = digester.taps;
        taps.retain(|tap| tap.layer.is_some() || tap.name == "embed");
        Ok(Step { position: readout.position, hidden, logits, taps })
    }
}

/// Takes the readout of the last piece out of the taps.
fn finish(position: usize, mut taps: Vec<TapDigest>) -> Step {
    let last = |name: &str| {
        let tap = taps.iter().rev().find(|tap| tap.name == name);
        tap.expect("every step has a readout").digest
    };
    let (hidden, logits) = (last("final_norm"), last("logits"));
    taps.retain(|tap| tap.layer.is_some() || tap.name == "embed");
    Step { position, hidden, logits, taps }
}

struct Digester {
    level: TapLevel,
    taps: Vec<TapDigest>,
}

impl Observer for Digester {
    fn level(&self) -> TapLevel {
        self.level
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let Tap { name, layer, first_position, width, values, .. } = tap;
        for (row, values) in values.chunks(width).enumerate() {
            let (position, digest) = (first_position + row, digest_row(values));
            self.taps.push(TapDigest { name, layer, position, digest });
        }
    }
}
