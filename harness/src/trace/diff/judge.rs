//! One pair of records: lengths, then NaN and infinities by count, then bits or figures.

use std::collections::BTreeMap;

use super::{Evidence, Finding, Parting, finding};
use crate::compare::limits::{FIGURES, TOP1_GAP};
use crate::compare::rows::{self, RowVerdict};
use crate::compare::{Key, rows::RowDifference};
use crate::event::RowFacts;
use crate::number::{Hash, Number};
use crate::sides::Row;
use crate::trace::{Header, Landscape, Record, Trace};

/// What a pair says.
#[derive(Debug, PartialEq)]
pub(super) enum Judgement {
    /// Equal bits, or figures that are alike.
    Alike,
    /// Another row.
    Parts(Parting),
    /// The same counts of NaN and infinities, and some.
    NonFinite,
    /// The figures cover different elements.
    Incomparable,
}

/// Bits only where both hashes are there.
pub(super) fn evidence(header: Evidence, a: &Record, b: &Record) -> Evidence {
    match (header, a.hash, b.hash) {
        (Evidence::Bits, Some(_), Some(_)) => Evidence::Bits,
        _ => Evidence::Statistics,
    }
}

/// Judges a pair.
pub(super) fn judge(
    by: Evidence,
    one: &Header,
    two: &Header,
    (a, b): (&Record, &Record),
) -> Judgement {
    if let (Some(length_a), Some(length_b)) = (a.elements_count, b.elements_count)
        && length_a != length_b
    {
        return Judgement::Parts(Parting::Length { a: length_a, b: length_b });
    }
    let figures = match by {
        Evidence::Bits => Some((Figures::of(a, one), Figures::of(b, two))),
        Evidence::Statistics => covered(a, b, one, two),
    };
    let Some((figures_a, figures_b)) = figures else { return Judgement::Incomparable };
    if let Some(parting) = figures_a.non_finite(&figures_b) {
        return Judgement::Parts(parting);
    }
    let parting = match by {
        Evidence::Bits => bits(a, b),
        Evidence::Statistics => {
            figures_a.parting(&figures_b).or_else(|| sample(a, b, &figures_a, &figures_b))
        }
    };
    match parting {
        Some(parting) => Judgement::Parts(parting),
        None if figures_a.has_non_finite() => Judgement::NonFinite,
        None => Judgement::Alike,
    }
}

/// Whether a difference that is planted into a copy of B is seen.
pub(super) fn canary(by: Evidence, one: &Header, two: &Header, (a, b): (&Record, &Record)) -> bool {
    let mut flipped = b.clone();
    match by {
        Evidence::Bits => flipped.hash = flipped.hash.map(|hash| Hash(hash.0 ^ 1)),
        Evidence::Statistics => {
            let (min, max) = (flipped.min.to_f64(), flipped.max.to_f64());
            // As far off as the row is large.
            let far = max + 2.0 * min.abs().max(max.abs()).max(f64::MIN_POSITIVE);
            (flipped.max, flipped.row) = (Number::F64(far), None);
        }
    }
    matches!(judge(by, one, two, (a, &flipped)), Judgement::Parts(_))
}

fn bits(a: &Record, b: &Record) -> Option<Parting> {
    let (hash_a, hash_b) = (a.hash?, b.hash?);
    if hash_a == hash_b {
        return None;
    }
    let mut parting = Parting::Bits { hash_a, hash_b, element: None, differing_count: None };
    if let (Some(row_a), Some(row_b)) = (&a.row, &b.row)
        && let RowVerdict::Differs(RowDifference { element, differing_count, .. }) =
            rows::compare(&Row::F32(row_a.clone()), &Row::F32(row_b.clone()))
    {
        let differing_count = Some(differing_count);
        parting = Parting::Bits { hash_a, hash_b, element, differing_count };
    }
    Some(parting)
}

/// A row in a few figures, and how well each is known.
#[derive(Clone, Debug)]
struct Figures {
    min: f64,
    max: f64,
    mean: f64,
    nan: Option<usize>,
    inf: Option<usize>,
    digits: Option<u32>,
}

/// The figures of both over the same elements, where there are such.
fn covered(a: &Record, b: &Record, one: &Header, two: &Header) -> Option<(Figures, Figures)> {
    let (own_a, own_b) = (Figures::of(a, one), Figures::of(b, two));
    match (a.covered_count, b.covered_count) {
        (None, None) => Some((own_a, own_b)),
        (Some(count_a), Some(count_b)) if count_a == count_b => Some((own_a, own_b)),
        (Some(count), _) => Some((own_a, Figures::of_first(b, count)?)),
        (None, Some(count)) => Some((Figures::of_first(a, count)?, own_b)),
    }
}

impl Figures {
    fn of(record: &Record, header: &Header) -> Self {
        Self {
            min: record.min.to_f64(),
            max: record.max.to_f64(),
            mean: record.mean.to_f64(),
            nan: record.nan,
            inf: record.inf,
            digits: header.digits,
        }
    }

