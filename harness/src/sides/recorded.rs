//! A reference that was computed before, as a side; and the side that is noted down to become one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::question::{Answer, Question};
use super::recording::{Entry, Recording, RecordingError, RecordingKey};
use super::{Copies, Hang, Readout, Row, Side, SideError, SideIdentity, Verified, Watcher};

/// The word for this side in errors.
const NAME: &str = "exact";

/// What a live reference gives, as it gives it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    build: String,
    entries: Vec<Entry>,
    /// The steps have ended, or a row was no row of f32.
    closed: bool,
}

impl Log {
    /// Around a side: what it gives until its first reset is noted down.
    pub fn around(&self, side: Box<dyn Side>) -> Box<dyn Side> {
        self.with(|state| state.build = side.identity().build);
        Box::new(Noted { side, log: self.clone() })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what was noted down into a folder; nothing if there is none.
    ///
    /// # Errors
    /// [`RecordingError::Write`].
    pub fn write(
        &self,
        folder: &Path,
        key: RecordingKey,
    ) -> Result<Option<PathBuf>, RecordingError> {
        let recording = self.with(|state| Recording {
            build: state.build.clone(),
            entries: std::mem::take(&mut state.entries),
        });
        recording.write(folder, key)
    }
}

/// A side whose readouts are noted down.
struct Noted {
    side: Box<dyn Side>,
    log: Log,
}

impl Side for Noted {
    fn identity(&self) -> SideIdentity {
        self.side.identity()
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        let readout = self.side.forward(tokens, watcher)?;
        self.log.with(|state| match (&readout.hidden, &readout.logits) {
            (Row::F32(hidden), Row::F32(logits)) if !state.closed => {
                let (hidden, logits) = (hidden.clone(), logits.clone());
                state.entries.push(Entry { tokens: tokens.to_vec(), hidden, logits });
            }
            _ => state.closed = true,
        });
        Ok(readout)
    }

    fn reset(&mut self) {
        self.log.with(|state| state.closed = true);
        self.side.reset();
    }

    fn position(&self) -> usize {
        self.side.position()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        self.side.hasher()
    }

    fn copies(&self) -> Option<Copies> {
        self.side.copies()
    }

    fn hang(&self) -> Option<Hang> {
        self.side.hang()
    }

    fn verified(&self) -> Option<Verified> {
        self.side.verified()
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, SideError> {
        self.side.answer(question)
    }
}

/// The adapter.
pub struct RecordedSide {
    recording: Recording,
    calls: usize,
    position: usize,
}

impl RecordedSide {
    /// A side that gives what was recorded.
    pub fn new(recording: Recording) -> Self {
        Self { recording, calls: 0, position: 0 }
    }
}

impl Side for RecordedSide {
    fn identity(&self) -> SideIdentity {
        SideIdentity {
            implementation: NAME.to_owned(),
            device: "cpu, recorded".to_owned(),
            build: self.recording.build.clone(),
        }
    }

    fn forward(&mut self, tokens: &[u32], _: &mut dyn Watcher) -> Result<Readout, SideError> {
        let Some(entry) = self.recording.entries.get(self.calls).filter(|e| e.tokens == tokens)
        else {
            let (calls, position) = (self.calls, self.position);
            let message = format!(
                "the recording has no step {calls} with these {} tokens at position {position}: \
                 record it again",
                tokens.len()
            );
            return Err(SideError::Step { side: NAME, message });
        };
        self.calls += 1;
        self.position += tokens.len();
        Ok(Readout {
            position: self.position.saturating_sub(1),
            hidden: Row::F32(entry.hidden.clone()),
            logits: Row::F32(entry.logits.clone()),
            hidden_place: None,
            logits_place: None,
        })
    }

    fn reset(&mut self) {
        (self.calls, self.position) = (0, 0);
    }

    fn position(&self) -> usize {
        self.position
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        reference::row_hash
    }

    fn copies(&self) -> Option<Copies> {
        None
    }
}
