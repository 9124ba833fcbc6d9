//! `lockstep find`: the run, and after its first divergence the operation that made it.
//!
//! **Invariant:** nothing of the run is run again; what is asked afterwards concerns one operation
//! and leaves the engine's sequence as it is.

mod cache;
pub mod distance;
pub mod examine;
pub mod inputs;
pub mod judgement;
pub mod kept;
mod library;
pub mod minimise;
pub mod pattern;
pub mod replay;
pub mod report;
pub mod search;
pub mod witness;

use serde::Serialize;

use crate::compare::{Difference, Divergence, Element, Key, Place};
use crate::diagnose::{Certainty, Diagnosis, Explanation, Label};
use crate::number::Number;
use distance::Distances;
use examine::{Examination, Means, examine};
use judgement::Judgement;
use pattern::Pattern;
use search::{Block, Search};

/// How many sources are named: who has to look at more is looking everywhere.
const LOOK_AT_MAX: usize = 5;

/// What a search says of a divergence.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What kind of place it is.
    pub kind: Kind,
    /// Where the sides part first, in the order of computation.
    pub divergence: Divergence,
    /// More of it, where it is a tap whose rows can be compared.
    pub located: Option<Located>,
    /// Every operation against f64, where bits are not compared.
    pub distances: Option<Distances>,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The rows of a tap.
    Tap,
    /// The readout, although every tap agrees.
    Readout,
    /// The order or the shape of the taps.
    Sequence,
    /// One side alone, cut into other pieces.
    Chunking,
    /// The distance from f64.
    Distance,
}

/// The first operation that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Located {
    /// The row in the pass.
    pub row: usize,
    /// How many rows the tap has.
    pub rows: usize,
    /// The column.
    pub column: usize,
    /// How many.
    pub width: usize,
    /// The head, for taps that have them.
    pub head: Option<usize>,
    /// Which rows and columns differ.
    pub pattern: Pattern,
    /// Who is to blame.
    pub judgement: Judgement,
    /// The tensor that was compared with the file.
    pub weight_checked: Option<String>,
    /// Why.
    pub diagnosis: Diagnosis,
    /// Sources to look at.
    pub look_at: Vec<String>,
}

/// What came of a search: a finding, and what a witness is made of.
pub struct Answer {
    /// What is said.
    pub finding: Finding,
    /// The operation and its surroundings, where there is one.
    pub examination: Option<Examination>,
}

/// Looks into a divergence that a run with a search has shown.
pub fn explain(divergence: &Divergence, search: &Search, means: &mut Means<'_>) -> Answer {
    let Some(found) = search.found() else {
        let kind = kind_of(divergence, search.taps_seen());
        let judged = kind == Kind::Distance && search.taps_seen() > 0;
        let distances = judged.then(|| distance::judge(search, means.operations));
        let divergence = divergence.clone();
        let finding = Finding { kind, divergence, located: None, distances };
        return Answer { finding, examination: None };
    };
    let mut examination = examine(found, search, means);
    how_before_that(&mut examination.diagnosis);
    let block = &examination.found.block;
    let differing = block.differing();
    let (row, column) = (differing[0] / block.width, differing[0] % block.width);
    let head_size = means.operations.config().head_size;
    let heads = inputs::has_heads(&block.tap).then_some(head_size);
    let mut look_at = vec![inputs::kernel(&block.tap).to_owned()];
    if let Some(cause) = examination.diagnosis.first() {
        look_at.splice(0..0, cause.look_at.iter().map(|place| (*place).to_owned()));
        let mut seen = Vec::new();
        look_at.retain(|place| {
            let new = !seen.contains(place);
            seen.push(place.clone());
            new
        });
    }
    look_at.truncate(LOOK_AT_MAX);
    let finding = Finding {
        kind: Kind::Tap,
        divergence: divergence_of(&examination, block, &differing),
        distances: None,
        located: Some(Located {
            row,
            rows: block.tokens.len(),
            column,
            width: block.width,
            head: heads.map(|size| column / size),
            pattern: Pattern::of(block, heads),
            judgement: examination.judgement.clone(),
            weight_checked: examination.weight_checked.clone(),
            diagnosis: examination.diagnosis.clone(),
            look_at,
        }),
    };
    Answer { finding, examination: Some(examination) }
}

/// That the device holds other bytes than the file is said after how they are other.
fn how_before_that(diagnosis: &mut Diagnosis) {
    let says_how = |label| {
        use Label::{Transposed, WeightType, WrongLayer, WrongMatrix};
        matches!(label, Transposed | WeightType | WrongLayer | WrongMatrix)
    };
    let how = diagnosis
        .explanations
        .iter()
        .any(|other| says_how(other.label) && other.certainty == Certainty::Exact);
    // A tensor of another layer may be the same rows in another order, if these are alike.
    let that = |other: &Explanation| {
        matches!(other.label, Label::MemoryCorruption | Label::WrongRow)
            && other.parameters.contains_key("tensor")
    };
    if how && diagnosis.first().is_some_and(that) {
        diagnosis.explanations.sort_by_key(|other| (other.certainty, !says_how(other.label)));
    }
}

fn divergence_of(examination: &Examination, block: &Block, differing: &[usize]) -> Divergence {
    let number = |values: &[f32], index: usize| Number::F32(values[index]);
    let finite =
        |index: &usize| block.expected[*index].is_finite() == block.actual[*index].is_finite();
    let index = differing[0];
    let (row, column) = (index / block.width, index % block.width);
    let key = Key {
        token_id: block.tokens[row],
        position: block.first_position + row,
        layer: block.layer,
        tap: block.tap.clone(),
    };
    let (step, phase) = (examination.found.step, examination.found.phase);
    let (expected, actual) = (number(&block.expected, index), number(&block.actual, index));
    Divergence {
        difference: match differing.iter().all(finite) {
            true => Difference::Bits,
            false => Difference::NonFinite,
        },
        place: Place { key, step, phase },
        element: Some(Element::new(column, expected, actual)),
        differing_count: differing.len(),
        elements_count: block.expected.len(),
    }
}

fn kind_of(divergence: &Divergence, taps_seen: usize) -> Kind {
    match divergence.difference {
        Difference::Chunking { .. } => Kind::Chunking,
        Difference::Distance { .. } | Difference::Top1 { .. } => Kind::Distance,
        Difference::Sequence { .. } | Difference::Length { .. } | Difference::Precision => {
            Kind::Sequence
        }
        Difference::NonFinite | Difference::Bits | Difference::Hash { .. } if taps_seen > 0 => {
            Kind::Readout
        }
        Difference::NonFinite | Difference::Bits | Difference::Hash { .. } => Kind::Sequence,
    }
}
