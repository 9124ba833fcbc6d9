//! The figures of one run, as `verdict.json` has them: every report takes them from here.

use serde::{Deserialize, Serialize};

use crate::event::Outcome;

/// How much was compared, and what it showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// How many steps were compared.
    pub steps_compared: usize,
    /// How many of them agree.
    pub steps_agreeing: usize,
    /// Pairs of rows.
    pub rows_compared: u64,
    /// Pairs of rows that differ, or have no partner.
    pub rows_differing: u64,
    /// Pairs of values in them.
    pub elements_compared: u64,
    /// Pairs of values that differ.
    pub elements_differing: u64,
    /// How many chunkings were run again, where that was done.
    pub chunkings_count: Option<usize>,
    /// How many of them gave other bits.
    pub chunkings_diverging: Option<usize>,
    /// Whether the planted bit was seen, where there was a row to plant it in.
    pub canary_seen: Option<bool>,
    /// Copies whose bounds were checked, on a side that has device memory.
    pub copies_checked: Option<u64>,
    /// All of them.
    pub copies_total: Option<u64>,
}

impl Figures {
    /// Those of a run that has ended.
    pub fn of(outcome: &Outcome) -> Self {
        let chunkings = outcome.prefill_decode.as_ref();
        Self {
            steps_compared: outcome.steps_compared,
            steps_agreeing: outcome.steps_agreeing,
            rows_compared: outcome.tally.rows_compared,
            rows_differing: outcome.tally.rows_differing,
            elements_compared: outcome.tally.elements_compared,
            elements_differing: outcome.tally.elements_differing,
            chunkings_count: chunkings.map(|summary| summary.chunkings_count),
            chunkings_diverging: chunkings.map(|summary| summary.diverging_count),
            canary_seen: outcome.canary.map(|canary| canary.seen),
            copies_checked: outcome.copies.map(|copies| copies.checked),
            copies_total: outcome.copies.map(|copies| copies.total),
        }
    }

    /// Name and value of each that there is, in this order.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let mut named = vec![
            ("steps_compared", self.steps_compared.to_string()),
            ("steps_agreeing", self.steps_agreeing.to_string()),
            ("rows_compared", self.rows_compared.to_string()),
            ("rows_differing", self.rows_differing.to_string()),
            ("elements_compared", self.elements_compared.to_string()),
            ("elements_differing", self.elements_differing.to_string()),
        ];
        let count = |count: usize| count.to_string();
        let wide = |count: u64| count.to_string();
        let more = [
            ("chunkings_count", self.chunkings_count.map(count)),
            ("chunkings_diverging", self.chunkings_diverging.map(count)),
            ("canary_seen", self.canary_seen.map(|seen| seen.to_string())),
            ("copies_checked", self.copies_checked.map(wide)),
            ("copies_total", self.copies_total.map(wide)),
        ];
        named.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        named
    }
}
