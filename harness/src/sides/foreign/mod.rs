//! An engine in any language: a process that speaks JSON lines (docs/foreign-engine.md) is a side.
//!
//! **Invariant:** no size that the process says allocates anything; every line is held against the
//! model and the call before its values are taken. After a defect the process is ended.

mod error;
mod fields;
mod groups;
pub mod message;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::Config;

pub use error::ForeignError;
use message::{Answer, PROTOCOL, Request, values};
use process::Process;

use super::engine::NAME;
use super::{
    Copies, LAYER_TAPS, Readout, Row, Side, SideError, SideIdentity, Tap, Values, Watcher,
};
use crate::identity::ModelIdentity;

/// The taps outside the layers.
const OUTER_TAPS: [&str; 3] = ["embed", "final_norm", "logits"];
/// The longest name of a program, a device or a build.
const NAME_CHARACTERS_MAX: usize = 200;
/// The most bytes of a line without values, and of what a line has besides its values.
const LINE_BYTES: usize = 1 << 16;
/// Digits of a value.
const DIGITS: usize = 8;

/// How the process is started, and what it is told of the run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its command line.
    pub command: String,
    /// How long an answer may take.
    pub time_limit: Duration,
    /// The most tokens of a prompt that are run at once.
    pub ubatch: usize,
    /// How many positions the run needs.
    pub context_tokens: usize,
    /// The word for the fixed point of the activations.
    pub activations: String,
    /// The word for the type of the cache.
    pub kv: String,
    /// How many threads it may use.
    pub threads: usize,
}

/// The adapter.
pub struct ForeignSide {
    /// None after a defect.
    process: Option<Process>,
    identity: SideIdentity,
    sizes: Sizes,
    position: usize,
    failed: Option<SideError>,
}

/// What the model file says of rows.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    hidden: usize,
    vocabulary: usize,
    widest: usize,
    /// Without the logits, which are of one token in every call.
    widest_of_many: usize,
    /// The most tokens that a line has rows of.
    rows: usize,
    /// Taps of one token.
    taps: usize,
}

impl Sizes {
    fn of(config: &Config, rows: usize) -> Self {
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let heads = config.heads * config.head_size;
        let widest_of_many = hidden.max(config.feed_forward).max(heads);
        let widest = widest_of_many.max(vocabulary);
        let taps = config.layers * LAYER_TAPS.len() + OUTER_TAPS.len();
        Self { hidden, vocabulary, widest, widest_of_many, rows, taps }
    }

    /// The longest line of a call's answer: a tap of a whole piece, or a readout.
    fn line_bytes_max(&self) -> usize {
        let taps = self.widest_of_many.saturating_mul(self.rows);
        let values = taps.max(self.hidden + self.vocabulary);
        values.saturating_mul(DIGITS).saturating_add(LINE_BYTES)
    }
}

impl ForeignSide {
    /// Starts the process and hears who it is.
    ///
    /// # Errors
    /// The first defect of its answer.
    pub fn load(path: &Path, config: &Config, options: &Options) -> Result<Self, SideError> {
        Self::open(path, config, options)
            .map_err(|error| SideError::Foreign { side: NAME, message: error.to_string() })
    }