    /// Of the first values of a row that is there whole.
    fn of_first(record: &Record, count: usize) -> Option<Self> {
        let values = record.row.as_ref()?.get(..count)?;
        let facts = RowFacts::of(&Row::F32(values.to_vec()), None, None);
        Some(Self {
            min: facts.min.to_f64(),
            max: facts.max.to_f64(),
            mean: facts.mean.to_f64(),
            nan: Some(facts.nan_count),
            inf: Some(facts.infinite_count),
            digits: None,
        })
    }

    fn has_non_finite(&self) -> bool {
        let counted = self.nan.unwrap_or(0) + self.inf.unwrap_or(0) > 0;
        counted || !(self.min.is_finite() && self.max.is_finite() && self.mean.is_finite())
    }

    /// Decided first, by name.
    fn non_finite(&self, other: &Self) -> Option<Parting> {
        let pairs = [("NaN", self.nan, other.nan), ("infinite", self.inf, other.inf)];
        pairs.into_iter().find_map(|(what, a, b)| match (a, b) {
            (Some(a), Some(b)) if a != b => Some(Parting::NonFinite { what, a, b }),
            _ => None,
        })
    }

    /// The largest finite magnitude in the row.
    fn magnitude(&self) -> f64 {
        let finite = [self.min.abs(), self.max.abs()].into_iter().filter(|value| value.is_finite());
        finite.fold(0.0, f64::max)
    }

    /// Half a unit of the last digit that was printed.
    fn printed(&self, value: f64) -> f64 {
        match self.digits {
            Some(digits) if value != 0.0 && value.is_finite() => {
                let exponent = value.abs().log10().floor() as i32 + 1 - digits as i32;
                0.5 * 10.0_f64.powi(exponent)
            }
            _ => 0.0,
        }
    }

    /// The first figure that is further off than the table allows.
    fn parting(&self, other: &Self) -> Option<Parting> {
        let figures = [
            ("minimum", self.min, other.min),
            ("maximum", self.max, other.max),
            ("mean", self.mean, other.mean),
        ];
        figures.into_iter().find_map(|(name, a, b)| self.apart(other, name.to_owned(), a, b))
    }

    fn apart(&self, other: &Self, name: String, a: f64, b: f64) -> Option<Parting> {
        let limit =
            FIGURES * self.magnitude().max(other.magnitude()) + self.printed(a) + other.printed(b);
        // The limit is finite: what is infinite or NaN on one side only is beyond it.
        let same = a == b || (a.is_nan() && b.is_nan());
        if same || (a - b).abs() <= limit {
            return None;
        }
        let [a, b, limit] = [a, b, limit].map(Number::F64);
        Some(Parting::Figure { name, a, b, limit })
    }
}

/// The first values one by one, where one trace has a sample and the other values of any kind.
fn sample(a: &Record, b: &Record, one: &Figures, two: &Figures) -> Option<Parting> {
    let values = |record: &Record| -> Option<Vec<f64>> {
        let sample = record.sample.as_ref().map(|s| s.iter().map(|n| n.to_f64()).collect());
        let row = || record.row.as_ref().map(|row| row.iter().map(|&v| f64::from(v)).collect());
        sample.or_else(row)
    };
    if a.sample.is_none() && b.sample.is_none() {
        return None;
    }
    let pairs = values(a)?.into_iter().zip(values(b)?);
    let mut indexed = pairs.enumerate();
    indexed.find_map(|(index, (a, b))| one.apart(two, format!("element {index}"), a, b))
}

/// Tops that differ although the gap is too wide for that.
pub(super) fn tops(one: &Trace, two: &Trace) -> Vec<((usize, usize), Finding)> {
    let place = |top: &Landscape| Some((top.token_id?, top.position?));
    let mut twins: BTreeMap<(u32, usize), Vec<&Landscape>> = BTreeMap::new();
    for b in &two.landscapes {
        if let Some(place) = place(b) {
            twins.entry(place).or_default().push(b);
        }
    }
    let mut found = Vec::new();
    for a in &one.landscapes {
        let Some((token_id, position)) = place(a) else { continue };
        let Some(&[b]) = twins.get(&(token_id, position)).map(Vec::as_slice) else { continue };
        let (Some(top_a), Some(top_b)) = (a.top.first(), b.top.first()) else { continue };
        let (Some(gap_a), Some(gap_b)) = (a.gap, b.gap) else { continue };
        let magnitude = top_a.logit.to_f64().abs().max(top_b.logit.to_f64().abs());
        let limit = TOP1_GAP * FIGURES * magnitude;
        let gap = gap_a.to_f64().min(gap_b.to_f64());
        if top_a.id == top_b.id || gap <= limit {
            continue;
        }
        let order = one.records.iter().rposition(|record| record.position <= position);
        let key = Key { token_id, position, layer: None, tap: "logits".into() };
        let [gap, limit] = [gap, limit].map(Number::F64);
        let difference = Parting::Top1 { a: top_a.id, b: top_b.id, gap, limit };
        let lines = (Some(a.line), Some(b.line));
        found.push(((order.unwrap_or(0), 0), finding(&key, lines, difference)));
    }
    found
}
