//! The suite file: cases in TOML, read strictly, one run for each case and length.
//!
//! A key that is misspelt would leave a case at its default: every unknown word is refused.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::SuiteError;
use super::fields::Keys;
use crate::cli::RunOptions;

/// The most cases of a file, lengths counted.
pub const CASES_MAX: usize = 10_000;

/// The most text and tokens of all cases, in bytes: what the defaults say stands in each of them.
const SAID_BYTES_MAX: usize = 1 << 24;

/// The longest prompt, the most steps, the largest cache.
const TOKENS_MAX: u32 = 1 << 24;

/// What stands beside the cases.
const TOP: [&str; 3] = ["budget_minutes", "defaults", "case"];

/// What a case may say, and the defaults.
const OPTIONS: [&str; 16] = [
    "model",
    "prompt",
    "tokens",
    "lengths",
    "seed",
    "max_tokens",
    "past_end",
    "device",
    "reference",
    "activations",
    "kv",
    "drive",
    "ubatch",
    "context_tokens",
    "tap",
    "threads",
];

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
}

/// A prompt that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// From which stream.
    pub seed: u64,
    /// How many tokens.
    pub length: usize,
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

/// A case, or one for each of its lengths.
fn expand(
    number: usize,
    table: &Table,
    defaults: &Table,
    said_bytes: &mut usize,
) -> Result<Vec<Case>, SuiteError> {
    let unnamed = Keys { place: format!("case {number}"), table };
    let name = unnamed.text("name")?.ok_or(SuiteError::NoName { number })?;
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !begins || !name.chars().all(sound) || name.len() > 100 {
        return Err(SuiteError::BadName { number, name });
    }
    let own = Keys { place: format!("case `{name}`"), table };
    own.only(&[&["name"], &OPTIONS[..]].concat())?;
    // What the case says wins; of the three ways to begin, its own replaces that of the defaults.
    let ways = ["prompt", "tokens", "lengths"];
    let own_way = ways.iter().any(|way| table.contains_key(*way));
    let reseeded = own_way && !table.contains_key("lengths");
    let kept = |key: &str| !((own_way && ways.contains(&key)) || (reseeded && key == "seed"));
    let kept = defaults.iter().filter(|(key, _)| kept(key));
    let said = kept.chain(table).map(|(key, value)| (key.clone(), value.clone()));
    let merged: Table = said.collect();
    let keys = Keys { place: own.place, table: &merged };
    let given: Vec<&'static str> =
        ways.into_iter().filter(|way| merged.contains_key(*way)).collect();
    if let [one, two, ..] = given[..] {
        return Err(SuiteError::TwoPrompts { place: keys.place, one, two });
    }
    let options = options(&keys)?;
    let seed = keys.seed("seed")?;
    let lengths = keys.counts("lengths", TOKENS_MAX)?;
    *said_bytes += size_bytes(&options) * lengths.as_ref().map_or(1, Vec::len);
    if *said_bytes > SAID_BYTES_MAX {
        return Err(SuiteError::TooMuchSaid { bytes_max: SAID_BYTES_MAX });
    }
    let Some(lengths) = lengths else {
        if seed.is_some() {
            return Err(SuiteError::SeedWithoutLengths { place: keys.place });
        }
        return Ok(vec![Case { name, options, drawn: None }]);
    };
    let mut seen = BTreeSet::new();
    if let Some(&length) = lengths.iter().find(|length| !seen.insert(**length)) {
        return Err(SuiteError::DuplicateLength { place: keys.place, length });
    }
    if lengths.len() > CASES_MAX {
        return Err(SuiteError::TooManyCases { cases_max: CASES_MAX });
    }
    let case = |length| Case {
        name: format!("{name}-{length}"),
        options: options.clone(),
        drawn: Some(Drawn { seed: seed.unwrap_or(0), length }),
    };
    Ok(lengths.into_iter().map(case).collect())
}

/// What options take besides themselves.
fn size_bytes(options: &RunOptions) -> usize {
    let texts = [&options.model, &options.prompt].into_iter().flatten().map(String::len);
    texts.sum::<usize>()
        + options.tokens.as_ref().map_or(0, |tokens| size_of::<u32>() * tokens.len())
}

fn options(keys: &Keys<'_>) -> Result<RunOptions, SuiteError> {
    let mut options = RunOptions {
        model: keys.text("model")?,
        prompt: keys.text("prompt")?,
        tokens: keys.tokens("tokens")?,
        context_tokens: keys.count("context_tokens", TOKENS_MAX)?,
        threads: keys.count("threads", 4096)?,
        past_end: keys.flag("past_end")?.unwrap_or(false),
        ..RunOptions::default()
    };
    if let Some(text) = keys.text("device")? {
        let known = ["auto", "host", "hip", "hip:N", "cuda", "cuda:N"];
        options.device = text.parse().map_err(|_| keys.unknown("device", text.clone(), &known))?;
    }
    options.reference = keys.word("reference")?.unwrap_or(options.reference);
    options.activations = keys.word("activations")?.unwrap_or(options.activations);
    options.kv = keys.word("kv")?.unwrap_or(options.kv);
    options.drive = keys.word("drive")?.unwrap_or(options.drive);
    options.tap = keys.word("tap")?.unwrap_or(options.tap);
    options.ubatch = keys.count("ubatch", TOKENS_MAX)?.unwrap_or(options.ubatch);
    options.max_tokens = keys.count("max_tokens", TOKENS_MAX)?.unwrap_or(options.max_tokens);
    Ok(options)
}
