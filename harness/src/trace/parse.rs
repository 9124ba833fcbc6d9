//! The strict reader: bytes to a trace, or the first defect with its line.
//!
//! **Invariant:** memory is bounded by what has been read; no count in the file allocates anything.

use std::io::{BufRead, Read};

use clap::ValueEnum;

use super::json::Value;
use super::{
    Contract, Ending, Fields, HashKind, Header, LINE_BYTES_MAX, Landscape, Precision, Record,
    Trace, TraceError, TraceOptions, VERSION,
};
use crate::compare::Phase;
use crate::event::Stopped;
use crate::identity::ModelIdentity;
use crate::landscape::Logit;
use crate::number::Hash;
use crate::sides::{SideIdentity, TapLevel};

/// Reads a trace from bytes.
pub fn parse(bytes: &[u8]) -> Result<Trace, TraceError> {
    read(bytes)
}

/// Reads a trace line by line.
pub fn read(source: impl BufRead) -> Result<Trace, TraceError> {
    let mut lines = Lines { source, number: 0 };
    let Some(first) = lines.next_line()? else { return Err(TraceError::Empty) };
    let header = header(value(1, &first.bytes)?)?;
    let (mut records, mut landscapes) = (Vec::new(), Vec::new());
    let mut ending = Ending::Early { cut_bytes: 0 };
    while let Some(Line { number, bytes, cut }) = lines.next_line()? {
        if matches!(ending, Ending::Whole(_)) {
            return Err(TraceError::AfterEnd { line: number });
        }
        let parsed = value(number, &bytes).and_then(|value| entry(number, value, &header));
        match parsed {
            // A run that was killed while it wrote: the lines before are whole.
            Err(_) if cut => ending = Ending::Early { cut_bytes: bytes.len() },
            Err(error) => return Err(error),
            Ok(Entry::Row(record)) => records.push(*record),
            Ok(Entry::Landscape(landscape)) => landscapes.push(landscape),
            Ok(Entry::End(end)) => {
                end.check(number, records.len(), landscapes.len())?;
                ending = Ending::Whole(end.stopped);
            }
        }
    }
    Ok(Trace { header, records, landscapes, ending })
}

/// A line without its newline.
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: usize,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
    /// Whether the file ends in it.
    pub(crate) cut: bool,
}

/// Lines of bounded length.
pub(crate) struct Lines<R> {
    source: R,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of a file.
    pub(crate) fn of(source: R) -> Self {
        Self { source, number: 0 }
    }

    /// The next, or nothing at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, TraceError> {
        let (line, bytes_max) = (self.number + 1, LINE_BYTES_MAX);
        let mut bytes = Vec::new();
        let mut window = (&mut self.source).take(bytes_max as u64 + 1);
        window.read_until(b'\n', &mut bytes).map_err(|source| TraceError::Read { line, source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number = line;
        let cut = bytes.last() != Some(&b'\n');
        if cut && bytes.len() > bytes_max {
            return Err(TraceError::LineTooLong { line, bytes_max });
        }
        if !cut {
            bytes.pop();
        }
        Ok(Some(Line { number: line, bytes, cut }))
    }
}

/// The JSON of a line.
fn value(line: usize, bytes: &[u8]) -> Result<Value, TraceError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| TraceError::NotUtf8 { line, byte: error.valid_up_to() })?;
    if text.trim().is_empty() {
        return Err(TraceError::Blank { line });
    }
    serde_json::from_str(text)
        .map_err(|error| TraceError::NotJson { line, message: without_line(&error) })
}

/// The parser's own line is always 1: only the column says something.
pub(crate) fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

