//! `lockstep faults`: every fault planted, and whether the search catches, places and explains it.
//!
//! **Invariant:** what is due was written down before (`cases.rs`); a fault that shows elsewhere is
//! not "caught somehow" but misplaced.

pub mod cases;
pub mod due;
pub mod subject;
pub mod table;
pub mod weak;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;

use crate::compare::{Reason, Verdict};
use crate::event::{Display, Event, Outcome};
use crate::find::examine::Means;
use crate::find::search::Search;
use crate::find::{self, Finding, report};
use crate::identity::{ModelIdentity, OptionsIdentity, RunIdentity};
use crate::run::{Drive, Lanes, Plan, References, run_searching};
use crate::sides::{SideError, TapLevel};
use cases::{Case, Due};
use subject::{Place, Subject};
use weak::{Weak, weigh};

/// Steps of a run: the prompt and what shows a stale graph.
const STEPS: usize = 4;

/// What one fault came to.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Its id; `none` is the run that must not alarm.
    pub id: &'static str,
    /// What it is.
    pub what: &'static str,
    /// On which file.
    pub fixture: String,
    /// Why it was not planted: it cannot show there, and counts as nothing.
    pub skipped: Option<String>,
    /// Whether anything was seen.
    pub caught: bool,
    /// Where.
    pub place: String,
    /// Whether that is where it had to show.
    pub place_right: bool,
    /// Who was blamed.
    pub judgement: String,
    /// Why, by the label of the cause.
    pub cause: String,
    /// Whether that is the cause.
    pub cause_right: bool,
    /// From the first token to the cause.
    pub seconds: f64,
    /// What weaker checks would have passed; nothing where the engine refused to run, or where they
    /// were not asked for.
    pub weak: Option<Weak>,
}

impl Trial {
    /// Whether everything was as it had to be.
    pub fn right(&self) -> bool {
        let found = self.place_right && self.cause_right && self.caught == (self.id != "none");
        self.skipped.is_some() || found
    }
}

