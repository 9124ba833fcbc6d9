//! The files of a folder as the page needs them; a killed run ends with its last whole line.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PageError;
use crate::compare::neighbourhood::Neighbourhood;
use crate::compare::outcomes::State;
use crate::report::taps::{ReadLine, TapName, states};

/// A token on top of a side's logits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Top {
    pub(super) id: u32,
    pub(super) logit: Value,
    pub(super) text: Option<String>,
}

/// One side's landscape at one step.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Landscape {
    pub(super) side: String,
    pub(super) step: usize,
    #[serde(default)]
    pub(super) gap: Value,
    #[serde(default)]
    pub(super) entropy_topk: Value,
    #[serde(default)]
    pub(super) top5: Vec<Top>,
}

/// One side's readout at one step, or of one chunking.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Readout {
    pub(super) side: String,
    pub(super) step: usize,
    pub(super) pos_id: usize,
    pub(super) token_id: u32,
    pub(super) token: Option<String>,
    #[serde(default)]
    pub(super) tokens_total: usize,
    pub(super) hidden_hash: Option<String>,
    pub(super) logits_hash: Option<String>,
    pub(super) verdict: String,
    pub(super) chunking: Option<String>,
}

/// What the taps of one step came to.
#[derive(Debug)]
pub(super) struct StepTaps {
    pub(super) step: usize,
    /// Which list of names holds.
    pub(super) names: usize,
    pub(super) runs: Vec<(usize, State)>,
    pub(super) shares: Option<Vec<f64>>,
    pub(super) verdict: String,
    pub(super) message: Option<String>,
}

/// What a search said.
#[derive(Debug, Deserialize)]
pub(super) struct Finding {
    #[serde(default)]
    pub(super) facts: Vec<(String, String)>,
    pub(super) witness: Option<String>,
}

/// A fault that was planted.
#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) caught: bool,
    pub(super) place: String,
    pub(super) place_right: bool,
    #[serde(default)]
    pub(super) judgement: String,
    pub(super) cause: String,
    pub(super) cause_right: bool,
}

/// A case of a suite.
#[derive(Debug, Deserialize)]
pub(super) struct SuiteCase {
    pub(super) name: String,
    pub(super) verdict: String,
    #[serde(default)]
    pub(super) exit_code: Value,
    #[serde(default)]
    pub(super) duration_seconds: f64,
    #[serde(default)]
    pub(super) message: String,
    /// Null where nothing was compared.
    #[serde(default)]
    pub(super) figures: Value,
}

/// `suite.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Suite {
    pub(super) suite: String,
    #[serde(default)]
    pub(super) complete: bool,
    #[serde(default)]
    pub(super) exit_code: Value,
    #[serde(default)]
    pub(super) cases_count: usize,
    pub(super) cases: Vec<SuiteCase>,
}

/// The files of a run.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) identity: Value,
    pub(super) verdict: Option<Value>,
    pub(super) landscapes: Vec<Landscape>,
    pub(super) readouts: Vec<Readout>,
    pub(super) chunkings: Vec<Readout>,
    pub(super) names: Vec<Vec<TapName>>,
    pub(super) taps: Vec<StepTaps>,
    pub(super) neighbourhood: Option<Neighbourhood>,
    pub(super) finding: Option<Finding>,
    /// What could not be read, in words.
    pub(super) damage: Vec<String>,
}

/// The whole folder.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) run: Option<Run>,
    pub(super) suite: Option<Suite>,
    pub(super) faults: Vec<Fault>,
}

/// Reads a folder of `--out`.
pub(super) fn folder(path: &Path) -> Result<Contents, PageError> {
    let mut damage = Vec::new();
    Ok(Contents {
        run: run(path)?,
        suite: whole(path, "suite.json")?,
        faults: lines(path, "faults.json", &mut damage)?,
    })
}

/// Reads the files of one run; nothing where none has been begun.
pub(super) fn run(path: &Path) -> Result<Option<Run>, PageError> {
    let mut run = Run { verdict: whole(path, "verdict.json")?, ..Run::default() };
    let mut damage = Vec::new();
    let landscape: Vec<Value> = lines(path, "landscape.jsonl", &mut damage)?;
    let identities = landscape.iter().find_map(|line| line.get("identity"));
    let identity = run.verdict.as_ref().and_then(|verdict| verdict.get("identity"));
    let Some(identity) = identity.or(identities) else { return Ok(None) };
    run.identity = identity.clone();
    run.landscapes = known(landscape);
    run.readouts = known(lines(path, "readout.jsonl", &mut damage)?);
    run.chunkings = known(lines(path, "prefill_decode.jsonl", &mut damage)?);
    run.neighbourhood = whole(path, "divergence.json")?;
    run.finding = whole(path, "finding.json")?;
    for line in lines::<ReadLine>(path, "taps.jsonl", &mut damage)? {
        run.tap_line(line);
    }
    run.damage = damage;
    Ok(Some(run))
}

/// Lines of another kind, as the identity's, are no records.
fn known<T: DeserializeOwned>(lines: Vec<Value>) -> Vec<T> {
    lines.into_iter().filter_map(|line| serde_json::from_value(line).ok()).collect()
}

impl Run {
    fn tap_line(&mut self, line: ReadLine) {
        if let Some(names) = line.taps {
            self.names.push(names);
        }
        let (Some(step), Some(outcomes)) = (line.step, line.outcomes) else { return };
        let (Some(names), Some(runs)) = (self.names.len().checked_sub(1), states(&outcomes)) else {
            return;
        };
        let known = self.names[names].len();
        // A length that does not fit speaks of other taps.
        if runs.iter().try_fold(0, |sum: usize, (count, _)| sum.checked_add(*count)) != Some(known)
        {
            self.damage.push(format!("taps.jsonl: step {step} does not fit its list of taps"));
            return;
        }
        let shares = line.bound_shares.map(|shares| shares.iter().map(number).collect());
        let verdict = line.verdict.unwrap_or_default();
        let message = line.message;
        self.taps.push(StepTaps { step, names, runs, shares, verdict, message });
    }
}

/// A figure of the files: a number, or the name of what is none.
pub(super) fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) => text.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

fn open(path: &Path) -> Result<Option<File>, PageError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PageError::Read { path: path.to_path_buf(), source }),
    }
}

fn whole<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, PageError> {
    let path = folder.join(name);
    let Some(file) = open(&path)? else { return Ok(None) };
    let read = serde_json::from_reader(BufReader::new(file));
    read.map(Some).map_err(|source| PageError::Syntax { path, source })
}

/// The lines up to the first that is none; the last may be torn where a run was killed.
fn lines<T: DeserializeOwned>(
    folder: &Path,
    name: &str,
    damage: &mut Vec<String>,
) -> Result<Vec<T>, PageError> {
    let path = folder.join(name);
    let Some(file) = open(&path)? else { return Ok(Vec::new()) };
    let (mut reader, mut line, mut found) = (BufReader::new(file), Vec::new(), Vec::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line);
        let count = count.map_err(|source| PageError::Read { path: path.clone(), source })?;
        if count == 0 {
            return Ok(found);
        }
        match serde_json::from_slice(&line) {
            Ok(value) => found.push(value),
            Err(_) => {
                let number = found.len() + 1;
                damage.push(format!(
                    "{name}: line {number} is not whole, and nothing after it is read"
                ));
                return Ok(found);
            }
        }
    }
}
