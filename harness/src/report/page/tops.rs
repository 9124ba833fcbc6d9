//! The steps as a table: the token, the first five of each side, and whether the hashes are equal.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::figures::raw;
use super::read::{Landscape, Readout, Run};

/// The most steps that stand in the table itself; the others are a step away.
const LISTED_MAX: usize = 24;

/// No f32 is longer than this, unless it is very small.
const FIGURE_LETTERS_MAX: usize = 12;

/// A token among the first five.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) id: u32,
    pub(super) logit: String,
    /// Whether the engine has another one in this place.
    pub(super) other: bool,
}

/// A side at a step, or all of them where they say the same.
pub(super) struct SideRow {
    pub(super) side: String,
    pub(super) hash: String,
    pub(super) gap: String,
    pub(super) entropy: String,
    pub(super) top: Vec<Shown>,
}

/// A step.
pub(super) struct StepRow {
    pub(super) step: usize,
    pub(super) position: usize,
    pub(super) token: String,
    pub(super) verdict: String,
    pub(super) sides: Vec<SideRow>,
}

/// The steps that are shown, and all of them for a script.
pub(super) struct Tops {
    pub(super) rows: Vec<StepRow>,
    pub(super) steps_count: usize,
    pub(super) last_step: usize,
    /// JSON that is safe inside of a page; nothing where every step is in the table.
    pub(super) data: Option<String>,
}

type Sides<'a> = Vec<(&'a Landscape, Option<&'a Readout>)>;

/// The table of a run.
pub(super) fn tops(run: &Run, with_data: bool) -> Option<Tops> {
    let mut readouts: BTreeMap<(usize, &str), &Readout> = BTreeMap::new();
    readouts.extend(run.readouts.iter().map(|line| ((line.step, line.side.as_str()), line)));
    let mut steps: BTreeMap<usize, Sides<'_>> = BTreeMap::new();
    for landscape in &run.landscapes {
        let readout = readouts.get(&(landscape.step, landscape.side.as_str())).copied();
        steps.entry(landscape.step).or_default().push((landscape, readout));
    }
    let last_step = *steps.keys().next_back()?;
    let chosen = chosen(run, &steps);
    let rows = chosen.iter().filter_map(|step| Some(step_row(*step, steps.get(step)?)));
    let rows: Vec<StepRow> = rows.collect();
    let data = (with_data && rows.len() < steps.len()).then(|| data(&steps));
    Some(Tops { rows, steps_count: steps.len(), last_step, data })
}

/// The first, the last, those around the first that does not agree, and some between.
fn chosen(run: &Run, steps: &BTreeMap<usize, Sides<'_>>) -> BTreeSet<usize> {
    let all: Vec<usize> = steps.keys().copied().collect();
    if all.len() <= LISTED_MAX {
        return all.into_iter().collect();
    }
    let mut chosen: BTreeSet<usize> = [all[0], all[all.len() - 1]].into();
    let unequal = run.readouts.iter().find(|line| line.verdict != "agrees").map(|line| line.step);
    if let Some(step) = unequal {
        chosen.extend([step.saturating_sub(1), step, step + 1]);
    }
    let between = LISTED_MAX - chosen.len();
    chosen.extend((1..=between).map(|part| all[part * (all.len() - 1) / (between + 1)]));
    chosen
}

/// A token's text with everything escaped that would not be seen.
fn quoted(text: &str) -> String {
    format!("“{}”", text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\""))
}

/// A figure with the digits that an f32 has; an f64 has more in the files.
fn figure(value: &Value) -> String {
    let text = raw(value);
    match value.as_f64() {
        Some(value) if text.len() > FIGURE_LETTERS_MAX => (value as f32).to_string(),
        _ => text,
    }
}

/// Seventeen digits of a sum of 64 terms tell a reader less than five.
fn short(value: &Value) -> String {
    value.as_f64().map_or_else(|| raw(value), |value| format!("{value:.4}"))
}

fn step_row(step: usize, sides: &Sides<'_>) -> StepRow {
    let readout = sides.iter().find_map(|(_, readout)| *readout);
    let token = readout.map_or_else(String::new, |readout| match &readout.token {
        Some(text) => format!("{} {}", readout.token_id, quoted(text)),
        None => readout.token_id.to_string(),
    });
    let first = sides[0];
    let side = |(landscape, readout): &(&Landscape, Option<&Readout>)| SideRow {
        side: landscape.side.clone(),
        hash: readout.and_then(|readout| readout.hidden_hash.clone()).unwrap_or_default(),
        gap: figure(&landscape.gap),
        entropy: short(&landscape.entropy_topk),
        top: landscape
            .top5
            .iter()
            .enumerate()
            .map(|(place, top)| Shown {
                text: top.text.as_deref().map_or_else(String::new, quoted),
                id: top.id,
                logit: figure(&top.logit),
                other: first.0.top5.get(place).is_none_or(|one| one.id != top.id),
            })
            .collect(),
    };
    let mut rows: Vec<SideRow> = sides.iter().map(side).collect();
    if rows.len() > 1 && sides.iter().all(|other| same(first, *other)) {
        rows.truncate(1);
        "all".clone_into(&mut rows[0].side);
    }
    StepRow {
        step,
        position: readout.map_or(0, |readout| readout.pos_id),
        token,
        verdict: readout.map_or_else(String::new, |readout| readout.verdict.clone()),
        sides: rows,
    }
}

/// Whether two sides say the same in everything that is shown.
fn same(one: (&Landscape, Option<&Readout>), two: (&Landscape, Option<&Readout>)) -> bool {
    let hashes = |readout: Option<&Readout>| {
        readout.map(|readout| (readout.hidden_hash.clone(), readout.logits_hash.clone()))
    };
    let both = one.1.is_some_and(|readout| readout.hidden_hash.is_some());
    both && hashes(one.1) == hashes(two.1)
        && (&one.0.gap, &one.0.entropy_topk) == (&two.0.gap, &two.0.entropy_topk)
        && one.0.top5 == two.0.top5
}

/// All steps as compactly as JSON can: texts once, and 0 for a side that is the first again.
fn data(steps: &BTreeMap<usize, Sides<'_>>) -> String {
    let mut texts: BTreeMap<u32, String> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    let mut rows: Vec<Value> = Vec::new();
    for (step, sides) in steps {
        let row = step_row(*step, sides);
        let mut entries = Vec::new();
        for (landscape, readout) in sides {
            let name = landscape.side.as_str();
            let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            if place > 0 && same(sides[0], (landscape, *readout)) {
                entries.push(json!(0));
                continue;
            }
            let top = landscape.top5.iter().map(|top| {
                texts
                    .entry(top.id)
                    .or_insert_with(|| top.text.as_deref().map_or_else(String::new, quoted));
                json!([top.id, top.logit])
            });
            let top: Vec<Value> = top.collect();
            let hash = readout.and_then(|readout| readout.hidden_hash.clone()).unwrap_or_default();
            entries.push(json!([place, hash, landscape.gap, landscape.entropy_topk, top]));
        }
        rows.push(json!([row.step, row.position, row.token, row.verdict, entries]));
    }
    let text = json!({ "texts": texts, "sides": names, "steps": rows }).to_string();
    // Inside of a script nothing may look like its end.
    text.replace('<', "\\u003c")
}
