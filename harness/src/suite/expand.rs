//! From one table of a suite to its cases: what stands as a list multiplies, lengths come last.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::SuiteError;
use super::fields::Keys;
use super::file::{CASES_MAX, Case, Drawn, NAME_BYTES_MAX, TOKENS_MAX};
use super::seed::Seed;
use crate::cli::RunOptions;

/// The most text and tokens of all cases, in bytes: what the defaults say stands in each of them.
pub(super) const SAID_BYTES_MAX: usize = 1 << 24;

/// What a case may say, and the defaults.
pub(super) const OPTIONS: [&str; 18] = [
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
    "limit_minutes",
    "find_on_divergence",
];

/// What may be a list, in the order of the names' endings, and what stands before a number there.
const MULTIPLIED: [(&str, &str); 13] = [
    ("model", ""),
    ("prompt", "prompt"),
    ("device", ""),
    ("reference", ""),
    ("activations", ""),
    ("kv", "kv-"),
    ("drive", "drive-"),
    ("tap", "tap-"),
    ("ubatch", "ubatch"),
    ("threads", "threads"),
    ("context_tokens", "context"),
    ("max_tokens", "steps"),
    ("seed", "seed"),
];

/// How the names of a suite's own files end.
const FILES: [&str; 5] = [".json", ".jsonl", ".xml", ".md", ".html"];

/// The longest ending that a value gives a name.
const ENDING_BYTES_MAX: usize = 40;

/// The cases of one table.
pub(super) fn expand(
    number: usize,
    table: &Table,
    defaults: &Table,
    said_bytes: &mut usize,
) -> Result<Vec<Case>, SuiteError> {
    let name = name(number, table)?;
    let place = format!("case `{name}`");
    Keys { place: place.clone(), table }.only(&[&["name"], &OPTIONS[..]].concat())?;
    let merged = merge(table, defaults);
    let keys = Keys { place: place.clone(), table: &merged };
    one_way(&keys)?;
    let lists = lists(&keys)?;
    let lengths = keys.counts("lengths", TOKENS_MAX)?;
    let lengths_count = lengths.as_ref().map_or(1, Vec::len);
    let product = |count: usize, list: &List<'_>| count.saturating_mul(list.values.len());
    let count = lists.iter().fold(lengths_count, product);
    if count > CASES_MAX {
        return Err(SuiteError::TooManyCases { cases_max: CASES_MAX });
    }
    *said_bytes = said_bytes.saturating_add(size_bytes(&merged).saturating_mul(count));
    if *said_bytes > SAID_BYTES_MAX {
        return Err(SuiteError::TooMuchSaid { bytes_max: SAID_BYTES_MAX });
    }
    let mut cases = Vec::new();
    for index in 0..count / lengths_count {
        let (ending, table) = choice(&lists, index, &merged);
        let keys = Keys { place: place.clone(), table: &table };
        let case = Expanded { keys: &keys, number, name: format!("{name}{ending}") };
        case.into_cases(lengths.as_deref(), &mut cases)?;
    }
    Ok(cases)
}

fn name(number: usize, table: &Table) -> Result<String, SuiteError> {
    let unnamed = Keys { place: format!("case {number}"), table };
    let name = unnamed.text("name")?.ok_or(SuiteError::NoName { number })?;
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    // A case is a folder beside the suite's own files.
    let lower = name.to_ascii_lowercase();
    let file = FILES.iter().any(|ending| lower.ends_with(ending));
    if file || !begins || !name.chars().all(sound) || name.len() > 100 {
        return Err(SuiteError::BadName { number, name });
    }
    Ok(name)
}

/// The three ways to begin.
const WAYS: [&str; 3] = ["prompt", "tokens", "lengths"];

