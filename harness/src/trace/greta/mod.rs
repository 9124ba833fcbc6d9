//! GRETA CORE's traces in the form of this project, with the rules that each file breaks.
//!
//! Its instruments wrote five kinds of lines over sixty reports; what they share is that none says
//! who computed what. The rules have the numbers that the project gives them.

mod line;
mod repair;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::parse::Lines;
use super::{Ending, HashKind, Header, Precision, Record, Trace, TraceError, VERSION};
use crate::compare::Phase;
use crate::sides::SideIdentity;
use line::Seen;

pub use line::Kind;
pub use rules::{Defect, Finding};

/// The numbers were printed by a C++ stream in its default precision.
const DIGITS: u32 = 6;

/// Why a file cannot be brought in.
#[derive(Debug, thiserror::Error)]
pub enum GretaError {
    /// A line is damaged.
    #[error("{file}: {source}")]
    Line {
        /// The file.
        file: String,
        /// The defect, with its line.
        source: TraceError,
    },
    /// A line of a kind nobody knows.
    #[error("{file}: line {line} is of no known kind: its first fields are {fields}")]
    UnknownLine {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// Names of a few fields.
        fields: String,
    },
    /// There is no such run.
    #[error("there is no run {asked}: the files have {found}")]
    NoRun {
        /// Counted from 1.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// The prompt that was given is of another length.
    #[error(
        "{count} prompt ids were given, but the prompt's last row stands at position {position}"
    )]
    Prompt {
        /// How many ids.
        count: usize,
        /// Where the last row of the prompt stands.
        position: usize,
    },
}

impl GretaError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Line { .. } => "cut that line out, or get the file again".into(),
            Self::UnknownLine { .. } => {
                "readout, prefill_decode, landscape, stage traces and metrics with data are read"
                    .into()
            }
            Self::NoRun { found, .. } => format!("give --run a number from 1 to {found}"),
            Self::Prompt { position, .. } => {
                format!("give --tokens the {} ids of the prompt", position + 1)
            }
        }
    }
}

/// What the files themselves do not say.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which run, counted from 1.
    pub run: usize,
    /// How many layers the model has.
    pub layers_count: Option<usize>,
    /// The ids of the prompt.
    pub prompt_ids: Option<Vec<u32>>,
    /// Where it ran.
    pub device: Option<String>,
    /// What was built.
    pub build: Option<String>,
}

/// One file, as it was found.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// How many lines it has.
    pub lines_count: usize,
    /// Of which kinds.
    pub kinds: Vec<Kind>,
    /// How many runs stand in it.
    pub runs_count: usize,
    /// What it breaks, by rule.
    pub findings: Vec<Finding>,
}

/// What was brought in.
#[derive(Debug)]
pub struct Import {
    /// One run in our form.
    pub trace: Trace,
    /// Each file.
    pub files: Vec<FileReport>,
    /// Rows whose token was derived: the largest logit of the step before.
    pub derived_count: usize,
    /// Rows whose token nobody knows.
    pub unknown_count: usize,
    /// Lines that are of weights, which stand at no position.
    pub weights_count: usize,
}

/// Brings one run of one or more files into our form.
pub fn import(sources: &[(String, Vec<u8>)], wish: &Wish) -> Result<Import, GretaError> {
    let mut files = Vec::new();
    let mut seen = Vec::new();
    let mut runs_count = 0;
    for (name, bytes) in sources {
        let mut runs = read(name, bytes, wish)?;
        files.push(report(name, &runs));
        runs_count = runs_count.max(runs.len());
        if wish.run >= 1 && wish.run <= runs.len() {
            seen.append(&mut runs.swap_remove(wish.run - 1));
        }
    }
    if wish.run == 0 || wish.run > runs_count {
        return Err(GretaError::NoRun { asked: wish.run, found: runs_count });
    }
    assemble(seen, files, wish)
}

/// Every line of a file, cut into runs.
fn read(name: &str, bytes: &[u8], wish: &Wish) -> Result<Vec<Vec<Seen>>, GretaError> {
    let failed = |source| GretaError::Line { file: name.to_owned(), source };
    let mut lines = Lines::of(bytes);
    let mut runs: Vec<Vec<Seen>> = Vec::new();
    while let Some(next) = lines.next_line().map_err(failed)? {
        let seen = line::read(name, next.number, &next.bytes, wish.layers_count)?;
        match runs.last_mut() {
            Some(run) if !begins(run, &seen) => run.push(seen),
            _ => runs.push(vec![seen]),
        }
    }
    if runs.is_empty() { Err(failed(TraceError::Empty)) } else { Ok(runs) }
}