fn header(value: Value) -> Result<Header, TraceError> {
    let mut fields = Fields::of(1, value)?;
    if !fields.has("trace") {
        return Err(TraceError::NoHeader);
    }
    let version = fields.whole("trace")?;
    if version != VERSION {
        return Err(TraceError::Version { found: version, known: VERSION });
    }
    let header = Header {
        trace: version,
        written_by: fields.text("written_by")?,
        side: side(fields.object("side")?)?,
        model: fields.object_or_null("model")?.map(model).transpose()?,
        contract: fields.object_or_null("contract")?.map(contract).transpose()?,
        precision: word(&mut fields, "precision", "f32 or f64", |word| match word {
            "f32" => Some(Precision::F32),
            "f64" => Some(Precision::F64),
            _ => None,
        })?,
        digits: digits(&mut fields)?,
        hash: word(&mut fields, "hash", "contract, foreign or none", |word| match word {
            "contract" => Some(HashKind::Contract),
            "foreign" => Some(HashKind::Foreign),
            "none" => Some(HashKind::None),
            _ => None,
        })?,
        tap: tap_level(&mut fields)?,
        options: fields.object_or_null("options")?.map(options).transpose()?,
        prompt_ids: fields.tokens_or_null("prompt_ids")?,
    };
    fields.finish()?;
    Ok(header)
}

fn side(mut fields: Fields) -> Result<SideIdentity, TraceError> {
    let side = SideIdentity {
        implementation: fields.text("implementation")?,
        device: fields.text("device")?,
        build: fields.text("build")?,
    };
    fields.finish()?;
    Ok(side)
}

fn model(mut fields: Fields) -> Result<ModelIdentity, TraceError> {
    let model = ModelIdentity {
        name: fields.text("name")?,
        sha256: fields.text("sha256")?,
        bytes: fields.whole("bytes")?,
    };
    let digits = model.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if model.sha256.len() != 64 || !digits {
        return Err(fields.outside("sha256", model.sha256, "64 hexadecimal digits"));
    }
    fields.finish()?;
    Ok(model)
}

fn contract(mut fields: Fields) -> Result<Contract, TraceError> {
    let contract = Contract { activations: fields.text("activations")?, kv: fields.text("kv")? };
    fields.finish()?;
    Ok(contract)
}

fn options(mut fields: Fields) -> Result<TraceOptions, TraceError> {
    let options = TraceOptions {
        device: fields.text("device")?,
        ubatch: fields.count("ubatch")?,
        context_tokens: fields.count("context_tokens")?,
        threads: fields.count("threads")?,
        max_tokens: fields.count("max_tokens")?,
    };
    fields.finish()?;
    Ok(options)
}

/// From 1 to the 17 that every f64 needs.
fn digits(fields: &mut Fields) -> Result<Option<u32>, TraceError> {
    let Some(digits) = fields.count_or_null("digits")? else { return Ok(None) };
    match u32::try_from(digits) {
        Ok(count @ 1..=17) => Ok(Some(count)),
        _ => Err(fields.outside("digits", digits, "1 to 17")),
    }
}

fn tap_level(fields: &mut Fields) -> Result<Option<TapLevel>, TraceError> {
    let Some(text) = fields.text_or_null("tap")? else { return Ok(None) };
    let level = <TapLevel as ValueEnum>::from_str(&text, false);
    level.map(Some).map_err(|_| fields.outside("tap", text, "readout, layer or op"))
}

