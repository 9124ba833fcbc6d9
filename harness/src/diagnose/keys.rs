//! Which keys an attention read: a length off by one, no context, no mask, another head or layer.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use reference::KvType;

use super::attention::{CHUNK, Inputs, Reading, rows_and_zeros};
use super::narrow::{NARROWINGS, Narrowing};
use super::operation::Named;
use super::places::list;
use super::substitutes::substitutes;
use super::{Answer, Certainty, Evidence, Explanation, Label, No};

/// Another range of positions for each position.
type Window = fn(usize, &Range<usize>) -> Range<usize>;

/// Positions rounded up to whole tiles, as far as the pass goes.
fn tile(position: usize, pass: &Range<usize>, side: usize) -> Range<usize> {
    0..((position / side + 1) * side).min(pass.end)
}

/// What a window means, from the simplest to the strangest.
const WINDOWS: [(Label, &str, Window); 16] = [
    (Label::OffByOneLength, "`pos` keys, without its own", |p, _| 0..p),
    (Label::OffByOneLength, "`pos + 2` keys, one too many", |p, _| 0..p + 2),
    (Label::OffByOneLength, "all keys but the first", |p, _| 1..p + 1),
    (Label::OffByOneLength, "`pos - 1` keys", |p, _| 0..p.saturating_sub(1)),
    (Label::MissingContext, "the keys of this pass only", |p, pass| pass.start..p + 1),
    (Label::MissingContext, "the keys of earlier passes only", |_, pass| 0..pass.start),
    (Label::MissingContext, "its own key only", |p, _| p..p + 1),
    (Label::MissingContext, "the last chunk of 64 keys only", |p, _| p / CHUNK * CHUNK..p + 1),
    (Label::MissingContext, "the first chunk of 64 keys only", |p, _| 0..CHUNK.min(p + 1)),
    (Label::MissingContext, "whole chunks of 64 keys only", |p, _| 0..(p + 1) / CHUNK * CHUNK),
    (Label::WrongMask, "all keys of the pass, the later ones too", |_, pass| 0..pass.end),
    (Label::WrongMask, "as many keys as the first row", |_, pass| 0..pass.start + 1),
    (Label::WrongMask, "keys up to a whole tile of 16", |p, pass| tile(p, pass, 16)),
    (Label::WrongMask, "keys up to a whole tile of 32", |p, pass| tile(p, pass, 32)),
    (Label::WrongMask, "keys up to a whole chunk of 64", |p, pass| tile(p, pass, CHUNK)),
    (Label::WrongMask, "as many keys as rows of this pass so far", |p, pass| 0..p + 1 - pass.start),
];

/// Another range of keys.
pub(super) fn windows(evidence: &Evidence<'_>) -> Answer {
    let inputs = Inputs::of(evidence)?;
    windows_in(evidence, &inputs, None)
        .or_else(|| {
            let size = evidence.config.head_size;
            let heads = evidence.differing().map(|index| index / size).collect();
            windows_in(evidence, &inputs, Some(&heads))
        })
        .ok_or(No::Refuted)
}

/// The same in all heads of all rows, or in some heads, by their place in the tensor.
fn windows_in(
    evidence: &Evidence<'_>,
    inputs: &Inputs<'_>,
    heads: Option<&BTreeSet<usize>>,
) -> Option<Explanation> {
    let place = |position: usize, head: usize| {
        (position - evidence.first_position) * evidence.config.heads + head
    };
    for (label, what, window) in WINDOWS {
        for in_place in [true, false] {
            let reading = |position: usize, head: usize| {
                let plain = Inputs::plain(evidence, position, head);
                if heads.is_some_and(|heads| !heads.contains(&place(position, head))) {
                    return plain;
                }
                let positions = window(position, &evidence.pass_positions);
                Reading { positions, in_place, ..plain }
            };
            let Some(open) = inputs.open(evidence, &reading) else { continue };
            if open > 0 && heads.is_some() {
                continue;
            }
            let count = evidence.actual.len() - open;
            let extent = heads.map_or_else(
                || format!("{count} of {count} elements"),
                |heads| format!("in {} heads of rows, all that differ", heads.len()),
            );
            let mut text = format!("attention over {what}, exactly, {extent}");
            let mut certainty = Certainty::Exact;
            if open > 0 {
                text.push_str(&format!("; {open} have no key left and say nothing"));
                certainty = Certainty::ExactInside;
            }
            return Some(Explanation::new(label, text).with("keys", what).certain(certainty));
        }
    }
    None
}

