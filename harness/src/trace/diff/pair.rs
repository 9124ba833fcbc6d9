//! Which record of one trace belongs to which of the other, and why the others belong to none.

use std::collections::{BTreeMap, BTreeSet};

use engine::gguf::Shown;
use serde::Serialize;

use super::{Finding, Parting, finding};
use crate::compare::Key;
use crate::sides::TapLevel;
use crate::trace::{Record, Trace};

/// The taps of CONTRACT.md section 12, with the level from which each is watched.
const TAPS: [(&str, TapLevel); 18] = [
    ("embed", TapLevel::Layer),
    ("attn_norm", TapLevel::Op),
    ("q", TapLevel::Op),
    ("k", TapLevel::Op),
    ("v", TapLevel::Op),
    ("q_rope", TapLevel::Op),
    ("k_rope", TapLevel::Op),
    ("attn_out", TapLevel::Op),
    ("wo", TapLevel::Op),
    ("attn_residual", TapLevel::Op),
    ("ffn_norm", TapLevel::Op),
    ("gate", TapLevel::Op),
    ("up", TapLevel::Op),
    ("swiglu", TapLevel::Op),
    ("down", TapLevel::Op),
    ("ffn_residual", TapLevel::Layer),
    ("final_norm", TapLevel::Readout),
    ("logits", TapLevel::Readout),
];

/// One of the two traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    A,
    B,
}

impl Which {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// Why a record has no partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpaired {
    /// The other trace should have it, and has not: a failure.
    Missing,
    /// The other trace ran another token at the position: a failure.
    OtherToken,
    /// The key stands more than once in one of the traces.
    Duplicate,
    /// The trace does not say which token it was.
    NoToken,
    /// The other trace has no end, and the position lies behind what it has.
    BehindEarlyEnd,
    /// The other trace does not watch this tap, or this position.
    NotRecorded,
}

impl Unpaired {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missing => "missing in the other",
            Self::OtherToken => "another token at the position",
            Self::Duplicate => "key stands more than once",
            Self::NoToken => "token not said",
            Self::BehindEarlyEnd => "behind the other's early end",
            Self::NotRecorded => "not watched by the other",
        }
    }
}

/// How many records of one trace have no partner for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// Why.
    pub reason: Unpaired,
    /// A or B.
    pub which: &'static str,
    /// How many.
    pub records: usize,
    /// The first of them.
    pub first_line: usize,
    /// What it is.
    pub first: String,
}

/// Two records of one key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Key,
    /// Its place in A.
    pub(super) a: usize,
    /// Its place in B.
    pub(super) b: usize,
}

/// Every record of both traces, paired or with its reason.
#[derive(Debug)]
pub(super) struct Pairing {
    pub(super) pairs: Vec<Pair>,
    unpaired: Vec<(Which, usize, Unpaired)>,
}

/// Where a record stands, whatever its token.
type Spot = (usize, Option<usize>, String);

struct Index<'a> {
    trace: &'a Trace,
    by_key: BTreeMap<Key, Vec<usize>>,
    by_spot: BTreeMap<Spot, usize>,
    taps: BTreeSet<(Option<usize>, String)>,
    /// The step and the last stage of each position.
    positions: BTreeMap<usize, (usize, Stage)>,
    last_step: usize,
}

/// Where in the pass of one position a tap stands: its layer, then its place in the layer.
type Stage = (usize, usize);

fn stage(record: &Record) -> Stage {
    let place = TAPS.iter().position(|(tap, _)| *tap == record.tap).unwrap_or(TAPS.len());
    match (record.layer, record.tap.as_str()) {
        (Some(layer), _) => (layer + 1, place),
        (None, "embed") => (0, place),
        (None, _) => (usize::MAX, place),
    }
}

fn spot(record: &Record) -> Spot {
    (record.position, record.layer, record.tap.clone())
}

impl<'a> Index<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut index = Self {
            trace,
            by_key: BTreeMap::new(),
            by_spot: BTreeMap::new(),
            taps: BTreeSet::new(),
            positions: BTreeMap::new(),
            last_step: trace.records.iter().map(|record| record.step).max().unwrap_or(0),
        };
        for (place, record) in trace.records.iter().enumerate() {
            index.taps.insert((record.layer, record.tap.clone()));
            let here = (record.step, stage(record));
            let reached = index.positions.entry(record.position).or_insert(here);
            *reached = here.max(*reached);
            if let Some(key) = record.key() {
                index.by_key.entry(key).or_default().push(place);
                index.by_spot.entry(spot(record)).or_insert(place);
            }
        }
        index
    }

    /// Why this trace has no record of the key of the other's.
    fn absence(&self, record: &Record) -> Unpaired {
        if self.by_spot.contains_key(&spot(record)) {
            return Unpaired::OtherToken;
        }
        let level = TAPS.iter().find(|(tap, _)| *tap == record.tap).map(|(_, level)| *level);
        let watched = match (self.trace.header.tap, level) {
            (Some(watched), Some(level)) => level <= watched,
            (Some(_), None) => false,
            // Nobody said what was watched: what never appears was not.
            (None, _) => {
                self.taps.contains(&(record.layer, record.tap.clone()))
                    && self.positions.contains_key(&record.position)
            }
        };
        if !watched {
            Unpaired::NotRecorded
        } else if self.trace.is_early() && self.not_reached(record) {
            Unpaired::BehindEarlyEnd
        } else {
            Unpaired::Missing
        }
    }

    /// Whether this trace ends before it comes to a record, however its prompt was cut.
    fn not_reached(&self, record: &Record) -> bool {
        match self.positions.get(&record.position) {
            Some(&(step, reached)) => step == self.last_step && stage(record) > reached,
            None => self.positions.last_key_value().is_none_or(|(&last, _)| record.position > last),
        }
    }
}

