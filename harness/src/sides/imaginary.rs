//! A side without a model, for unit tests: values made of token and position, in microseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    Copies, Hang, HashedTap, Readout, Row, Side, SideError, SideIdentity, Tap, TapLevel, Values,
    Watcher,
};

const HIDDEN: usize = 8;
const VOCABULARY: usize = 16;
const LAYERS: usize = 2;

/// Two of these with different names agree in every bit.
pub(crate) struct Imaginary {
    pub(crate) name: &'static str,
    pub(crate) tokens: Vec<u32>,
    /// Panics when it is asked for this position.
    pub(crate) panic_at: Option<usize>,
    /// Never comes back from this position.
    pub(crate) hangs_at: Option<usize>,
    /// Whether it does so now.
    pub(crate) hanging: Arc<AtomicBool>,
    /// Runs longer calls in chunks of this many tokens.
    pub(crate) ubatch: usize,
    /// Chunks after the first give other values: a prefill that forgets the cache.
    pub(crate) forgets_chunks: bool,
    /// Shows hashes first where that is asked for, and counts the taps that are then read.
    pub(crate) reads: Option<Arc<AtomicUsize>>,
    /// The layer whose rows are others than they should be.
    pub(crate) wrong_layer: Option<usize>,
    /// The layer whose digests, shown first, are not those of its rows.
    pub(crate) wrong_digest: Option<usize>,
    /// Rows in f64 with this added to each value.
    pub(crate) wide_offset: Option<f64>,
}

impl Imaginary {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            tokens: Vec::new(),
            panic_at: None,
            hangs_at: None,
            hanging: Arc::default(),
            ubatch: 512,
            forgets_chunks: false,
            reads: None,
            wrong_layer: None,
            wrong_digest: None,
            wide_offset: None,
        }
    }

    fn row(&self, salt: usize, position: usize, width: usize) -> Vec<f32> {
        let seen = &self.tokens[..=position];
        let state = seen.iter().fold(salt as u64 + 1, |state, &token| {
            state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(u64::from(token) | 1)
        });
        (0..width)
            .map(|index| {
                let word = state.wrapping_mul(2 * index as u64 + 3) >> 40;
                word as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    /// The taps of a chunk; by their hashes first where both sides of the window know how.
    fn show(&self, first_position: usize, watcher: &mut dyn Watcher) {
        let rows = self.tokens.len() - first_position;
        let wrong = |layer| usize::from(self.wrong_layer == Some(layer)) * 1000;
        let values = |layer: usize| -> Vec<f32> {
            (first_position..self.tokens.len())
                .flat_map(|position| self.row(layer + wrong(layer), position, HIDDEN))
                .collect()
        };
        let tap = |layer: usize, watcher: &mut dyn Watcher| {
            watcher.tap(Tap {
                name: "ffn_residual",
                layer: Some(layer),
                first_position,
                rows,
                width: HIDDEN,
                values: Values::F32(&values(layer)),
            });
        };
        let Some(reads) = self.reads.as_ref().filter(|_| watcher.hashes_first()) else {
            return (0..LAYERS).for_each(|layer| tap(layer, watcher));
        };
        let spoilt = |layer| u64::from(self.wrong_digest == Some(layer));
        let hash = |layer, row: &[f32]| self.hasher()(row) ^ spoilt(layer);
        let hashed = |layer| HashedTap {
            name: "ffn_residual",
            layer: Some(layer),
            first_position,
            hashes: values(layer).chunks(HIDDEN).map(|row| hash(layer, row)).collect(),
        };
        watcher.hashes((0..LAYERS).map(hashed).collect());
        while let Some(layer) = watcher.wanted() {
            reads.fetch_add(1, Ordering::SeqCst);
            tap(layer, watcher);
        }
    }

    fn finish(&self, mut values: Vec<f32>, chunk: usize) -> Row {
        if self.forgets_chunks && chunk > 0 {
            values[1] += 0.5;
        }
        match self.wide_offset {
            None => Row::F32(values),
            Some(offset) => Row::F64(values.iter().map(|&v| f64::from(v) + offset).collect()),
        }
    }
}

impl Side for Imaginary {
    fn identity(&self) -> SideIdentity {
        SideIdentity {
            implementation: self.name.to_owned(),
            device: "nowhere".to_owned(),
            build: "1".to_owned(),
        }
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        for chunk in tokens.chunks(self.ubatch) {
            let first_position = self.tokens.len();
            self.tokens.extend_from_slice(chunk);
            if let Some(position) = self.panic_at {
                assert!(self.tokens.len() <= position, "planted at position {position}");
            }
            if self.hangs_at.is_some_and(|position| self.tokens.len() > position) {
                self.hanging.store(true, Ordering::SeqCst);
                loop {
                    std::thread::park();
                }
            }
            if watcher.level() > TapLevel::Readout {
                self.show(first_position, watcher);
            }
        }
        let position = self.tokens.len() - 1;
        let chunk = (tokens.len() - 1) / self.ubatch + usize::from(tokens.len() <= position);
        Ok(Readout {
            position,
            hidden: self.finish(self.row(100, position, HIDDEN), chunk),
            logits: self.finish(self.row(200, position, VOCABULARY), chunk),
            hidden_place: None,
            logits_place: None,
        })
    }

    fn reset(&mut self) {
        self.tokens.clear();
    }

    fn position(&self) -> usize {
        self.tokens.len()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        |row| {
            row.iter().fold(7, |hash: u64, value| {
                hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(value.to_bits())
            })
        }
    }

    fn copies(&self) -> Option<Copies> {
        None
    }

    fn hang(&self) -> Option<Hang> {
        let (hanging, position) = (Arc::clone(&self.hanging), self.hangs_at?);
        let words = move || format!("planted at position {position} did not finish within 0 s");
        Some(Box::new(move || hanging.load(Ordering::SeqCst).then(&words)))
    }
}