/// Files are appended to: a step that goes back, or another prompt, is another run.
fn begins(run: &[Seen], next: &Seen) -> bool {
    let Some(last) = run.last() else { return true };
    let other_prompt = last.prompt != next.prompt;
    let goes_back = match (last.step, next.step) {
        // One line a step in these; stages and metrics have several.
        (Some(before), Some(step)) if next.kind.one_line_a_step() => step <= before,
        (Some(before), Some(step)) => step < before,
        _ => false,
    };
    other_prompt || goes_back
}

fn report(name: &str, runs: &[Vec<Seen>]) -> FileReport {
    let mut kinds: Vec<Kind> = runs.iter().flatten().map(|seen| seen.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    FileReport {
        name: name.to_owned(),
        lines_count: runs.iter().map(Vec::len).sum(),
        kinds,
        runs_count: runs.len(),
        findings: rules::findings(runs),
    }
}

/// One run of all files as a trace.
fn assemble(
    mut seen: Vec<Seen>,
    files: Vec<FileReport>,
    wish: &Wish,
) -> Result<Import, GretaError> {
    let last_prompt = seen.iter().find(|seen| seen.phase == Some(Phase::PrefillLast));
    if let (Some(ids), Some(position)) =
        (&wish.prompt_ids, last_prompt.and_then(|seen| seen.position))
        && ids.len() != position + 1
    {
        return Err(GretaError::Prompt { count: ids.len(), position });
    }
    let places = places(&seen);
    let choices = choices(&seen, &places);
    let known = |position: usize| {
        let prompt = wish.prompt_ids.as_ref().and_then(|ids| ids.get(position)).copied();
        prompt.or_else(|| choices.get(&position).copied())
    };
    let weights_count = seen.iter().filter(|seen| seen.is_weight()).count();
    let (mut records, mut landscapes): (Vec<Record>, Vec<_>) = (Vec::new(), Vec::new());
    let (mut derived_count, mut unknown_count) = (0, 0);
    for line in &mut seen {
        for mut record in line.rows.drain(..) {
            if record.token_id.is_none() {
                record.token_id = known(record.position);
                match record.token_id {
                    Some(_) => derived_count += 1,
                    None => unknown_count += 1,
                }
            }
            records.push(record);
        }
        if let Some(mut landscape) = line.landscape.take() {
            landscape.position = landscape.position.or(places.get(&landscape.step).copied());
            landscape.token_id = landscape.position.and_then(known);
            landscapes.push(landscape);
        }
    }
    // In the order of computation, whatever the order of the files.
    records.sort_by_key(|record| record.step);
    landscapes.sort_by_key(|landscape| landscape.step);
    let trace = Trace {
        header: header(wish),
        records,
        landscapes,
        // No file says where it ends.
        ending: Ending::Early { cut_bytes: 0 },
    };
    Ok(Import { trace, files, derived_count, unknown_count, weights_count })
}

/// The position of each step, where a line says it.
fn places(seen: &[Seen]) -> BTreeMap<usize, usize> {
    seen.iter().filter_map(|seen| Some((seen.step?, seen.position?))).collect()
}

/// The greedy choices, by the position at which each was run.
fn choices(seen: &[Seen], places: &BTreeMap<usize, usize>) -> BTreeMap<usize, u32> {
    let chosen = seen.iter().filter_map(|seen| {
        let landscape = seen.landscape.as_ref()?;
        let (step, top) = (landscape.step, landscape.top.first()?);
        let (before, after) = (places.get(&step)?, places.get(&(step + 1))?);
        // A step that jumps ran something else.
        (*after == before + 1).then_some((*after, top.id))
    });
    chosen.collect()
}

fn header(wish: &Wish) -> Header {
    let said = |word: &Option<String>| word.clone().unwrap_or_else(|| "not recorded".to_owned());
    Header {
        trace: VERSION,
        written_by: format!("lockstep {} import greta", env!("CARGO_PKG_VERSION")),
        side: SideIdentity {
            implementation: "GRETA CORE".to_owned(),
            device: said(&wish.device),
            build: said(&wish.build),
        },
        model: None,
        contract: None,
        precision: Precision::F32,
        digits: Some(DIGITS),
        hash: HashKind::Foreign,
        tap: None,
        options: None,
        prompt_ids: wish.prompt_ids.clone(),
    }
}
