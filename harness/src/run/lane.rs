//! One side in its own thread, fed through channels, so that both sides step at the same time.
//!
//! **Invariant:** a panic inside a side ends as an error here; nothing waits for it forever.

mod hashed;
mod relay;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashed::Hashed;
use relay::Relay;

use crate::compare::Key;
use crate::compare::sequence::Record;
use crate::compare::triangle::Rows;
use crate::number::Hash;
use crate::sides::question::{Answer, Question};
use crate::sides::{
    Copies, Hang, Readout, Row, Side, SideError, SideIdentity, TapLevel, Unwatched, Verified,
};

/// How many taps wait between a side and the comparison: enough to keep both busy, few enough
/// that a prompt of any length fits into memory.
const TAPS_IN_FLIGHT: usize = 8;

/// What a readout brought, with the side's own hashes.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Rows and places.
    pub readout: Readout,
    /// The token at the readout's position.
    pub token_id: u32,
    /// Of the hidden state; f64 rows have none.
    pub hidden_hash: Option<Hash>,
    /// Of the logits.
    pub logits_hash: Option<Hash>,
    /// Copies since the side was loaded.
    pub copies: Option<Copies>,
    /// How long the side took.
    pub duration_seconds: f64,
}

impl Reading {
    /// The hidden state as a record.
    pub fn hidden(&self) -> Record {
        self.record("final_norm", &self.readout.hidden, self.hidden_hash)
    }

    /// The logits as a record.
    pub fn logits(&self) -> Record {
        self.record("logits", &self.readout.logits, self.logits_hash)
    }

    /// Both rows, for distances.
    pub fn rows(&self) -> Rows<'_> {
        Rows { hidden: &self.readout.hidden, logits: &self.readout.logits }
    }

    fn record(&self, tap: &'static str, row: &Row, hash: Option<Hash>) -> Record {
        Record { key: self.key(tap), row: row.clone(), hash }
    }

    /// What a row of this readout is paired on.
    pub fn key(&self, tap: &'static str) -> Key {
        let position = self.readout.position;
        Key { token_id: self.token_id, position, layer: None, tap: tap.into() }
    }
}

/// Loads a side inside its thread.
pub type Loader = Box<dyn FnOnce() -> Result<Box<dyn Side>, SideError> + Send>;

enum Request {
    Reset,
    Forward { tokens: Vec<u32>, level: TapLevel, hashes_first: bool },
    Replay { tokens: Vec<u32>, piece_tokens: usize },
    Ask(Question),
}

enum Message {
    Taps(Vec<Record>),
    /// Taps without their rows, each a list of records; the side waits to hear which is wanted.
    Hashes(Vec<Vec<Record>>),
    Done(Box<Result<Reading, SideError>>),
    Answered(Box<Result<Answer, SideError>>),
}

/// A side that has been loaded and waits for tokens.
pub struct Lane {
    name: &'static str,
    about: About,
    requests: Option<Sender<Request>>,
    messages: Receiver<Message>,
    buffer: VecDeque<Record>,
    done: Option<Result<Reading, SideError>>,
    hang: Option<Hang>,
    thread: Option<JoinHandle<()>>,
    hashed: Hashed,
}

/// How often a side that says nothing is asked whether its device hangs.
const HANG_INTERVAL: Duration = Duration::from_millis(200);

/// What a side says of itself once, when it has been loaded.
type About = (SideIdentity, Option<Verified>);

/// A lane whose side is still loading.
pub struct Loading {
    lane: Lane,
    loaded: Receiver<Result<(About, Option<Hang>), SideError>>,
}

