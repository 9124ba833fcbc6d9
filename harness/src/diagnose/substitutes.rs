//! What an operation may have read in the place of an input, each with the name of its cause.

use std::borrow::Cow;

use super::operation::{Named, stream_into};
use super::{Evidence, Label};
use crate::sides::LAYER_TAPS;

/// How many positions back an input may be left over from.
const LAG_MAX: usize = 64;

/// Rows that may stand where an input should.
pub(super) struct Substitute<'a> {
    pub(super) label: Label,
    pub(super) what: String,
    /// As many rows as the tap has.
    pub(super) rows: Cow<'a, [f32]>,
}

/// The substitutes of `named`, the likely ones first. Inputs that are not known are left out.
pub(super) fn substitutes<'a>(evidence: &Evidence<'a>, named: &Named) -> Vec<Substitute<'a>> {
    let Ok(own) = evidence.input(named) else { return Vec::new() };
    let rows = evidence.rows();
    let width = own.len() / rows;
    let mut found = Vec::new();
    let mut add = |label, what: String, rows: Cow<'a, [f32]>| {
        if rows.len() == own.len() && *rows != *own {
            found.push(Substitute { label, what, rows });
        }
    };
    if let (Some(layer), false) = (named.layer, named.tap == "ffn_residual") {
        for other in (0..evidence.config.layers).filter(|other| *other != layer) {
            let other = Named { tap: named.tap, layer: Some(other) };
            if let Ok(rows) = evidence.input(&other) {
                add(Label::WrongLayer, other.to_string(), rows);
            }
        }
    }
    for (words, from) in [("the first row", 0), ("the last row", rows - 1)] {
        let row = &own[from * width..][..width];
        let what = format!("{words} of {named} for all");
        add(Label::WrongRow, what, Cow::Owned(row.repeat(rows)));
    }
    for lag in 1..=LAG_MAX.min(evidence.first_position) {
        let positions = evidence.first_position - lag..evidence.positions().end - lag;
        if let Ok(rows) = evidence.rows_of(named, positions) {
            // A readout, or some rows of a pass, have rows of their own pass before them.
            let is_of_pass = evidence.first_position - lag >= evidence.pass_positions.start;
            let label = if is_of_pass { Label::WrongRow } else { Label::Stale };
            add(label, format!("{named} of {lag} positions before"), rows);
        }
    }
    let layer = evidence.layer.or_else(|| evidence.config.layers.checked_sub(1));
    for tap in LAYER_TAPS.into_iter().chain(["embed"]) {
        let other = match (tap, layer) {
            ("embed", _) => Named { tap, layer: None },
            (_, Some(layer)) => Named { tap, layer: Some(layer) },
            (_, None) => continue,
        };
        if let Ok(rows) = evidence.input(&other) {
            add(Label::WrongInput, other.to_string(), rows);
        }
    }
    if let Some(layer) = layer {
        // The streams of this layer and the ones before.
        for other in (0..=layer).rev().map(stream_into) {
            if let Ok(rows) = evidence.input(&other) {
                add(Label::WrongInput, other.to_string(), rows);
            }
        }
    }
    found
}
