//! The process of a foreign engine: lines to it and from it, each within a time and a length.
//!
//! **Invariant:** nothing here waits without a limit, and no line is kept that is longer than the
//! longest answer. Whoever writes and whoever reads has a thread that nobody waits for.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::error::ForeignError;
use super::groups;

/// How many lines wait to be read: an engine that talks without end stands still.
const LINES_WAITING: usize = 2;
/// How long a process may take to end after it was told to.
const END_LIMIT: Duration = Duration::from_secs(2);
/// How often it is asked whether it has.
const END_INTERVAL: Duration = Duration::from_millis(5);

/// A running process.
pub(super) struct Process {
    child: Child,
    outbox: Option<Sender<Vec<u8>>>,
    lines: Receiver<Heard>,
    /// How long a line may be now.
    bytes_max: Arc<AtomicUsize>,
    time_limit: Duration,
}

enum Heard {
    Line(Vec<u8>),
    /// With the most bytes that it might have had.
    TooLong(usize),
    Failed(String),
    Ended,
}

impl Process {
    /// Starts the command: words as a shell cuts them, but no shell.
    pub(super) fn start(command: &str, time_limit: Duration) -> Result<Self, ForeignError> {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let Some(words) = words else {
            return Err(ForeignError::Command { command: command.to_owned() });
        };
        let mut process = Command::new(&words[0]);
        process.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |source| ForeignError::Start { program: words[0].clone(), source };
        let mut child = groups::spawn(&mut process).map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (outbox, requests) = channel();
        let (heard, lines) = sync_channel(LINES_WAITING);
        let (stdin, stdout) = (stdin.expect("it is piped"), stdout.expect("it is piped"));
        std::thread::spawn(move || write(stdin, &requests));
        let bytes_max = Arc::new(AtomicUsize::new(0));
        let limit = Arc::clone(&bytes_max);
        std::thread::spawn(move || read(stdout, &limit, &heard));
        Ok(Self { child, outbox: Some(outbox), lines, bytes_max, time_limit })
    }

    /// Sends a line, whose answers have lines of so many bytes at most. That nobody reads it shows
    /// when the answer does not come.
    pub(super) fn send(&self, line: Vec<u8>, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::SeqCst);
        let _ = self.outbox.as_ref().map(|outbox| outbox.send(line));
    }

    /// The next line.
    pub(super) fn line(&mut self, request: &'static str) -> Result<Vec<u8>, ForeignError> {
        match self.lines.recv_timeout(self.time_limit) {
            Ok(Heard::Line(line)) => Ok(line),
            Ok(Heard::TooLong(bytes_max)) => Err(ForeignError::TooLong { request, bytes_max }),
            Ok(Heard::Failed(message)) => Err(ForeignError::Read { request, message }),
            Ok(Heard::Ended) | Err(RecvTimeoutError::Disconnected) => {
                Err(ForeignError::Ended { request, status: self.status() })
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.time_limit.as_secs();
                Err(ForeignError::Silent { request, seconds })
            }
        }
    }

    fn status(&mut self) -> String {
        match self.ended_within(END_LIMIT) {
            Some(status) => status,
            None => "it closed its output and runs on".to_owned(),
        }
    }

    fn ended_within(&mut self, limit: Duration) -> Option<String> {
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Err(error) => return Some(error.to_string()),
                Ok(None) if begin.elapsed() < limit => std::thread::sleep(END_INTERVAL),
                Ok(None) => return None,
            }
        }
    }

    /// Lets it end by itself for a while.
    pub(super) fn quit(&mut self) {
        self.outbox = None;
        self.ended_within(END_LIMIT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or it is ended here; a process that not even this ends, because a
        // driver holds it, is not waited for.
        groups::end(&mut self.child);
        self.ended_within(END_LIMIT);
    }
}

fn write(mut stdin: ChildStdin, requests: &Receiver<Vec<u8>>) {
    while let Ok(line) = requests.recv() {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read(stdout: ChildStdout, limit: &AtomicUsize, heard: &SyncSender<Heard>) {
    let mut source = BufReader::new(stdout);
    loop {
        let mut bytes = Vec::new();
        // Without a first byte nobody has answered, and nobody may have asked: the limit is that of
        // the request which the line answers. What goes wrong here goes wrong below.
        let _ = source.fill_buf();
        let bytes_max = limit.load(Ordering::SeqCst);
        let mut window = (&mut source).take(bytes_max as u64 + 1);
        let word = match window.read_until(b'\n', &mut bytes) {
            Err(error) => Heard::Failed(error.to_string()),
            Ok(_) if bytes.last() == Some(&b'\n') => {
                bytes.pop();
                Heard::Line(bytes)
            }
            Ok(_) if bytes.len() > bytes_max => Heard::TooLong(bytes_max),
            // Half a line is no answer, and no other half comes.
            Ok(_) => Heard::Ended,
        };
        let last = !matches!(word, Heard::Line(_));
        if heard.send(word).is_err() || last {
            return;
        }
    }
}
