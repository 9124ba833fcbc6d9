//! The faults as a table: seen, placed, explained, and what weaker checks would have passed.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::Trial;
use super::weak::Weak;

/// What a check did with a fault.
fn seen(passes: bool) -> &'static str {
    if passes { "-" } else { "sees" }
}

fn right(right: bool) -> &'static str {
    if right { "yes" } else { "NO" }
}

fn weak_words(trial: &Trial) -> [&'static str; 6] {
    let Some(weak) = &trial.weak else {
        return [if trial.judgement == "refused" { "refused" } else { "" }; 6];
    };
    [
        weak.text_passes,
        weak.top1_passes,
        weak.cosine_passes,
        weak.nmse_loose_passes,
        weak.nmse_tight_passes,
        weak.largest_passes,
    ]
    .map(seen)
}

/// The table for people.
pub fn table(trials: &[Trial]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header([
        "fault",
        "what",
        "on",
        "caught",
        "first at",
        "there",
        "judged",
        "cause",
        "so",
        "seconds",
        "text",
        "top-1",
        "cos .99",
        "nmse 5e-4",
        "nmse 1e-6",
        "max 5e-3",
    ]);
    for trial in trials.iter().filter(|trial| trial.skipped.is_none()) {
        let caught = match (trial.id, trial.caught) {
            ("none", false) => "no alarm",
            ("none", true) => "ALARM",
            (_, caught) => right(caught),
        };
        let mut cells = vec![
            trial.id.to_owned(),
            trial.what.to_owned(),
            trial.fixture.clone(),
            caught.to_owned(),
            trial.place.clone(),
            right(trial.place_right).to_owned(),
            trial.judgement.clone(),
            trial.cause.clone(),
            right(trial.cause_right).to_owned(),
            format!("{:.2} s", trial.seconds),
        ];
        cells.extend(weak_words(trial).map(str::to_owned));
        table.add_row(cells);
    }
    if let Some(column) = table.column_mut(9) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n\n" + &summary(trials) + &skipped(trials)
}

/// What was not planted, a line each.
fn skipped(trials: &[Trial]) -> String {
    let line = |trial: &Trial| {
        let reason = trial.skipped.as_ref()?;
        Some(format!("{} does not apply to {}: {reason}\n", trial.id, trial.fixture))
    };
    trials.iter().filter_map(line).collect()
}

/// How many of each.
pub fn summary(trials: &[Trial]) -> String {
    let planted: Vec<&Trial> =
        trials.iter().filter(|t| t.id != "none" && t.skipped.is_none()).collect();
    let count = |holds: &dyn Fn(&Trial) -> bool| planted.iter().filter(|t| holds(t)).count();
    let all = planted.len();
    let alarms = trials.iter().filter(|trial| trial.id == "none" && trial.caught).count();
    let weak = planted.iter().filter_map(|trial| trial.weak.as_ref()).collect::<Vec<_>>();
    let sees = |passes: fn(&Weak) -> bool| weak.iter().filter(|weak| !passes(weak)).count();
    let found = format!(
        "{} of {all} caught, {} placed, {} explained; {alarms} alarms without a fault\n",
        count(&|trial| trial.caught),
        count(&|trial| trial.place_right),
        count(&|trial| trial.cause_right),
    );
    if weak.is_empty() {
        return found;
    }
    found
        + &format!(
            "weaker checks, of {} that run to the end: text {}, top-1 {}, cosine above 0.99 {}, \
             NMSE below 5e-4 {}, below 1e-6 {}, largest difference below 5e-3 {}\n",
            weak.len(),
            sees(|weak| weak.text_passes),
            sees(|weak| weak.top1_passes),
            sees(|weak| weak.cosine_passes),
            sees(|weak| weak.nmse_loose_passes),
            sees(|weak| weak.nmse_tight_passes),
            sees(|weak| weak.largest_passes),
        )
}