/// What the case says wins; of the three ways to begin, its own replaces that of the defaults.
fn merge(table: &Table, defaults: &Table) -> Table {
    let own_way = WAYS.iter().any(|way| table.contains_key(*way));
    let reseeded = own_way && !table.contains_key("lengths");
    let kept = |key: &str| !((own_way && WAYS.contains(&key)) || (reseeded && key == "seed"));
    let kept = defaults.iter().filter(|(key, _)| kept(key));
    kept.chain(table).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn one_way(keys: &Keys<'_>) -> Result<(), SuiteError> {
    let given: Vec<&'static str> =
        WAYS.into_iter().filter(|way| keys.table.contains_key(*way)).collect();
    match given[..] {
        [one, two, ..] => Err(SuiteError::TwoPrompts { place: keys.place.clone(), one, two }),
        _ => Ok(()),
    }
}

/// A list where one value is due.
struct List<'a> {
    key: &'static str,
    before: &'static str,
    values: &'a [Value],
}

fn lists<'a>(keys: &Keys<'a>) -> Result<Vec<List<'a>>, SuiteError> {
    let mut lists = Vec::new();
    for (key, before) in MULTIPLIED {
        if let Some(values) = keys.list(key)? {
            lists.push(List { key, before, values });
        }
    }
    Ok(lists)
}

/// One choice out of every list, the last turning fastest, and the name's ending for it.
fn choice(lists: &[List<'_>], mut index: usize, merged: &Table) -> (String, Table) {
    let mut table = merged.clone();
    let mut endings = Vec::new();
    for list in lists.iter().rev() {
        let at = index % list.values.len();
        index /= list.values.len();
        table.insert(list.key.to_owned(), list.values[at].clone());
        endings.push(format!("-{}{}", list.before, ending(list, at)));
    }
    endings.reverse();
    (endings.concat(), table)
}

/// A value as part of a name: a model's file without its folder, a prompt by its place in the list.
fn ending(list: &List<'_>, at: usize) -> String {
    let text = match &list.values[at] {
        _ if list.key == "prompt" => return (at + 1).to_string(),
        Value::String(text) => text.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
        Value::Integer(number) => number.to_string(),
        _ => (at + 1).to_string(),
    };
    let sound = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().map(sound).take(ENDING_BYTES_MAX).collect()
}

/// One choice of every list, its lengths still to come.
struct Expanded<'a> {
    keys: &'a Keys<'a>,
    number: usize,
    name: String,
}

impl Expanded<'_> {
    fn into_cases(
        self,
        lengths: Option<&[usize]>,
        cases: &mut Vec<Case>,
    ) -> Result<(), SuiteError> {
        let (keys, place) = (self.keys, || self.keys.place.clone());
        let options = options(keys)?;
        let seed = keys.seed("seed")?;
        let limit_minutes = keys.minutes("limit_minutes")?;
        let find_on_divergence = keys.flag("find_on_divergence")?.unwrap_or(true);
        let mut push = |name: String, drawn| {
            if name.len() > NAME_BYTES_MAX {
                return Err(SuiteError::BadName { number: self.number, name });
            }
            let options = options.clone();
            cases.push(Case { name, options, drawn, limit_minutes, find_on_divergence });
            Ok(())
        };
        let Some(lengths) = lengths else {
            if seed.is_some() {
                return Err(SuiteError::SeedWithoutLengths { place: place() });
            }
            return push(self.name, None);
        };
        let mut seen = BTreeSet::new();
        let fixed = matches!(seed, Some(Seed::Number(_)));
        for &length in lengths {
            if !seen.insert(length) {
                return Err(SuiteError::DuplicateLength { place: place(), length });
            }
            let (seed, dated) = match seed.unwrap_or(Seed::Number(0)) {
                Seed::Number(seed) => (seed, false),
                Seed::Date => (0, true),
            };
            let drawn = Drawn { seed, length, dated, fixed };
            push(format!("{}-{length}", self.name), Some(drawn))?;
        }
        Ok(())
    }
}

/// What the texts and tokens of a table take, those of a list together.
fn size_bytes(table: &Table) -> usize {
    let of = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Array(values) => {
            values.iter().map(|value| value.as_str().map_or(size_of::<u32>(), str::len)).sum()
        }
        _ => 0,
    };
    ["model", "prompt", "tokens"].iter().filter_map(|key| table.get(*key)).map(of).sum()
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
