//! The heat map: taps against steps, in bins where there are many; the worst of a bin is shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::read::Run;
use crate::compare::outcomes::State;
use crate::report::taps::TapName;

/// The most columns.
const BINS_MAX: usize = 640;
/// Width of the cells together.
const CELLS_PIXELS: f64 = 640.0;
/// A single step is no wider than this.
const CELL_PIXELS_MAX: f64 = 22.0;
/// Width before the cells.
const LABEL_PIXELS: f64 = 96.0;
/// More rows than this are shown by layers first.
const ROWS_SHOWN_MAX: usize = 80;

/// What a cell says; the later is the worse. What was not compared is worse than what agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Equal,
    Quarter,
    Half,
    ThreeQuarters,
    Bound,
    NotCompared,
    NonFinite,
    Differs,
    Beyond,
    NoPartner,
}

const CELLS: [(Cell, &str, &str); 10] = [
    (Cell::Equal, "equal", "equal bits"),
    (Cell::Quarter, "quarter", "at most a quarter of the bound"),
    (Cell::Half, "half", "at most half of the bound"),
    (Cell::ThreeQuarters, "three", "at most three quarters of the bound"),
    (Cell::Bound, "bound", "within the bound"),
    (Cell::NotCompared, "none", "not compared"),
    (Cell::NonFinite, "nonfinite", "no number, on both sides"),
    (Cell::Differs, "differs", "other bits"),
    (Cell::Beyond, "beyond", "beyond the bound"),
    (Cell::NoPartner, "partner", "a tap of one side only"),
];

impl Cell {
    fn of(state: State, share: Option<f64>) -> Self {
        let quarters = share.map_or(4.0, |share| (share * 4.0).ceil());
        match state {
            State::Equal => Self::Equal,
            State::Within if quarters <= 1.0 => Self::Quarter,
            State::Within if quarters <= 2.0 => Self::Half,
            State::Within if quarters <= 3.0 => Self::ThreeQuarters,
            State::Within => Self::Bound,
            State::NonFinite => Self::NonFinite,
            State::Differs => Self::Differs,
            State::Beyond => Self::Beyond,
            State::NoPartner => Self::NoPartner,
        }
    }
}

/// A row's name beside it.
pub(super) struct Label {
    pub(super) text: String,
    pub(super) y: f64,
}

/// Cells of one kind.
pub(super) struct Kind {
    pub(super) class: &'static str,
    pub(super) words: &'static str,
    pub(super) path: String,
}

/// A map as it is drawn.
pub(super) struct Map {
    pub(super) title: String,
    pub(super) labels: Vec<Label>,
    pub(super) kinds: Vec<Kind>,
    pub(super) ticks: Vec<(f64, usize)>,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) label_pixels: f64,
}

/// All maps of a run.
pub(super) struct Heat {
    pub(super) summary: String,
    pub(super) maps: Vec<Map>,
    /// Every tap, where the maps before show layers.
    pub(super) every: Option<Map>,
}

struct Grid {
    names: Vec<TapName>,
    rows: Vec<Vec<Cell>>,
    first_steps: Vec<usize>,
}

/// The maps of a run; nothing where no step was compared.
pub(super) fn heat(run: &Run) -> Option<Heat> {
    let grid = grid(run)?;
    let summary = summary(run, &grid);
    let names: Vec<String> = grid.names.iter().map(name).collect();
    if grid.rows.len() <= ROWS_SHOWN_MAX {
        let map = draw("Every tap".to_owned(), &names, &grid.rows, &grid.first_steps);
        return Some(Heat { summary, maps: vec![map], every: None });
    }
    let mut layers: Vec<(String, Vec<Cell>)> = Vec::new();
    for ((layer, tap), row) in grid.names.iter().zip(&grid.rows) {
        let label = layer.map_or_else(|| tap.to_string(), |layer| format!("layer {layer}"));
        match layers.iter_mut().find(|(name, _)| *name == label) {
            Some((_, worst)) => {
                worst.iter_mut().zip(row).for_each(|(one, two)| *one = (*one).max(*two));
            }
            None => layers.push((label, row.clone())),
        }
    }
    let (labels, rows): (Vec<String>, Vec<Vec<Cell>>) = layers.into_iter().unzip();
    let title = "By layers, the worst tap of each".to_owned();
    let mut maps = vec![draw(title, &labels, &rows, &grid.first_steps)];
    // The layer where it begins, tap by tap.
    let bad = |row: &[Cell]| row.iter().any(|cell| *cell >= Cell::NonFinite);
    let layer = first_unequal(&grid).and_then(|index| grid.names[index].0);
    if let Some(layer) = layer.filter(|_| grid.rows.iter().any(|row| bad(row))) {
        let of = |index: &usize| grid.names[*index].0 == Some(layer);
        let chosen: Vec<usize> = (0..grid.names.len()).filter(of).collect();
        let labels: Vec<String> = chosen.iter().map(|&i| grid.names[i].1.to_string()).collect();
        let rows: Vec<Vec<Cell>> = chosen.iter().map(|&index| grid.rows[index].clone()).collect();
        maps.push(draw(format!("Layer {layer}, tap by tap"), &labels, &rows, &grid.first_steps));
    }
    let every = Some(draw("Every tap".to_owned(), &names, &grid.rows, &grid.first_steps));
    Some(Heat { summary, maps, every })
}