    fn open(path: &Path, config: &Config, options: &Options) -> Result<Self, ForeignError> {
        let sizes = Sizes::of(config, options.ubatch.min(options.context_tokens));
        let mut process = Process::start(&options.command, options.time_limit)?;
        let whole = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        let hello = Request::Hello {
            protocol: PROTOCOL,
            model: whole.display().to_string(),
            ubatch: options.ubatch,
            context_tokens: options.context_tokens,
            activations: options.activations.clone(),
            kv: options.kv.clone(),
            threads: options.threads,
        };
        send(&process, &hello, LINE_BYTES);
        // Both sides read the file at the same time.
        let expected = ModelIdentity::of_file(String::new(), path);
        let line = process.line("hello")?;
        version(&line)?;
        let answer = answer(&line)?;
        let Answer::Hello { implementation, device, build, model_sha256, vocabulary, .. } = answer
        else {
            return Err(turn("hello", &answer, "hello"));
        };
        let expected = expected
            .map_err(|error| ForeignError::Read { request: "hello", message: error.to_string() })?;
        if !model_sha256.eq_ignore_ascii_case(&expected.sha256) {
            let (found, expected) = (model_sha256, expected.sha256);
            return Err(ForeignError::Model { found, expected });
        }
        if vocabulary != config.vocabulary {
            let (found, expected) = (vocabulary, config.vocabulary);
            return Err(ForeignError::Vocabulary { found, expected });
        }
        for (field, word) in
            [("implementation", &implementation), ("device", &device), ("build", &build)]
        {
            name(field, word)?;
        }
        let identity = SideIdentity { implementation, device, build };
        Ok(Self { process: Some(process), identity, sizes, position: 0, failed: None })
    }

