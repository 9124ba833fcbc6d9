//! Which of the project's ten rules a file breaks, how often, and where first.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::{Kind, Seen};
use crate::compare::Phase;

/// One way of breaking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// Rule 1: no token id, so that records are paired on their step.
    NoToken,
    /// Rule 1: not even a position.
    NoPosition,
    /// Rule 1: a second run behind the first, whose steps begin again.
    SecondRun,
    /// Rule 1: one place, several records.
    PlaceTwice,
    /// Rule 1: the prompt's last record and the first of decode are of two positions.
    PhasesOfTwoTokens,
    /// Rule 2: positions that nothing was written for.
    PositionsMissing,
    /// Rule 2: steps that nothing was written for.
    StepsMissing,
    /// Rule 2: nothing says that the file is whole.
    NoEnd,
    /// Rule 3: the hash reads 256 values.
    PrefixHash,
    /// Rule 3: figures or values of the first part of a row.
    PartFigures,
    /// Rule 3: NaN and infinities are not counted.
    NotCounted,
    /// Rule 3: `nan` or `inf` without quotes is no JSON.
    BareNonFinite,
    /// Rule 3: a key twice in one object, of which a reader keeps one.
    KeyTwice,
    /// Rule 5: nobody says who computed.
    NoIdentity,
    /// Rule 8: the instrument fed the layer itself.
    InputOverridden,
    /// Rule 9: the engine's own check said no, and the run went on.
    AlarmIgnored,
    /// Rule 10: no model, build, device or options.
    NoOrigin,
    /// No rule: a weight among the rows.
    Weight,
}

impl Defect {
    /// The number of the rule; none for what is only said.
    pub fn rule(self) -> Option<u8> {
        Some(match self {
            Self::NoToken
            | Self::NoPosition
            | Self::SecondRun
            | Self::PlaceTwice
            | Self::PhasesOfTwoTokens => 1,
            Self::PositionsMissing | Self::StepsMissing | Self::NoEnd => 2,
            Self::PrefixHash
            | Self::PartFigures
            | Self::NotCounted
            | Self::BareNonFinite
            | Self::KeyTwice => 3,
            Self::NoIdentity => 5,
            Self::InputOverridden => 8,
            Self::AlarmIgnored => 9,
            Self::NoOrigin => 10,
            Self::Weight => return None,
        })
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoToken => "no token id: only the step pairs such a record",
            Self::NoPosition => "no position",
            Self::SecondRun => "another run begins in the same file: its steps stand there again",
            Self::PlaceTwice => "one position, layer and tap stands in several records of a run",
            Self::PhasesOfTwoTokens => {
                "prefill_last and the first decode are of two positions: by phase, two tokens \
                 would be compared"
            }
            Self::PositionsMissing => "a position is passed over: its record is missing",
            Self::StepsMissing => "a step is passed over: its record is missing",
            Self::NoEnd => "nothing says where the file ends: a cut is not seen",
            Self::PrefixHash => "the hash reads at most 256 values of the row",
            Self::PartFigures => "figures or values of the first part of a row only",
            Self::NotCounted => "NaN and infinities are not counted",
            Self::BareNonFinite => "nan or inf stands bare, which is no JSON",
            Self::KeyTwice => "a key stands twice in one object: readers keep one of the values",
            Self::NoIdentity => "no line says who computed: it could be compared with itself",
            Self::InputOverridden => "the instrument had put the input there itself",
            Self::AlarmIgnored => "the engine's own check reports a mismatch, and the run goes on",
            Self::NoOrigin => "no line names model, build, device, driver or options",
            Self::Weight => "a weight, which stands at no position: not brought in",
        }
    }
}

/// A defect, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub defect: Defect,
    /// How many lines show it.
    pub count: usize,
    /// The first of them.
    pub first_line: usize,
}

/// Counts defects.
#[derive(Default)]
struct Tally(BTreeMap<Defect, (usize, usize)>);

impl Tally {
    fn note(&mut self, defect: Defect, line: usize) {
        let (count, first) = self.0.entry(defect).or_insert((0, line));
        *count += 1;
        *first = line.min(*first);
    }
}

/// Everything that is wrong with a file, the runs of which are given.
pub(super) fn findings(runs: &[Vec<Seen>]) -> Vec<Finding> {
    let mut tally = Tally::default();
    for seen in runs.iter().flatten() {
        seen.defects.iter().for_each(|&defect| tally.note(defect, seen.line));
    }
    for run in runs.iter().skip(1).filter_map(|run| run.first()) {
        tally.note(Defect::SecondRun, run.line);
    }
    for run in runs {
        places(run, &mut tally);
        phases(run, &mut tally);
        gaps(run, &mut tally);
    }
    let last = runs.iter().flatten().map(|seen| seen.line).max().unwrap_or(1);
    tally.note(Defect::NoEnd, last);
    tally.note(Defect::NoIdentity, 1);
    tally.note(Defect::NoOrigin, 1);
    let finding = |(defect, (count, first_line))| Finding { defect, count, first_line };
    tally.0.into_iter().map(finding).collect()
}

/// Records at a place where there is one already.
fn places(run: &[Seen], tally: &mut Tally) {
    let mut taken = BTreeMap::new();
    for seen in run {
        for record in &seen.rows {
            let place = (record.position, record.layer, record.tap.as_str(), record.token_id);
            if taken.insert(place, ()).is_some() {
                tally.note(Defect::PlaceTwice, seen.line);
            }
        }
    }
}

/// What a comparison of the phases would have compared.
fn phases(run: &[Seen], tally: &mut Tally) {
    let rows = || run.iter().flat_map(|seen| seen.rows.iter().map(move |row| (seen, row)));
    let mut of_prompt = BTreeMap::new();
    for (_, row) in rows().filter(|(_, row)| row.phase == Phase::PrefillLast) {
        of_prompt.insert((row.layer, row.tap.as_str()), row.position);
    }
    let mut noted = None;
    for (seen, row) in rows().filter(|(_, row)| row.phase == Phase::Decode) {
        let Some(position) = of_prompt.remove(&(row.layer, row.tap.as_str())) else { continue };
        if position != row.position && noted != Some(seen.line) {
            tally.note(Defect::PhasesOfTwoTokens, seen.line);
            noted = Some(seen.line);
        }
    }
}

/// Positions and steps that were passed over.
fn gaps(run: &[Seen], tally: &mut Tally) {
    let (mut position, mut step) = (None::<usize>, None::<usize>);
    for seen in run.iter().filter(|seen| !seen.is_weight()) {
        if let (Some(before), Some(here)) = (step, seen.step)
            && here > before + 1
        {
            tally.note(Defect::StepsMissing, seen.line);
        }
        step = seen.step.or(step);
        if let (Some(before), Some(here)) = (position, seen.position)
            && here > before + 1
            && seen.kind != Kind::Landscape
        {
            tally.note(Defect::PositionsMissing, seen.line);
        }
        position = seen.position.or(position);
    }
}