fn word<T>(
    fields: &mut Fields,
    name: &str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, TraceError> {
    let text = fields.text(name)?;
    read(&text).ok_or_else(|| fields.outside(name, text, expected))
}

enum Entry {
    Row(Box<Record>),
    Landscape(Landscape),
    End(End),
}

struct End {
    stopped: Stopped,
    rows_count: usize,
    landscapes_count: usize,
}

impl End {
    fn check(&self, line: usize, rows: usize, landscapes: usize) -> Result<(), TraceError> {
        for (what, expected, actual) in
            [("rows", self.rows_count, rows), ("landscapes", self.landscapes_count, landscapes)]
        {
            if expected != actual {
                return Err(TraceError::EndCount { line, what, expected, actual });
            }
        }
        Ok(())
    }
}

fn entry(line: usize, value: Value, header: &Header) -> Result<Entry, TraceError> {
    let mut fields = Fields::of(line, value)?;
    if fields.has("trace") {
        return Err(TraceError::SecondHeader { line });
    }
    let kind = fields.text("record")?;
    let narrow = header.precision == Precision::F32;
    let entry = match kind.as_str() {
        "row" => Entry::Row(Box::new(record(line, &mut fields, narrow, header.hash)?)),
        "landscape" => Entry::Landscape(landscape(line, &mut fields, narrow)?),
        "end" => Entry::End(end(&mut fields)?),
        _ => return Err(TraceError::UnknownRecord { line, found: kind }),
    };
    fields.finish()?;
    Ok(entry)
}

fn phase(fields: &mut Fields) -> Result<Phase, TraceError> {
    word(fields, "phase", "prefill_last or decode", |word| match word {
        "prefill_last" => Some(Phase::PrefillLast),
        "decode" => Some(Phase::Decode),
        _ => None,
    })
}

fn record(
    line: usize,
    fields: &mut Fields,
    narrow: bool,
    kind: HashKind,
) -> Result<Record, TraceError> {
    let covered = fields.has("covered_count");
    let record = Record {
        line,
        token_id: fields.token_or_null("token_id")?,
        position: fields.count("position")?,
        layer: fields.count_or_null("layer")?,
        tap: fields.text("tap")?,
        step: fields.count("step")?,
        phase: phase(fields)?,
        hash: fields.hash_or_null("hash")?,
        elements_count: fields.count_or_null("elements_count")?,
        covered_count: if covered { Some(fields.count("covered_count")?) } else { None },
        min: fields.number("min", narrow)?,
        max: fields.number("max", narrow)?,
        mean: fields.number("mean", false)?,
        nan: fields.count_or_null("nan")?,
        inf: fields.count_or_null("inf")?,
        sample: fields.numbers_if_there("sample", narrow)?,
        row: row(fields, narrow)?,
    };
    if let Some(row) = &record.row {
        let expected = record.elements_count.unwrap_or(row.len());
        if row.len() != expected {
            return Err(TraceError::RowLength { line, expected, actual: row.len() });
        }
        if let (Some(expected), HashKind::Contract) = (record.hash, kind) {
            let actual = Hash(engine::hash_row(row));
            if actual != expected {
                let (expected, actual) = (expected.to_string(), actual.to_string());
                return Err(TraceError::RowHash { line, expected, actual });
            }
        }
    }
    Ok(record)
}

/// Eight hexadecimal digits a value, its bits.
fn row(fields: &mut Fields, narrow: bool) -> Result<Option<Vec<f32>>, TraceError> {
    if !fields.has("row") {
        return Ok(None);
    }
    let text = fields.text("row")?;
    let expected = "a row of f32: eight hexadecimal digits a value";
    let short = || text.chars().take(16).collect::<String>();
    let bytes = text.as_bytes();
    if !narrow || bytes.len() % 8 != 0 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return Err(fields.outside("row", short(), expected));
    }
    let value = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
    };
    let values: Option<Vec<f32>> = bytes.chunks(8).map(value).collect();
    values.map(Some).ok_or_else(|| fields.outside("row", short(), expected))
}

fn landscape(line: usize, fields: &mut Fields, narrow: bool) -> Result<Landscape, TraceError> {
    let logit = |mut fields: Fields| {
        let logit = Logit { id: fields.token("id")?, logit: fields.number("logit", narrow)? };
        fields.finish()?;
        Ok(logit)
    };
    Ok(Landscape {
        line,
        step: fields.count("step")?,
        token_id: fields.token_or_null("token_id")?,
        position: fields.count_or_null("position")?,
        top: fields.objects("top")?.into_iter().map(logit).collect::<Result<_, _>>()?,
        gap: fields.number_or_null("gap", narrow)?,
        entropy: fields.number("entropy_topk", false)?,
    })
}

fn end(fields: &mut Fields) -> Result<End, TraceError> {
    let expected = "max_tokens, end_of_text, interrupted, no_choice or failed";
    let stopped = word(fields, "stopped", expected, |word| match word {
        "max_tokens" => Some(Stopped::MaxTokens),
        "end_of_text" => Some(Stopped::EndOfText),
        "interrupted" => Some(Stopped::Interrupted),
        "no_choice" => Some(Stopped::NoChoice),
        "failed" => Some(Stopped::Failed),
        _ => None,
    })?;
    Ok(End {
        stopped,
        rows_count: fields.count("rows_count")?,
        landscapes_count: fields.count("landscapes_count")?,
    })
}
