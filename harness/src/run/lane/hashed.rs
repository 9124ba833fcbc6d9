//! Which taps a side has shown by their hashes, and which of them it is asked for.
//!
//! **Invariant:** a side that waits is answered: with a tap, or that nothing more is wanted.

use std::borrow::Cow;
use std::sync::mpsc::Sender;

use crate::compare::Key;
use crate::compare::sequence::Record;

/// The taps whose rows the side still has.
pub(super) struct Hashed {
    answers: Option<Sender<Option<usize>>>,
    taps: Vec<(Cow<'static, str>, Option<usize>)>,
}

impl Hashed {
    pub(super) fn new(answers: Sender<Option<usize>>) -> Self {
        Self { answers: Some(answers), taps: Vec::new() }
    }

    /// Notes what was shown, a list of records for each tap.
    pub(super) fn shown(&mut self, taps: &[Vec<Record>]) {
        let name = |record: &Record| (record.key.tap.clone(), record.key.layer);
        self.taps = taps.iter().filter_map(|records| records.first().map(name)).collect();
    }

    /// Asks for the rows of a tap; nothing where the side does not have them any more.
    pub(super) fn ask_for(&mut self, key: &Key) -> Option<()> {
        let is = |(tap, layer): &(Cow<'static, str>, Option<usize>)| {
            *tap == key.tap && *layer == key.layer
        };
        let place = self.taps.iter().position(is)?;
        self.answers.as_ref()?.send(Some(place)).ok()
    }

    /// Lets the side go on.
    pub(super) fn nothing_more(&mut self) {
        if !std::mem::take(&mut self.taps).is_empty() {
            // A side that has gone says so by its messages.
            let _ = self.answers.as_ref().map(|answers| answers.send(None));
        }
    }

    /// Nobody asks any more.
    pub(super) fn close(&mut self) {
        self.answers = None;
    }
}
