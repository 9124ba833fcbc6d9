//! How the bytes that a device holds of a weight are other than the file's: never written, moved,
//! rows in another order; else they were damaged.

use std::collections::BTreeMap;

use super::{Label, Weight};

/// How far bytes may have been moved: an alignment, a header, a row.
const BYTES_AWAY_MAX: usize = 1 << 16;
/// Bytes that find a distance.
const PROBE_BYTES: usize = 32;
/// A run of poison or zeros this long is no coincidence.
const RUN_MIN: usize = 16;

/// The cause and its words; nothing where single bytes differ without an order.
pub(super) fn how(held: &Weight<'_>, file: &Weight<'_>) -> Option<(Label, String)> {
    not_written(&held.bytes, &file.bytes)
        .or_else(|| moved(&held.bytes, &file.bytes))
        .or_else(|| other_rows(held, file))
}

/// One run of poison or zeros holds all that differs.
fn not_written(held: &[u8], file: &[u8]) -> Option<(Label, String)> {
    let differs = |at: &usize| held[*at] != file[*at];
    let first = (0..held.len()).find(differs)?;
    let last = (0..held.len()).rfind(differs)?;
    let byte = held[first];
    let run = &held[first..=last];
    let is_run = matches!(byte, 0x00 | 0xff) && run.len() >= RUN_MIN;
    (is_run && run.iter().all(|other| *other == byte)).then(|| {
        let what = if byte == 0 { "zeros" } else { "the poison of a fresh buffer (0xff)" };
        let text = format!("bytes {first} to {last} are {what}: they were never uploaded");
        (Label::NotWritten, text)
    })
}

/// All bytes stand some bytes away.
fn moved(held: &[u8], file: &[u8]) -> Option<(Label, String)> {
    let total = held.len();
    let away = |from: &[u8], to: &[u8]| {
        let probe = from.get(..PROBE_BYTES)?;
        let ways = to.windows(PROBE_BYTES).take(BYTES_AWAY_MAX.min(total / 2)).enumerate();
        let mut ways = ways.filter(|(at, window)| *at > 0 && *window == probe);
        ways.find(|(at, _)| to[*at..] == from[..total - at]).map(|(at, _)| at)
    };
    let (bytes, which) = away(file, held)
        .map(|bytes| (bytes, "early"))
        .or_else(|| away(held, file).map(|bytes| (bytes, "late")))?;
    let text = format!("the file was read {bytes} bytes too {which}");
    Some((Label::Shifted, text))
}

/// Every row is a row of the file, not all at their places.
fn other_rows(held: &Weight<'_>, file: &Weight<'_>) -> Option<(Label, String)> {
    let mut places = BTreeMap::new();
    for row in 0..file.rows {
        places.entry(file.row(row)).or_insert(row);
    }
    let mut pairs = Vec::new();
    for row in (0..held.rows).filter(|row| held.row(*row) != file.row(*row)) {
        pairs.push((row, *places.get(held.row(row))?));
    }
    if pairs.len() < 2 {
        return None;
    }
    let shown = pairs.iter().take(4).map(|(row, from)| format!("row {row} is row {from}"));
    let more = if pairs.len() > 4 { ", …" } else { "" };
    let shown = shown.collect::<Vec<_>>().join(", ");
    let count = pairs.len();
    let text = format!("{count} of {} rows are others of the file: {shown}{more}", held.rows);
    Some((Label::WrongRow, text))
}