/// Why a fault could not be planted.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// The fixture has to stand in a file.
    #[error("cannot write a fixture into the folder for temporary files: {0}")]
    Fixture(#[from] io::Error),
    /// The engine's reader refuses the fixture.
    #[error("the model is refused: {0}")]
    File(#[from] engine::gguf::Error),
    /// The engine computes no such model.
    #[error(transparent)]
    Model(#[from] engine::Error),
    /// A side did not load.
    #[error(transparent)]
    Side(#[from] SideError),
    /// The reference refuses the fixture.
    #[error("the model is refused: {0}")]
    Reference(#[from] reference::Error),
}

/// What came of one run, and what is needed to go on with it.
struct Searched {
    outcome: Outcome,
    search: Search,
    lanes: Lanes,
}

/// Plants one fault on a model and searches for it.
pub fn trial(case: &Case, subject: &mut Subject, place: &Place) -> Result<Trial, FaultsError> {
    let prompt_ids = subject.prompt(case.prompt_tokens);
    let (engine, reference) = subject.sides(case, place)?;
    let lanes = Lanes { engine, references: References::Exact(reference) };
    let mut trial = Trial::of(case, &subject.name);
    let begin = Instant::now();
    let mut searched = search(case, lanes, &prompt_ids)?;
    match &searched.outcome.verdict {
        Verdict::Agrees => trial.clean(case),
        Verdict::Diverges(divergence) => {
            let options = subject.reference_options(case, place.threads);
            let mut operations = reference::Operations::open(&subject.path, &options)?;
            let mut means = Means {
                engine: &mut searched.lanes.engine,
                operations: &mut operations,
                file: &subject.file,
                activations: options.activations,
                kv: options.kv,
            };
            let answer = find::explain(divergence, &searched.search, &mut means);
            trial.found(case, &answer.finding);
        }
        Verdict::Inconclusive(Reason::SideFailed { message }) => trial.refused(case, message),
        Verdict::Inconclusive(reason) => trial.place = reason.to_string(),
    }
    trial.seconds = begin.elapsed().as_secs_f64();
    let Lanes { mut engine, references } = searched.lanes;
    let References::Exact(mut reference) = references else { return Ok(trial) };
    if place.weighs && !failed(&searched.outcome) {
        let theirs = subject.text(case, &mut reference, &prompt_ids)?;
        trial.weak = Some(weigh(&mut engine, theirs, &prompt_ids)?);
    }
    subject.give_back(case, reference);
    Ok(trial)
}

/// The run of a case with every tap watched.
fn search(case: &Case, mut lanes: Lanes, prompt_ids: &[u32]) -> Result<Searched, FaultsError> {
    let plan = Plan {
        prompt_ids: prompt_ids.to_vec(),
        max_tokens: STEPS,
        drive: Drive::Reference,
        level: TapLevel::Op,
        ubatch: case.ubatch,
        end_ids: BTreeSet::new(),
        prefill_decode: false,
        past_end: true,
        text: &|_| None,
        decode: &|_| None,
    };
    let identity = identity(&lanes);
    let mut search = Search::default();
    let never = AtomicBool::new(false);
    let searching = Some(&mut search);
    let outcome = run_searching(&plan, &mut lanes, identity, &never, &mut Unseen, searching)?;
    Ok(Searched { outcome, search, lanes })
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Inconclusive(Reason::SideFailed { .. }))
}

impl Trial {
    /// Nothing yet.
    fn of(case: &Case, on: &str) -> Self {
        Self {
            id: case.fault.map_or("none", engine::Fault::id),
            what: case.what,
            fixture: on.to_owned(),
            skipped: None,
            caught: false,
            place: String::new(),
            place_right: false,
            judgement: String::new(),
            cause: String::new(),
            cause_right: false,
            seconds: 0.0,
            weak: None,
        }
    }

    /// A fault that cannot show, and why.
    pub fn skipped(case: &Case, on: &str, reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::of(case, on) }
    }

    fn clean(&mut self, case: &Case) {
        self.place = "nothing differs".to_owned();
        self.place_right = case.due.is_none();
        self.cause_right = case.due.is_none();
    }

    fn found(&mut self, case: &Case, finding: &Finding) {
        let place = &finding.divergence.place;
        let key = &place.key;
        self.caught = true;
        let layer = key.layer.map_or_else(String::new, |layer| format!("layer {layer} "));
        self.place = format!("{layer}{}, step {}", key.tap, place.step);
        self.place_right = case.due.is_some_and(|due| match due {
            Due::Tap { tap, layer, step } => {
                key.tap == tap && key.layer == layer && place.step == step
            }
            Due::Refused { .. } => false,
        });
        let Some(located) = &finding.located else { return };
        self.judgement = located.judgement.word().to_owned();
        if let Some(cause) = located.diagnosis.first() {
            self.cause = cause.label.words().to_owned();
        }
        self.cause_right = case.labels.contains(&self.cause.as_str());
    }

    fn refused(&mut self, case: &Case, message: &str) {
        self.caught = true;
        // "engine: launch of KERNEL refused: ARGUMENT needs N elements, BUFFER has M".
        let words: Vec<&str> = message.split([' ', ':']).filter(|word| !word.is_empty()).collect();
        let after = |word: &str, count: usize| {
            let at = words.iter().position(|found| *found == word);
            at.and_then(|at| words.get(at + count)).copied().unwrap_or("?")
        };
        self.place = format!("{} refused ({})", after("of", 1), after("refused", 1));
        self.place_right = match case.due {
            Some(Due::Refused { kernel }) => {
                let names = |word: &str| word.starts_with(kernel);
                self.place.split(' ').any(names)
            }
            _ => false,
        };
        self.judgement = "refused".to_owned();
        let cause = report::refusal(message).and_then(|words| words.split(',').next());
        self.cause = cause.unwrap_or_default().to_owned();
        self.cause_right = case.labels.contains(&self.cause.as_str());
    }
}

/// The runner refuses two equal sides by their identities; the rest is not looked at here.
fn identity(lanes: &Lanes) -> RunIdentity {
    RunIdentity {
        lockstep: env!("CARGO_PKG_VERSION"),
        model: ModelIdentity { name: String::new(), sha256: String::new(), bytes: 0 },
        engine: lanes.engine.identity().clone(),
        references: lanes.references().iter().map(|lane| lane.identity().clone()).collect(),
        options: OptionsIdentity {
            device: String::new(),
            reference: "exact".to_owned(),
            activations: "i24".to_owned(),
            kv: String::new(),
            drive: "reference".to_owned(),
            ubatch: 0,
            context_tokens: 0,
            tap: TapLevel::Op,
            threads: 0,
            max_tokens: STEPS,
            past_end: true,
            checking: true,
        },
    }
}

/// The table is what is shown.
struct Unseen;

impl Display for Unseen {
    fn show(&mut self, _event: Event<'_>) -> io::Result<()> {
        Ok(())
    }
}