/// Query heads that read the keys and values of other heads.
pub(super) fn head_mapping(evidence: &Evidence<'_>) -> Answer {
    let inputs = Inputs::of(evidence)?;
    let (heads, kv_heads) = (evidence.config.heads, evidence.config.kv_heads);
    if kv_heads < 2 {
        return Err(No::Idle);
    }
    let row = *evidence.differing_rows().first().ok_or(No::Refuted)?;
    let position = evidence.first_position + row;
    // The row that differs says which head reads which; then all rows have to agree.
    let mut map = Vec::with_capacity(heads);
    for head in 0..heads {
        let own = Inputs::plain(evidence, position, head);
        let others = (0..kv_heads).filter(|kv_head| *kv_head != own.kv_head);
        let order = std::iter::once(own.kv_head).chain(others);
        let holds = |kv_head: &usize| {
            let read = Reading { kv_head: *kv_head, ..own.clone() };
            inputs.head_holds(evidence, row, head, &read) == Some(true)
        };
        map.push(order.into_iter().find(holds).ok_or(No::Refuted)?);
    }
    let reading = |position: usize, head: usize| Reading {
        kv_head: map[head],
        ..Inputs::plain(evidence, position, head)
    };
    if inputs.open(evidence, &reading) != Some(0) {
        return Err(No::Refuted);
    }
    let group = heads / kv_heads;
    let rules: [(&str, &dyn Fn(usize) -> usize); 4] = [
        ("h % kv_heads", &|head| head % kv_heads),
        ("min(h, kv_heads - 1)", &|head| head.min(kv_heads - 1)),
        ("0", &|_| 0),
        ("kv_heads - 1 - h / group", &|head| kv_heads - 1 - head / group),
    ];
    let is_rule = |rule: &dyn Fn(usize) -> usize| (0..heads).all(|head| map[head] == rule(head));
    let rule = rules.iter().find(|(_, rule)| is_rule(*rule)).map(|(words, _)| *words);
    let words = rule.map_or_else(|| format!("[{}][h]", list(&map)), str::to_owned);
    let text = format!(
        "query head h reads KV head {words} in the place of h / {group}, exactly, {}",
        evidence.all()
    );
    Ok(Explanation::new(Label::HeadMapping, text).with("kv_head", words).with("heads", list(&map)))
}

/// Keys and values of another layer, all of them or those of earlier passes.
pub(super) fn layer(evidence: &Evidence<'_>) -> Answer {
    let inputs = Inputs::of(evidence)?;
    let width = evidence.config.kv_heads * evidence.config.head_size;
    let mut known = false;
    for other in (0..evidence.config.layers).filter(|other| *other != inputs.layer) {
        let rows = |tap| rows_and_zeros(evidence, &Named { tap, layer: Some(other) });
        let (Ok(keys), Ok(values)) = (rows("k_rope"), rows("v")) else { continue };
        known = true;
        let both = Inputs { keys: keys.clone(), values: values.clone(), ..inputs.clone() };
        let (only_keys, only_values) =
            (Inputs { keys, ..inputs.clone() }, Inputs { values, ..inputs.clone() });
        let mut earlier = both.clone();
        let start = evidence.pass_positions.start * width;
        earlier.keys[start..].copy_from_slice(&inputs.keys[start..]);
        earlier.values[start..].copy_from_slice(&inputs.values[start..]);
        let forms = [
            (both, "keys and values"),
            (earlier, "keys and values of earlier passes"),
            (only_keys, "keys"),
            (only_values, "values"),
        ];
        for (form, what) in forms {
            if form.holds(evidence) {
                let text = format!(
                    "attention over the {what} of layer {other}, exactly, {}",
                    evidence.all()
                );
                return Ok(Explanation::new(Label::WrongLayer, text)
                    .with("layer", other)
                    .with("instead_of", inputs.layer)
                    .with("read", what));
            }
        }
    }
    Err(if known { No::Refuted } else { No::Lacks("keys and values of other layers".into()) })
}

