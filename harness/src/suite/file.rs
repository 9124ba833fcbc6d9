//! The suite file: cases in TOML, read strictly, one run for each case and length.
//!
//! A key that is misspelt would leave a case at its default: every unknown word is refused.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::SuiteError;
use super::expand::{OPTIONS, expand};
use super::fields::Keys;
use super::seed::Seed;
use crate::cli::RunOptions;

/// The most cases of a file, lengths counted.
pub const CASES_MAX: usize = 10_000;

/// The longest prompt, the most steps, the largest cache.
pub(super) const TOKENS_MAX: u32 = 1 << 24;

/// What stands beside the cases.
const TOP: [&str; 3] = ["budget_minutes", "defaults", "case"];

/// The longest name: that of its table, and an ending for each list and length.
pub(super) const NAME_BYTES_MAX: usize = 120;

/// A file of cases.
#[derive(Clone, Debug)]
pub struct Suite {
    /// After so many minutes no further case begins.
    pub budget_minutes: Option<f64>,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which no other has.
    pub name: String,
    /// What runs, and how.
    pub options: RunOptions,
    /// A prompt of drawn tokens, in place of one that is given.
    pub drawn: Option<Drawn>,
    /// After so many minutes it is stopped between two steps.
    pub limit_minutes: Option<f64>,
    /// Whether a divergence is looked into as `lockstep find` does.
    pub find_on_divergence: bool,
}

/// A prompt that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// From which stream.
    pub seed: u64,
    /// How many tokens.
    pub length: usize,
    /// Whether the number is not the file's: that of the day, or of the command line.
    pub dated: bool,
    /// Whether the file says a number, which nothing on the command line replaces.
    pub fixed: bool,
}

impl Suite {
    /// Gives every drawn case its stream: the number that the file says, else the one that was
    /// asked for, where `date` is the day that is passed. Says the number, if the file does not.
    pub fn draw_from(&mut self, asked: Option<Seed>, day: u64) -> Option<u64> {
        let asked = asked.map(|seed| match seed {
            Seed::Number(seed) => seed,
            Seed::Date => day,
        });
        let mut said = None;
        let drawn = self.cases.iter_mut().filter_map(|case| case.drawn.as_mut());
        for drawn in drawn.filter(|drawn| !drawn.fixed) {
            let seed = asked.or(drawn.dated.then_some(day));
            drawn.dated = seed.is_some();
            drawn.seed = seed.unwrap_or(drawn.seed);
            said = said.or(seed);
        }
        said
    }
}

impl Drawn {
    /// The tokens, out of so many: splitmix64 from the seed, each number modulo the vocabulary. A
    /// longer prompt of the same seed begins with the shorter one.
    pub fn tokens(self, vocabulary: usize) -> Vec<u32> {
        let mut state = self.seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let modulus = vocabulary.max(1) as u64;
        (0..self.length).map(|_| (next() % modulus) as u32).collect()
    }
}

/// Reads a suite from bytes.
pub fn parse(bytes: &[u8]) -> Result<Suite, SuiteError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| SuiteError::NotUtf8 { byte: error.valid_up_to() })?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        SuiteError::NotToml { line, message: error.message().trim().replace('\n', ", ") }
    })?;
    let top = Keys { place: "the suite".to_owned(), table: &table };
    top.only(&TOP)?;
    let empty = Table::new();
    let defaults = match table.get("defaults") {
        None => &empty,
        Some(Value::Table(defaults)) => defaults,
        Some(_) => return Err(not_a_table(&top, "defaults")),
    };
    Keys { place: "the defaults".to_owned(), table: defaults }.only(&OPTIONS)?;
    let tables = match table.get("case") {
        None => return Err(SuiteError::NoCases),
        Some(Value::Array(tables)) if !tables.is_empty() => tables,
        Some(Value::Array(_)) => return Err(SuiteError::NoCases),
        Some(_) => return Err(not_a_table(&top, "case")),
    };
    let mut cases: Vec<Case> = Vec::new();
    let mut names = BTreeSet::new();
    let mut said_bytes = 0;
    for (index, table) in tables.iter().enumerate() {
        let Value::Table(table) = table else { return Err(not_a_table(&top, "case")) };
        for case in expand(index + 1, table, defaults, &mut said_bytes)? {
            if !names.insert(case.name.clone()) {
                return Err(SuiteError::DuplicateName { name: case.name });
            }
            cases.push(case);
            if cases.len() > CASES_MAX {
                return Err(SuiteError::TooManyCases { cases_max: CASES_MAX });
            }
        }
    }
    Ok(Suite { budget_minutes: top.minutes("budget_minutes")?, cases })
}

fn not_a_table(top: &Keys<'_>, key: &str) -> SuiteError {
    let found = match top.table.get(key) {
        Some(Value::Table(_)) => "one table",
        Some(Value::Array(_)) => "a list of other things",
        _ => "no table",
    };
    let (place, key) = (top.place.clone(), key.to_owned());
    let expected = if key == "case" { "tables [[case]]" } else { "a table [defaults]" };
    SuiteError::WrongType { place, key, expected, found }
}
