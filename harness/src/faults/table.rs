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

fn weak_words(weak: Option<&Weak>) -> [&'static str; 6] {
    let Some(weak) = weak else { return ["refused"; 6] };
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
    for trial in trials {
        let caught = match (trial.id, trial.caught) {
            ("none", false) => "no alarm",
            ("none", true) => "ALARM",
            (_, caught) => right(caught),
        };
        let mut cells = vec![
            trial.id.to_owned(),
            trial.what.to_owned(),
            trial.fixture.to_owned(),
            caught.to_owned(),
            trial.place.clone(),
            right(trial.place_right).to_owned(),
            trial.judgement.clone(),
            trial.cause.clone(),
            right(trial.cause_right).to_owned(),
            format!("{:.2} s", trial.seconds),
        ];
        cells.extend(weak_words(trial.weak.as_ref()).map(str::to_owned));
        table.add_row(cells);
    }
    if let Some(column) = table.column_mut(9) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n\n" + &summary(trials)
}

/// How many of each.
pub fn summary(trials: &[Trial]) -> String {
    let planted: Vec<&Trial> = trials.iter().filter(|trial| trial.id != "none").collect();
    let count = |holds: &dyn Fn(&Trial) -> bool| planted.iter().filter(|t| holds(t)).count();
    let all = planted.len();
    let alarms = trials.iter().filter(|trial| trial.id == "none" && trial.caught).count();
    let weak = planted.iter().filter_map(|trial| trial.weak.as_ref()).collect::<Vec<_>>();
    let sees = |passes: fn(&Weak) -> bool| weak.iter().filter(|weak| !passes(weak)).count();
    format!(
        "{} of {all} caught, {} placed, {} explained; {alarms} alarms without a fault\n\
         weaker checks, of {} that run to the end: text {}, top-1 {}, cosine above 0.99 {}, NMSE \
         below 5e-4 {}, below 1e-6 {}, largest difference below 5e-3 {}\n",
        count(&|trial| trial.caught),
        count(&|trial| trial.place_right),
        count(&|trial| trial.cause_right),
        weak.len(),
        sees(|weak| weak.text_passes),
        sees(|weak| weak.top1_passes),
        sees(|weak| weak.cosine_passes),
        sees(|weak| weak.nmse_loose_passes),
        sees(|weak| weak.nmse_tight_passes),
        sees(|weak| weak.largest_passes),
    )
}