impl Loading {
    /// Starts a thread that loads a side.
    pub fn start(name: &'static str, load: Loader) -> Self {
        let (requests, inbox) = channel();
        let (outbox, messages) = sync_channel(TAPS_IN_FLIGHT);
        let (announce, loaded) = channel();
        let (answers, mut wanted) = channel();
        let work = move || {
            let side = match guard(name, load).and_then(|side| side) {
                Ok(side) => side,
                Err(error) => return drop(announce.send(Err(error))),
            };
            let about = (side.identity(), side.verified());
            if announce.send(Ok((about, side.hang()))).is_ok() {
                serve(name, side, &inbox, (&outbox, &mut wanted));
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("lockstep {name}"))
            .spawn(work)
            .expect("the system has no thread for a side");
        let identity = SideIdentity {
            implementation: name.to_owned(),
            device: String::new(),
            build: String::new(),
        };
        let lane = Lane {
            name,
            about: (identity, None),
            requests: Some(requests),
            messages,
            buffer: VecDeque::new(),
            done: None,
            hang: None,
            thread: Some(thread),
            hashed: Hashed::new(answers),
        };
        Self { lane, loaded }
    }

    /// Waits until the side is there.
    pub fn wait(mut self) -> Result<Lane, SideError> {
        let loaded = self.loaded.recv().unwrap_or_else(|_| Err(gone(self.lane.name)));
        (self.lane.about, self.lane.hang) = loaded?;
        Ok(self.lane)
    }
}

impl Lane {
    /// The word for this side in tables and files.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Who the side is.
    pub fn identity(&self) -> &SideIdentity {
        &self.about.0
    }

    /// The weights that the side read back from its device, if it was asked to.
    pub fn verified(&self) -> Option<&Verified> {
        self.about.1.as_ref()
    }

    /// Begins to run tokens after those already there.
    pub fn forward(&mut self, tokens: &[u32], level: TapLevel) {
        let hashes_first = false;
        self.request(Request::Forward { tokens: tokens.to_vec(), level, hashes_first });
    }

    /// The same; where the side can, records come with hashes only, and [`Lane::rows_of`] has the
    /// rows of the tap that came last.
    pub fn forward_hashed(&mut self, tokens: &[u32], level: TapLevel) {
        let hashes_first = true;
        self.request(Request::Forward { tokens: tokens.to_vec(), level, hashes_first });
    }

    /// Forgets the sequence before the next call.
    pub fn reset(&mut self) {
        self.request(Request::Reset);
    }

    /// Begins to run tokens from an empty sequence, in calls of at most `piece_tokens`.
    pub fn replay(&mut self, tokens: &[u32], piece_tokens: usize) {
        assert!(piece_tokens > 0, "a piece has at least one token");
        self.request(Request::Replay { tokens: tokens.to_vec(), piece_tokens });
    }

    /// The next tap of the running call, row by row; `None` when the call has ended.
    pub fn next_record(&mut self) -> Option<Record> {
        while self.buffer.is_empty() && self.done.is_none() {
            self.hashed.nothing_more();
            match self.messages.recv_timeout(HANG_INTERVAL) {
                Ok(Message::Taps(records)) => self.buffer.extend(records),
                Ok(Message::Hashes(taps)) => {
                    self.hashed.shown(&taps);
                    self.buffer.extend(taps.into_iter().flatten());
                }
                Ok(Message::Done(reading)) => self.done = Some(*reading),
                // Of a question whose asker did not wait.
                Ok(Message::Answered(_)) => {}
                Err(RecvTimeoutError::Disconnected) => self.done = Some(Err(gone(self.name))),
                Err(RecvTimeoutError::Timeout) => self.give_up_if_it_hangs(),
            }
        }
        self.buffer.pop_front()
    }

    /// The rows of a tap whose hashes have come and whose neighbours have not been let go yet.
    pub fn rows_of(&mut self, key: &Key) -> Option<Vec<Record>> {
        self.hashed.ask_for(key)?;
        while self.done.is_none() {
            match self.messages.recv_timeout(HANG_INTERVAL) {
                Ok(Message::Taps(records)) => return Some(records),
                Ok(Message::Done(reading)) => self.done = Some(*reading),
                Ok(Message::Hashes(_) | Message::Answered(_)) => {}
                Err(RecvTimeoutError::Disconnected) => self.done = Some(Err(gone(self.name))),
                Err(RecvTimeoutError::Timeout) => self.give_up_if_it_hangs(),
            }
        }
        None
    }

    /// The end of the running call. Taps nobody asked for are let go.
    pub fn finish(&mut self) -> Result<Reading, SideError> {
        while self.next_record().is_some() {}
        self.done.take().unwrap_or_else(|| Err(gone(self.name)))
    }

    /// A side whose device does not answer is left to itself: its thread cannot be ended, so nobody
    /// waits.
    fn give_up_if_it_hangs(&mut self) {
        let Some(message) = self.hang.as_ref().and_then(|hang| hang()) else { return };
        self.done = Some(Err(SideError::Device { side: self.name, message }));
        self.thread = None;
    }