/// Other queries, keys or values of the same layer: not rotated, exchanged, left over, not written.
pub(super) fn inputs(evidence: &Evidence<'_>) -> Answer {
    let inputs = Inputs::of(evidence)?;
    let named = |tap| Named { tap, layer: Some(inputs.layer) };
    let explain = |label, what: String| {
        let text = format!("attention with {what}, exactly, {}", evidence.all());
        Explanation::new(label, text).with("read", what)
    };
    for other in substitutes(evidence, &named("q_rope")) {
        if (Inputs { queries: other.rows, ..inputs.clone() }).holds(evidence) {
            return Ok(explain(other.label, format!("{} for the queries", other.what)));
        }
    }
    let Inputs { keys, values, .. } = &inputs;
    let mut forms = vec![
        (Label::WrongInput, "keys and values exchanged", values.clone(), keys.clone()),
        (Label::WrongInput, "the keys for the values", keys.clone(), keys.clone()),
        (Label::WrongInput, "the values for the keys", values.clone(), values.clone()),
    ];
    if let Ok(raw) = rows_and_zeros(evidence, &named("k")) {
        forms.push((Label::WrongInput, "keys that are not rotated", raw, values.clone()));
    }
    let width = evidence.config.kv_heads * evidence.config.head_size;
    let start = evidence.pass_positions.start * width;
    let zeros = |rows: &[f32]| {
        let mut rows = rows.to_vec();
        rows[start..].fill(0.0);
        rows
    };
    let left_over = |rows: &[f32]| {
        let mut rows = rows.to_vec();
        let end = rows.len() - width;
        if let Some(before) = start.checked_sub(end - start) {
            rows.copy_within(before..start, start);
        }
        rows
    };
    forms.push((
        Label::NotWritten,
        "zeros for the keys and values of this pass",
        zeros(keys),
        zeros(values),
    ));
    forms.push((Label::NotWritten, "zeros for the keys of this pass", zeros(keys), values.clone()));
    forms.push((
        Label::NotWritten,
        "zeros for the values of this pass",
        keys.clone(),
        zeros(values),
    ));
    let what = "keys and values left over from the pass before";
    forms.push((Label::Stale, what, left_over(keys), left_over(values)));
    for (label, what, keys, values) in forms {
        if (Inputs { keys, values, ..inputs.clone() }).holds(evidence) {
            return Ok(explain(label, what.to_owned()));
        }
    }
    Err(No::Refuted)
}

/// Keys and values kept in another precision, and scores scaled twice or not at all.
pub(super) fn precision(evidence: &Evidence<'_>) -> Answer {
    let inputs = Inputs::of(evidence)?;
    let each = |rows: &[f32], function: fn(f32) -> f32| -> Vec<f32> {
        rows.iter().map(|value| function(*value)).collect()
    };
    let as_is: Narrowing = ("f32", |value| value);
    for (what, function) in NARROWINGS.into_iter().chain([as_is]) {
        let keys = each(&inputs.keys, function);
        let values = each(&inputs.values, function);
        if (Inputs { keys, values, kv: KvType::F32, ..inputs.clone() }).holds(evidence) {
            let text = format!("keys and values kept in {what}, exactly, {}", evidence.all());
            return Ok(Explanation::new(Label::Rounding, text).with("kept", what));
        }
    }
    let root = (evidence.config.head_size as f32).sqrt();
    let factors = [root, 1.0 / root, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125, -1.0, 16.0, 0.0625];
    for factor in factors {
        let queries = inputs.queries.iter().map(|query| query * factor).collect();
        if (Inputs { queries: Cow::Owned(queries), ..inputs.clone() }).holds(evidence) {
            let text = format!("queries multiplied by {factor}, exactly, {}", evidence.all());
            return Ok(Explanation::new(Label::Scaled, text)
                .with("factor", factor)
                .with("of", "queries"));
        }
    }
    Err(No::Refuted)
}