    /// Does something with the process; a defect is its last.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Process) -> Result<T, ForeignError>,
    ) -> Result<T, SideError> {
        let Some(mut process) = self.process.take() else {
            let ended = || SideError::Step { side: NAME, message: "it was ended".to_owned() };
            return Err(self.failed.clone().unwrap_or_else(ended));
        };
        match work(self, &mut process) {
            Ok(done) => {
                self.process = Some(process);
                Ok(done)
            }
            Err(error) => {
                let error = SideError::Step { side: NAME, message: error.to_string() };
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn run(
        &mut self,
        process: &mut Process,
        tokens: &[u32],
        watcher: &mut dyn Watcher,
    ) -> Result<Readout, ForeignError> {
        let (from, request) = (self.position, "forward");
        let call = Call { from, to: from + tokens.len() - 1, widest: self.sizes.widest };
        let forward = Request::Forward { tokens: tokens.to_vec(), level: watcher.level() };
        send(process, &forward, self.sizes.line_bytes_max());
        let taps_max = tokens.len().saturating_mul(self.sizes.taps);
        for _ in 0..=taps_max {
            match answer(&process.line(request)?)? {
                Answer::Tap { name, layer, first_position, rows, width, values } => {
                    let shape = Shape { layer, first_position, rows, width };
                    call.tap(&name, shape, &values, watcher)?;
                }
                Answer::Readout { position, hidden, logits } => {
                    if position != call.to {
                        return Err(ForeignError::Position { found: position, due: call.to });
                    }
                    let hidden = Row::F32(row("hidden", self.sizes.hidden, &hidden)?);
                    let logits = Row::F32(row("logits", self.sizes.vocabulary, &logits)?);
                    self.position = call.to + 1;
                    let (hidden_place, logits_place) = (None, None);
                    return Ok(Readout { position, hidden, logits, hidden_place, logits_place });
                }
                other => return Err(turn(request, &other, "tap or readout")),
            }
        }
        Err(ForeignError::NoReadout { taps_max })
    }
}

/// The positions of a running call.
struct Call {
    from: usize,
    to: usize,
    widest: usize,
}

/// What a tap says of itself.
struct Shape {
    layer: Option<usize>,
    first_position: usize,
    rows: usize,
    width: usize,
}

impl Call {
    /// Hands a tap on whose rows are those of the call. Whether they are the ones that are due is
    /// the comparison's to say, and so are values that are no numbers.
    fn tap(
        &self,
        name: &str,
        shape: Shape,
        text: &str,
        watcher: &mut dyn Watcher,
    ) -> Result<(), ForeignError> {
        let mut known = OUTER_TAPS.into_iter().chain(LAYER_TAPS);
        let Some(known) = known.find(|known| *known == name) else {
            return Err(ForeignError::UnknownTap { name: name.to_owned() });
        };
        let Shape { layer, first_position, rows, width } = shape;
        let tap = match layer {
            Some(layer) => format!("{known} of layer {layer}"),
            None => known.to_owned(),
        };
        let last = rows.checked_sub(1).and_then(|more| first_position.checked_add(more));
        let inside = first_position >= self.from && last.is_some_and(|last| last <= self.to);
        if !inside || width == 0 || width > self.widest {
            let (first, from, to) = (first_position, self.from, self.to);
            let width_max = self.widest;
            return Err(ForeignError::Shape { tap, rows, width, first, from, to, width_max });
        }
        let values = row(&tap, rows * width, text)?;
        let values = Values::F32(&values);
        watcher.tap(Tap { name: known, layer, first_position, rows, width, values });
        Ok(())
    }
}

/// Ends every engine that runs, before this process ends without an end of its own.
pub fn end_all() {
    groups::end_all();
}

fn send(process: &Process, request: &Request, answer_bytes_max: usize) {
    let mut line = serde_json::to_vec(request).expect("a request is plain data");
    line.push(b'\n');
    process.send(line, answer_bytes_max);
}

/// A line as an answer, or as its engine's words that it cannot go on.
fn answer(line: &[u8]) -> Result<Answer, ForeignError> {
    match serde_json::from_slice(line) {
        Ok(Answer::Error { message }) => Err(ForeignError::Reported { message }),
        Ok(answer) => Ok(answer),
        Err(error) => Err(ForeignError::NotAnAnswer {
            line: String::from_utf8_lossy(line).into_owned(),
            message: error.to_string().replace(" at line 1 column ", " at column "),
        }),
    }
}

/// Before anything else of a first line: another version may have other fields.
fn version(line: &[u8]) -> Result<(), ForeignError> {
    /// The other fields are passed over, and nothing of them is kept.
    #[derive(serde::Deserialize)]
    struct Spoken {
        protocol: u64,
    }
    match serde_json::from_slice(line) {
        Ok(Spoken { protocol: found }) if found != u64::from(PROTOCOL) => {
            Err(ForeignError::Version { found, known: PROTOCOL })
        }
        _ => Ok(()),
    }
}

fn turn(request: &'static str, answer: &Answer, due: &'static str) -> ForeignError {
    ForeignError::Turn { request, answer: answer.word(), due }
}

/// A name that stands in tables and files.
fn name(field: &'static str, word: &str) -> Result<(), ForeignError> {
    let characters_max = NAME_CHARACTERS_MAX;
    let short = word.chars().count() <= characters_max;
    let shown = !word.trim().is_empty() && !word.chars().any(char::is_control);
    if short && shown { Ok(()) } else { Err(ForeignError::Name { field, characters_max }) }
}

/// A row of so many values.
fn row(name: &str, count: usize, text: &str) -> Result<Vec<f32>, ForeignError> {
    let (row, digits, due) = (name.to_owned(), text.chars().count(), count * DIGITS);
    if digits != due {
        return Err(ForeignError::Digits { row, digits, due });
    }
    values(text).ok_or(ForeignError::NotHexadecimal { row })
}

impl Side for ForeignSide {
    fn identity(&self) -> SideIdentity {
        self.identity.clone()
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        assert!(!tokens.is_empty(), "a call has a token");
        self.with(|side, process| side.run(process, tokens, watcher))
    }

    /// A defect shows in the call that follows.
    fn reset(&mut self) {
        let _ = self.with(|side, process| {
            send(process, &Request::Reset {}, LINE_BYTES);
            side.position = 0;
            match answer(&process.line("reset")?)? {
                Answer::Reset {} => Ok(()),
                other => Err(turn("reset", &other, "reset")),
            }
        });
    }

    fn position(&self) -> usize {
        self.position
    }

    /// The process sends rows, not hashes; what they are hashed with is the engine's.
    fn hasher(&self) -> fn(&[f32]) -> u64 {
        engine::hash_row
    }

    fn copies(&self) -> Option<Copies> {
        None
    }
}

impl Drop for ForeignSide {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            send(&process, &Request::Quit {}, LINE_BYTES);
            process.quit();
        }
    }
}