impl Pairing {
    pub(super) fn of(one: &Trace, two: &Trace) -> Self {
        let (a, b) = (Index::of(one), Index::of(two));
        let mut pairing = Self { pairs: Vec::new(), unpaired: Vec::new() };
        for (which, from, to) in [(Which::A, &a, &b), (Which::B, &b, &a)] {
            for (place, record) in from.trace.records.iter().enumerate() {
                let Some(key) = record.key() else {
                    pairing.unpaired.push((which, place, Unpaired::NoToken));
                    continue;
                };
                let own_count = from.by_key.get(&key).map_or(0, Vec::len);
                match (own_count, to.by_key.get(&key).map(Vec::as_slice)) {
                    (1, Some(&[other])) if which == Which::A => {
                        pairing.pairs.push(Pair { key, a: place, b: other });
                    }
                    (1, Some(&[_])) => {}
                    (1, None) => {
                        pairing.unpaired.push((which, place, to.absence(record)));
                    }
                    _ => pairing.unpaired.push((which, place, Unpaired::Duplicate)),
                }
            }
        }
        pairing
    }

    /// What has no partner and should have one, each at its place in the order of A.
    pub(super) fn missing(&self, one: &Trace, two: &Trace) -> Vec<((usize, usize), Finding)> {
        let place_in_a: BTreeMap<usize, usize> =
            self.pairs.iter().map(|pair| (pair.b, pair.a)).collect();
        let spots: [BTreeMap<Spot, &Record>; 2] = [one, two]
            .map(|trace| trace.records.iter().rev().map(|record| (spot(record), record)).collect());
        let failing = self
            .unpaired
            .iter()
            .filter(|(_, _, reason)| matches!(reason, Unpaired::Missing | Unpaired::OtherToken));
        let found = failing.filter_map(|&(which, place, reason)| {
            let (record, order) = match which {
                Which::A => (one.records.get(place)?, (place, 0)),
                // Behind the last record before it that has a partner.
                Which::B => {
                    let before = place_in_a.range(..place).next_back().map(|(_, &a)| a);
                    (two.records.get(place)?, before.map_or((0, 0), |a| (a, 1)))
                }
            };
            let key = record.key()?;
            let other = match which {
                Which::A => spots[1].get(&spot(record)),
                Which::B => spots[0].get(&spot(record)),
            };
            let (own, other_line) = (Some(record.line), other.map(|record| record.line));
            let lines = if which == Which::A { (own, other_line) } else { (other_line, own) };
            let difference = match (reason, other.and_then(|other| other.token_id)) {
                (Unpaired::OtherToken, Some(token)) if which == Which::A => {
                    Parting::OtherToken { a: key.token_id, b: token }
                }
                (Unpaired::OtherToken, Some(token)) => {
                    Parting::OtherToken { a: token, b: key.token_id }
                }
                _ => Parting::Missing { only_in: which.word() },
            };
            Some((order, finding(&key, lines, difference)))
        });
        found.collect()
    }

    /// How many there are of each reason, on each side.
    pub(super) fn counts(&self, one: &Trace, two: &Trace) -> Vec<Count> {
        let mut counts: BTreeMap<(Unpaired, Which), (usize, usize)> = BTreeMap::new();
        for &(which, place, reason) in &self.unpaired {
            counts.entry((reason, which)).or_insert((0, place)).0 += 1;
        }
        let count = |((reason, which), (records, place)): ((Unpaired, Which), (usize, usize))| {
            let trace = if which == Which::A { one } else { two };
            let record = &trace.records[place];
            let first = words(record);
            Count { reason, which: which.word(), records, first_line: record.line, first }
        };
        counts.into_iter().map(count).collect()
    }
}

/// A record in a few words, with or without its token.
fn words(record: &Record) -> String {
    match (record.key(), record.layer) {
        (Some(key), _) => key.to_string(),
        (None, Some(layer)) => {
            format!("layer {layer} tap {} at position {}", Shown(&record.tap), record.position)
        }
        (None, None) => format!("tap {} at position {}", Shown(&record.tap), record.position),
    }
}
