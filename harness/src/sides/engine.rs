//! The engine under test, on whatever device it was asked for.

use engine::{Engine, ErrorKind, Observer, Options};

use super::question::{Answer, Question};
use super::{
    Copies, Place, Readout, Row, Side, SideError, SideIdentity, Tap, TapLevel, Values, Watcher,
    chain,
};

/// The word for this side in errors and files.
pub const NAME: &str = "engine";

/// The adapter.
pub struct EngineSide {
    engine: Engine,
}

impl EngineSide {
    /// Loads a file that has been read.
    pub fn load(file: &engine::gguf::File, options: &Options) -> Result<Self, SideError> {
        let engine = Engine::load(file, options).map_err(|error| failure(&error, false))?;
        Ok(Self { engine })
    }

    /// Appends `tokens` and brings back digests instead of rows.
    pub fn step(&mut self, tokens: &[u32], level: TapLevel) -> Result<engine::Step, SideError> {
        self.engine.step(tokens, tap_level(level)).map_err(|error| failure(&error, true))
    }
}

fn failure(error: &engine::Error, stepping: bool) -> SideError {
    let message = chain(error);
    match error.kind() {
        ErrorKind::Device => SideError::Device { side: NAME, message },
        ErrorKind::Refused => SideError::Refused { side: NAME, message },
        ErrorKind::Input if stepping => SideError::Step { side: NAME, message },
        ErrorKind::Input => SideError::Input { side: NAME, message },
    }
}

impl Side for EngineSide {
    fn identity(&self) -> SideIdentity {
        let engine::Identity { implementation, device, build } = self.engine.identity();
        SideIdentity { implementation, device, build }
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        let readout = self
            .engine
            .forward(tokens, &mut Adapter { watcher })
            .map_err(|error| failure(&error, true))?;
        Ok(Readout {
            position: readout.position,
            hidden: Row::F32(readout.hidden),
            logits: Row::F32(readout.logits),
            hidden_place: Some(place(readout.hidden_place)),
            logits_place: Some(place(readout.logits_place)),
        })
    }

    fn reset(&mut self) {
        self.engine.reset();
    }

    fn position(&self) -> usize {
        self.engine.position()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        engine::hash_row
    }

    fn copies(&self) -> Option<Copies> {
        let (checked, total) = (self.engine.copies_checked(), self.engine.copies_total());
        Some(Copies { checked, total })
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, SideError> {
        let answer = match question {
            Question::Operation { tap, layer, inputs } => {
                self.engine.operation(tap, *layer, inputs).map(Answer::Rows)
            }
            Question::Cache { layer, positions } => {
                let rows = self.engine.cache_rows(*layer, positions.clone());
                rows.map(|(keys, values)| Answer::Cache { keys, values })
            }
            Question::Weight { tensor } => self.engine.weight_bytes(tensor).map(Answer::Weight),
        };
        answer.map_err(|error| failure(&error, true))
    }
}

fn tap_level(level: TapLevel) -> engine::TapLevel {
    match level {
        TapLevel::Readout => engine::TapLevel::Readout,
        TapLevel::Layer => engine::TapLevel::Layer,
        TapLevel::Op => engine::TapLevel::Op,
    }
}

fn place(place: engine::Place) -> Place {
    let engine::Place { pointer, allocation_bytes, offset_bytes } = place;
    Place { pointer, allocation_bytes, offset_bytes }
}

struct Adapter<'a> {
    watcher: &'a mut dyn Watcher,
}

impl Observer for Adapter<'_> {
    fn level(&self) -> engine::TapLevel {
        tap_level(self.watcher.level())
    }

    fn tap(&mut self, tap: engine::Tap<'_>) {
        self.watcher.tap(Tap {
            name: tap.name,
            layer: tap.layer,
            first_position: tap.first_position,
            rows: tap.rows,
            width: tap.width,
            values: Values::F32(tap.values),
        });
    }
}
