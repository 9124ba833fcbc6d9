//! `--record` and `--against`: which case's reference is noted down, read, or computed, and why.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::cli::Failure;
use crate::cli::options::{ReferenceChoice, RunOptions, word};
use crate::cli::run::Begun;
use crate::cli::sides::Source;
use crate::event::{Outcome, Stopped};
use crate::run::Drive;
use crate::sides::TapLevel;
use crate::sides::recorded::Log;
use crate::sides::recording::{Recording, RecordingKey};

/// The folders of recordings.
#[derive(Clone, Debug, Default)]
pub(super) struct Recordings {
    record: Option<PathBuf>,
    against: Option<PathBuf>,
    /// What this suite has written: a later case with the same reference takes it.
    written: RefCell<BTreeSet<PathBuf>>,
}

/// What becomes of a case's reference.
pub(super) struct Chosen {
    /// Where the side comes from.
    pub(super) source: Source,
    /// What is said of it; nothing where nothing was asked.
    pub(super) words: Option<String>,
    log: Option<(Log, RecordingKey)>,
}

impl Recordings {
    pub(super) fn new(record: Option<PathBuf>, against: Option<PathBuf>) -> Self {
        Self { record, against, written: RefCell::default() }
    }

    /// Looks for a recording of what a case is about to run.
    pub(super) fn choose(
        &self,
        options: &RunOptions,
        begun: &Begun,
        dated: bool,
    ) -> Result<Chosen, Failure> {
        let live = |words: Option<String>| Chosen { source: Source::Live, words, log: None };
        if self.record.is_none() && self.against.is_none() {
            return Ok(live(None));
        }
        // Nobody would read it: there are other tokens tomorrow.
        let dated = dated.then_some("its tokens are not those of the file");
        if let Some(why) = cannot_be_recorded(options).or(dated) {
            return Ok(live(Some(format!("reference computed: {why}"))));
        }
        let key = RecordingKey {
            model_sha256: begun.identity.sha256.clone(),
            activations: word(options.activations),
            kv: word(options.kv),
            max_tokens: options.max_tokens,
            past_end: options.past_end,
            prompt_ids: begun.prompt_ids.clone(),
        };
        if let Some(path) = self.find(&key) {
            let recording = Recording::read(&path, &key)?;
            let words = format!("reference recorded, {} steps", recording.steps());
            let source = Source::Recorded(recording);
            return Ok(Chosen { source, words: Some(words), log: None });
        }
        if self.record.is_none() {
            return Ok(live(Some("reference computed: it has no recording".to_owned())));
        }
        let log = Log::default();
        let source = Source::Noted(log.clone());
        Ok(Chosen { source, words: None, log: Some((log, key)) })
    }

    /// The file of a key, if it may be used.
    fn find(&self, key: &RecordingKey) -> Option<PathBuf> {
        let name = key.file_name();
        let before = self.against.as_ref().map(|folder| folder.join(&name));
        let before = before.filter(|path| path.exists());
        let now = self.record.as_ref().map(|folder| folder.join(&name));
        before.or(now.filter(|path| self.written.borrow().contains(path)))
    }

    /// After the run: writes what was noted down, if the steps came to their end.
    pub(super) fn keep(
        &self,
        log: Option<(Log, RecordingKey)>,
        outcome: &Outcome,
    ) -> Result<Option<String>, Failure> {
        let (Some(folder), Some((log, key))) = (&self.record, log) else { return Ok(None) };
        let whole = matches!(outcome.stopped, Stopped::MaxTokens | Stopped::EndOfText);
        if !whole {
            return Ok(Some("reference not recorded: its steps did not end".to_owned()));
        }
        let written = log.write(folder, key)?;
        self.written.borrow_mut().extend(written.clone());
        Ok(Some(match written {
            Some(_) => format!("reference computed and recorded, {} steps", outcome.steps_compared),
            None => "reference not recorded: there was no step".to_owned(),
        }))
    }
}

impl Chosen {
    /// The source, and what is needed after the run.
    pub(super) fn into_parts(self) -> (Source, Option<String>, Option<(Log, RecordingKey)>) {
        (self.source, self.words, self.log)
    }
}

/// A recording has readouts of `exact`, on tokens that `exact` has chosen.
fn cannot_be_recorded(options: &RunOptions) -> Option<&'static str> {
    if options.reference != ReferenceChoice::Exact {
        return Some("only `exact` is recorded");
    }
    if options.tap != TapLevel::Readout {
        return Some("a recording has no taps");
    }
    (options.drive == Drive::Engine).then_some("the engine chooses the tokens")
}
