//! The engine under test, on whatever device it was asked for.

use std::time::Duration;

use engine::{Engine, ErrorKind, Observer, Options};

use super::question::{Answer, Question};
use super::{
    Copies, Hang, HashedTap, Place, Readout, Row, Side, SideError, SideIdentity, Tap, TapLevel,
    Values, Verified, Watcher, chain,
};

/// The word for this side in errors and files.
pub const NAME: &str = "engine";

/// The adapter.
pub struct EngineSide {
    engine: Engine,
    time_limit: Option<Duration>,
    /// The tokens of each call since the sequence was empty.
    calls: Vec<Vec<u32>>,
    tracer: Option<Tracer>,
    verified: Option<Verified>,
}

/// Runs calls again in another process, launch by launch, after this one has lost its device, and
/// says which launch is the cause.
pub type Tracer = Box<dyn Fn(&[Vec<u32>]) -> Option<String> + Send>;

impl EngineSide {
    /// Loads a file that has been read.
    pub fn load(file: &engine::gguf::File, options: &Options) -> Result<Self, SideError> {
        let engine = Engine::load(file, options).map_err(|error| failure(&error, false))?;
        let (time_limit, calls) = (options.time_limit, Vec::new());
        Ok(Self { engine, time_limit, calls, tracer: None, verified: None })
    }

    /// With somebody who finds the launch behind a device that is lost.
    #[must_use]
    pub fn traced_by(mut self, tracer: Tracer) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// The words of an error, with the launch behind it where only another process can tell.
    fn traced(&self, error: engine::Error, tokens: &[u32]) -> SideError {
        let lost = matches!(&error, engine::Error::Device(error) if error.is_lost());
        let failure = failure(&error, true);
        let (true, Some(tracer), SideError::Device { side, message }) =
            (lost, &self.tracer, &failure)
        else {
            return failure;
        };
        let mut calls = self.calls.clone();
        calls.push(tokens.to_vec());
        let found = tracer(&calls).unwrap_or_else(|| "no launch failed".to_owned());
        let message = format!("{message}; in a process of its own, launch by launch: {found}");
        SideError::Device { side, message }
    }

    /// Reads every weight back from the device and compares it with the file that was loaded.
    pub fn verify(&mut self, file: &engine::gguf::File) -> Result<(), SideError> {
        self.verified = None;
        let found = self.engine.verify_weights(file).map_err(|error| failure(&error, false))?;
        let engine::VerifiedWeights { tensors, bytes, hash } = found;
        self.verified = Some(Verified { tensors, bytes, hash });
        Ok(())
    }

    /// A fault to be found: one bit of a weight on the device, as failing memory would.
    #[doc(hidden)]
    pub fn flip_weight_bit(&self, tensor: &str, byte: u64, bit: u32) -> Result<(), SideError> {
        let flipped = self.engine.flip_weight_bit(tensor, byte, bit);
        flipped.map_err(|error| failure(&error, false))
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
        ErrorKind::Memory => SideError::Memory { side: NAME, message },
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
        let result = self.engine.forward(tokens, &mut Adapter { watcher });
        let readout = result.map_err(|error| self.traced(error, tokens))?;
        self.calls.push(tokens.to_vec());
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
        self.calls.clear();
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

    fn hang(&self) -> Option<Hang> {
        let limit = self.time_limit?;
        // A GPU has its own limit, and another process finds the launch; what was enqueued last
        // need not be what hangs. On the host a launch runs on the calling thread.
        if self.engine.device().describe().device != "host" {
            return None;
        }
        let pulse = self.engine.pulse();
        Some(Box::new(move || {
            let engine::InFlight { kernel, age, at } = pulse.in_flight()?;
            let overdue = age > limit;
            overdue.then(|| {
                let seconds = limit.as_secs_f64();
                format!("{kernel}{at} did not finish within {seconds} s")
            })
        }))
    }

    fn verified(&self) -> Option<Verified> {
        self.verified.clone()
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

    fn digests_first(&self) -> bool {
        self.watcher.hashes_first()
    }

    fn digests(&mut self, taps: &[engine::DigestedTap<'_>]) {
        let hashed = |tap: &engine::DigestedTap<'_>| HashedTap {
            name: tap.name,
            layer: tap.layer,
            first_position: tap.first_position,
            hashes: tap.digests.iter().map(|digest| digest.hash).collect(),
        };
        self.watcher.hashes(taps.iter().map(hashed).collect());
    }

    fn wanted(&mut self) -> Option<usize> {
        self.watcher.wanted()
    }
}
