//! What a side shows while it runs, on its way out of the side's thread.

use std::sync::mpsc::{Receiver, SyncSender};

use super::{Message, token_at};
use crate::compare::Key;
use crate::compare::sequence::Record;
use crate::number::Hash;
use crate::sides::{HashedTap, Row, Tap, TapLevel, Values, Watcher};

/// Copies taps out of the side, with its own hash of every row.
pub(super) struct Relay<'a> {
    pub(super) level: TapLevel,
    pub(super) hashes_first: bool,
    pub(super) sequence: &'a [u32],
    pub(super) hasher: fn(&[f32]) -> u64,
    pub(super) outbox: &'a SyncSender<Message>,
    pub(super) wanted: &'a mut Receiver<Option<usize>>,
}

impl Watcher for Relay<'_> {
    fn level(&self) -> TapLevel {
        self.level
    }

    fn tap(&mut self, tap: Tap<'_>) {
        if self.level == TapLevel::Readout {
            return;
        }
        let record = |row: usize| {
            let span = row * tap.width..(row + 1) * tap.width;
            let position = tap.first_position + row;
            let key = Key {
                token_id: token_at(self.sequence, position),
                position,
                layer: tap.layer,
                tap: tap.name.into(),
            };
            match tap.values {
                Values::F32(values) => {
                    let values = &values[span];
                    let hash = Some(Hash((self.hasher)(values)));
                    Record { key, row: Row::F32(values.to_vec()), hash }
                }
                Values::F64(values) => {
                    Record { key, row: Row::F64(values[span].to_vec()), hash: None }
                }
            }
        };
        let records = (0..tap.rows).map(record).collect();
        // Nobody listens any more when the run has been given up.
        let _ = self.outbox.send(Message::Taps(records));
    }
    fn hashes_first(&self) -> bool {
        self.hashes_first
    }

    fn hashes(&mut self, taps: Vec<HashedTap>) {
        let records = |tap: HashedTap| {
            let record = |(row, hash): (usize, u64)| {
                let position = tap.first_position + row;
                let token_id = token_at(self.sequence, position);
                let key = Key { token_id, position, layer: tap.layer, tap: tap.name.into() };
                Record { key, row: Row::F32(Vec::new()), hash: Some(Hash(hash)) }
            };
            tap.hashes.iter().copied().enumerate().map(record).collect()
        };
        let _ = self.outbox.send(Message::Hashes(taps.into_iter().map(records).collect()));
    }

    fn wanted(&mut self) -> Option<usize> {
        // Nobody wants anything of a run that has been given up.
        self.wanted.recv().ok().flatten()
    }
}