    /// Asks the side, between two calls, and waits for the answer.
    pub fn ask(&mut self, question: Question) -> Result<Answer, SideError> {
        self.request(Request::Ask(question));
        loop {
            match self.messages.recv() {
                Ok(Message::Answered(answer)) => return *answer,
                Ok(_) => {}
                Err(_) => return Err(gone(self.name)),
            }
        }
    }

    fn request(&mut self, request: Request) {
        self.done = None;
        // A send that fails shows when the answer does not come.
        let _ = self.requests.as_ref().map(|requests| requests.send(request));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // The thread ends when its inbox is closed and nobody stands in its outbox.
        self.requests = None;
        self.hashed.close();
        if self.thread.is_none() {
            return;
        }
        while self.messages.recv().is_ok() {}
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn gone(side: &'static str) -> SideError {
    SideError::Panicked { side, message: "its thread has ended".to_owned() }
}

fn serve(
    name: &'static str,
    mut side: Box<dyn Side>,
    inbox: &Receiver<Request>,
    (outbox, wanted): (&SyncSender<Message>, &mut Receiver<Option<usize>>),
) {
    let mut sequence = Vec::new();
    while let Ok(request) = inbox.recv() {
        if let Request::Ask(question) = request {
            let answer = guard(name, || side.answer(&question)).and_then(|answer| answer);
            if outbox.send(Message::Answered(Box::new(answer))).is_err() {
                return;
            }
            continue;
        }
        let work = || -> Result<Option<Reading>, SideError> {
            let begin = Instant::now();
            let readout = match request {
                Request::Ask(_) => unreachable!("questions were answered above"),
                Request::Reset => {
                    side.reset();
                    sequence.clear();
                    return Ok(None);
                }
                Request::Forward { tokens, level, hashes_first } => {
                    sequence.extend_from_slice(&tokens);
                    let (sequence, hasher) = (&sequence, side.hasher());
                    let mut relay = Relay { level, hashes_first, sequence, hasher, outbox, wanted };
                    side.forward(&tokens, &mut relay)?
                }
                Request::Replay { tokens, piece_tokens } => {
                    sequence.clone_from(&tokens);
                    replay(side.as_mut(), &tokens, piece_tokens)?
                }
            };
            let duration_seconds = begin.elapsed().as_secs_f64();
            Ok(Some(reading(side.as_ref(), &sequence, readout, duration_seconds)))
        };
        let answer = match guard(name, work).and_then(|answer| answer).transpose() {
            Some(answer) => answer,
            None => continue,
        };
        // After a panic the state of the side means nothing.
        let broken = matches!(answer, Err(SideError::Panicked { .. }));
        if outbox.send(Message::Done(Box::new(answer))).is_err() || broken {
            return;
        }
    }
}

fn replay(side: &mut dyn Side, tokens: &[u32], piece_tokens: usize) -> Result<Readout, SideError> {
    side.reset();
    let (first, rest) = tokens.split_at(piece_tokens.min(tokens.len()));
    let mut readout = side.forward(first, &mut Unwatched)?;
    for piece in rest.chunks(piece_tokens) {
        readout = side.forward(piece, &mut Unwatched)?;
    }
    Ok(readout)
}

fn reading(side: &dyn Side, sequence: &[u32], readout: Readout, duration_seconds: f64) -> Reading {
    let hasher = side.hasher();
    let hash = |row: &Row| match row {
        Row::F32(values) => Some(Hash(hasher(values))),
        Row::F64(_) => None,
    };
    Reading {
        token_id: token_at(sequence, readout.position),
        hidden_hash: hash(&readout.hidden),
        logits_hash: hash(&readout.logits),
        copies: side.copies(),
        readout,
        duration_seconds,
    }
}

/// The token at a position; a position outside the sequence pairs with nothing.
pub(super) fn token_at(sequence: &[u32], position: usize) -> u32 {
    sequence.get(position).copied().unwrap_or(u32::MAX)
}

fn guard<T>(side: &'static str, work: impl FnOnce() -> T) -> Result<T, SideError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let message = words(payload.as_ref()).to_owned();
        SideError::Panicked { side, message }
    })
}

fn words(payload: &(dyn Any + Send)) -> &str {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without words",
    }
}