fn name((layer, tap): &TapName) -> String {
    layer.map_or_else(|| tap.to_string(), |layer| format!("{layer} {tap}"))
}

/// The row that is the first to be unequal, in the earliest bin.
fn first_unequal(grid: &Grid) -> Option<usize> {
    let at = |row: &[Cell]| row.iter().position(|cell| *cell >= Cell::NonFinite);
    let rows = grid.rows.iter().enumerate().filter_map(|(index, row)| Some((at(row)?, index)));
    rows.min().map(|(_, index)| index)
}

fn grid(run: &Run) -> Option<Grid> {
    let mut index: BTreeMap<&TapName, usize> = BTreeMap::new();
    let mut names: Vec<TapName> = Vec::new();
    let mut places: Vec<Vec<usize>> = Vec::new();
    for list in &run.names {
        let place = list.iter().map(|name| {
            *index.entry(name).or_insert_with(|| {
                names.push(name.clone());
                names.len() - 1
            })
        });
        places.push(place.collect());
    }
    let count = run.taps.len();
    let bins = count.min(BINS_MAX);
    if names.is_empty() || bins == 0 {
        return None;
    }
    let mut rows = vec![vec![Cell::Equal; bins]; names.len()];
    let mut first_steps = vec![usize::MAX; bins];
    for (number, step) in run.taps.iter().enumerate() {
        let bin = number * bins / count;
        first_steps[bin] = first_steps[bin].min(step.step);
        let mut seen = vec![false; names.len()];
        let mut at = 0;
        for (length, state) in &step.runs {
            for local in at..at + length {
                let row = places[step.names][local];
                let share = step.shares.as_ref().and_then(|shares| shares.get(local)).copied();
                seen[row] = true;
                rows[row][bin] = rows[row][bin].max(Cell::of(*state, share));
            }
            at += length;
        }
        for (row, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            rows[row][bin] = rows[row][bin].max(Cell::NotCompared);
        }
    }
    Some(Grid { names, rows, first_steps })
}

fn summary(run: &Run, grid: &Grid) -> String {
    let (taps, steps) = (grid.names.len(), run.taps.len());
    let unequal = run.taps.iter().filter(|step| step.verdict != "agrees").count();
    let per_column = match steps.div_ceil(BINS_MAX) {
        1 => String::new(),
        most => format!("; a column is up to {most} steps, and shows the worst of them"),
    };
    let said = match (unequal, first_unequal(grid)) {
        (0, _) => "all agree".to_owned(),
        (_, Some(row)) => {
            let step = run.taps.iter().find(|step| step.verdict != "agrees");
            let step = step.map_or(0, |step| step.step);
            let (layer, tap) = &grid.names[row];
            let place = layer.map_or_else(String::new, |layer| format!("layer {layer} "));
            format!("not in agreement: {unequal}, first step {step} at {place}tap {tap}")
        }
        (_, None) => format!("not in agreement: {unequal}"),
    };
    let steps = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
    format!("{taps} taps over {steps}; {said}{per_column}.")
}

fn draw(title: String, names: &[String], rows: &[Vec<Cell>], first_steps: &[usize]) -> Map {
    let bins = first_steps.len();
    let row_pixels = match rows.len() {
        0..=40 => 15.0,
        41..=ROWS_SHOWN_MAX => 11.0,
        _ => 4.0,
    };
    let cell_pixels = (CELLS_PIXELS / bins as f64).min(CELL_PIXELS_MAX);
    let spacing = if cell_pixels < 3.0 { 0.0 } else { 1.0 };
    let line = if row_pixels < 8.0 { 0.0 } else { 1.0 };
    let mut paths = vec![String::new(); CELLS.len()];
    for (index, row) in rows.iter().enumerate() {
        let y = index as f64 * row_pixels;
        let mut bin = 0;
        while bin < bins {
            let cell = row[bin];
            // Where cells have no space between them, equal neighbours are one rectangle.
            let run = row[bin..].iter().take_while(|other| **other == cell).count();
            let length = if spacing > 0.0 { 1 } else { run };
            let x = LABEL_PIXELS + bin as f64 * cell_pixels;
            let (width, height) = (length as f64 * cell_pixels - spacing, row_pixels - line);
            let _ = write!(paths[cell as usize], "M{x:.1} {y}h{width:.2}v{height}h-{width:.2}z");
            bin += length;
        }
    }
    let kinds = CELLS.iter().zip(paths).filter(|(_, path)| !path.is_empty());
    let kinds = kinds.map(|(&(_, class, words), path)| Kind { class, words, path }).collect();
    let every = if row_pixels < 8.0 { (11.0 / row_pixels).ceil() as usize } else { 1 };
    let labels = names.iter().enumerate().step_by(every).map(|(index, name)| Label {
        text: name.clone(),
        y: (index as f64 + 0.5) * row_pixels + 3.0,
    });
    let tick_every = bins.div_ceil(8).max(1);
    let ticks = (0..bins)
        .step_by(tick_every)
        .map(|bin| (LABEL_PIXELS + (bin as f64 + 0.5) * cell_pixels, first_steps[bin]));
    Map {
        title,
        labels: labels.collect(),
        kinds,
        ticks: ticks.collect(),
        width: LABEL_PIXELS + CELLS_PIXELS,
        height: rows.len() as f64 * row_pixels + 16.0,
        label_pixels: LABEL_PIXELS - 6.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::StepTaps;
    use super::*;

    /// A run of so many steps over taps with these names, all equal.
    fn run(steps: usize, names: Vec<TapName>) -> Run {
        let count = names.len();
        let taps = (0..steps).map(|step| StepTaps {
            step,
            names: 0,
            runs: vec![(count, State::Equal)],
            shares: None,
            verdict: "agrees".to_owned(),
            message: None,
        });
        Run { taps: taps.collect(), names: vec![names], ..Run::default() }
    }

    fn layers(count: usize) -> Vec<TapName> {
        (0..count).flat_map(|layer| ["q", "k"].map(|tap| (Some(layer), tap.into()))).collect()
    }

    fn words(map: &Map) -> Vec<&'static str> {
        map.kinds.iter().map(|kind| kind.class).collect()
    }

    #[test]
    fn one_step_of_many_is_not_lost_in_its_column() {
        let mut run = run(10_000, layers(100));
        let equal = heat(&run).unwrap();
        assert!(equal.summary.contains("all agree"), "{}", equal.summary);
        assert!(equal.maps.iter().all(|map| words(map) == ["equal"]));
        run.taps[7_777].runs = vec![(51, State::Equal), (1, State::Differs), (148, State::Equal)];
        "diverges".clone_into(&mut run.taps[7_777].verdict);
        let heat = heat(&run).unwrap();
        assert!(heat.summary.contains("step 7777 at layer 25 tap k"), "{}", heat.summary);
        assert_eq!(heat.maps.len(), 2, "the layers, and the one where it begins");
        assert_eq!(heat.maps[1].title, "Layer 25, tap by tap");
        assert!(heat.maps.iter().chain(&heat.every).all(|map| words(map) == ["equal", "differs"]));
    }

    #[test]
    fn what_a_step_did_not_compare_is_no_agreement() {
        let mut run = run(3, layers(2));
        run.names.push(vec![(Some(0), "q".into())]);
        run.taps[1].names = 1;
        run.taps[1].runs = vec![(1, State::NoPartner)];
        assert_eq!(words(&heat(&run).unwrap().maps[0]), ["equal", "none", "partner"]);
    }

    #[test]
    fn shares_of_a_bound_have_their_quarter_and_nan_has_none() {
        let share = |share| Cell::of(State::Within, Some(share));
        let shares = [0.0, 0.25, 0.26, 0.75, 1.0, f64::NAN].map(share);
        let quarters = [
            Cell::Quarter,
            Cell::Quarter,
            Cell::Half,
            Cell::ThreeQuarters,
            Cell::Bound,
            Cell::Bound,
        ];
        assert_eq!(shares, quarters);
    }
}
