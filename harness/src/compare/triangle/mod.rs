//! Three voices at one step: how far engine and `stock` are from `wide`, and whether they may be.

use serde::{Serialize, Serializer};

use super::familiar::Familiar;
use super::limits::{F32_ROUNDING, RULE_OF_THREE, TOP1_GAP, TRIANGLE};
use super::outcomes::{State, TapOutcome};
use super::{Difference, Divergence, Place, Verdict};
use crate::landscape::Landscape;
use crate::number::Number;
use crate::sides::Row;

#[cfg(test)]
mod tests;

fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number::F64(*value).serialize(serializer)
}

/// How far one readout is from another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// `|a - b| / |b|` of the hidden states, in the Euclidean norm.
    #[serde(serialize_with = "number")]
    pub hidden_relative: f64,
    /// The same of the logits less their mean: a common shift changes no probability, and is one
    /// number on each side, whose ratio means nothing.
    #[serde(serialize_with = "number")]
    pub logits_relative: f64,
    /// How far the means of the logits are apart.
    #[serde(serialize_with = "number")]
    pub logits_shift: f64,
    /// The largest difference of a logit.
    #[serde(serialize_with = "number")]
    pub logits_abs_max: f64,
}

/// The two rows of a readout.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The hidden state.
    pub hidden: &'a Row,
    /// The logits.
    pub logits: &'a Row,
}

/// How far `of` is from `from`. Rows of two lengths are infinitely far apart; NaN stays NaN.
pub fn distance(of: Rows<'_>, from: Rows<'_>) -> Distance {
    let (hidden_relative, _) = row_distance(&of.hidden.to_f64(), &from.hidden.to_f64());
    let (of, from) = (of.logits.to_f64(), from.logits.to_f64());
    let (logits_relative, _) = row_distance(&centred(&of), &centred(&from));
    let (_, logits_abs_max) = row_distance(&of, &from);
    let logits_shift = (mean(&of) - mean(&from)).abs();
    Distance { hidden_relative, logits_relative, logits_shift, logits_abs_max }
}

/// A row less its mean.
fn centred(row: &[f64]) -> Vec<f64> {
    let mean = mean(row);
    row.iter().map(|value| value - mean).collect()
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len() as f64
}

fn row_distance(of: &[f64], from: &[f64]) -> (f64, f64) {
    if of.len() != from.len() {
        return (f64::INFINITY, f64::INFINITY);
    }
    let (mut squares, mut norm, mut largest) = (0.0, 0.0, 0.0_f64);
    for (one, two) in of.iter().zip(from) {
        let difference = (one - two).abs();
        squares += difference * difference;
        norm += two * two;
        // Not `max`, which would lose a NaN.
        if difference.is_nan() || difference > largest {
            largest = difference;
        }
    }
    let relative = if squares == 0.0 { 0.0 } else { (squares / norm).sqrt() };
    (relative, largest)
}

/// What `stock` was off by at the steps before this one: one step is one draw, and may be lucky.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usual {
    hidden_relative: Vec<f64>,
    logits_relative: Vec<f64>,
    logits_abs_max: Vec<f64>,
}

impl Usual {
    /// Adds a step.
    pub fn add(&mut self, stock_from_wide: Distance) {
        let Distance { hidden_relative, logits_relative, logits_abs_max, .. } = stock_from_wide;
        for (sorted, value) in [
            (&mut self.hidden_relative, hidden_relative),
            (&mut self.logits_relative, logits_relative),
            (&mut self.logits_abs_max, logits_abs_max),
        ] {
            let at = sorted.partition_point(|other| other.total_cmp(&value).is_lt());
            sorted.insert(at, value);
        }
    }
}

/// The middle one, the smaller of two; 0 of none.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// The roundings of a residual stream, added up layer by layer from its rows in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stream {
    squares: f64,
    last_square: f64,
}

impl Stream {
    /// Adds the stream after a layer.
    pub fn add(&mut self, row: &Row) {
        self.last_square = row.to_f64().iter().map(|value| value * value).sum();
        self.squares += 2.0 * self.last_square;
    }

    /// What rounding to f32 leaves on the last row, relative to it.
    pub fn rounding(&self) -> f64 {
        if self.last_square == 0.0 {
            0.0
        } else {
            F32_ROUNDING * (self.squares / self.last_square).sqrt()
        }
    }
}

/// Which of the two references is the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// f64: the rule of three.
    Wide,
    /// candle's floats: the triangle.
    Stock,
}

/// The distances of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Triangle {
    /// The engine from `wide`.
    pub engine_from_wide: Distance,
    /// `stock` from `wide`: the measure of what is allowed.
    pub stock_from_wide: Distance,
    /// The engine from `stock`.
    pub engine_from_stock: Distance,
    /// The relative error that rounding alone leaves on the residual stream.
    #[serde(serialize_with = "number")]
    pub stream_rounding: f64,
    /// Hidden state: engine from `wide` over `stock` from `wide`, or over the median of that
    /// before this step or the rounding if they are more.
    #[serde(serialize_with = "number")]
    pub hidden_ratio: f64,
    /// Logits: the same.
    #[serde(serialize_with = "number")]
    pub logits_ratio: f64,
    /// What people know, of the engine's logits from `wide`; never a verdict.
    pub familiar: Option<Familiar>,
    /// What the factor of a rule multiplies.
    #[serde(skip)]
    unit: Distance,
}

impl Triangle {
    /// Measures all three.
    pub fn measure(
        engine: Rows<'_>,
        stock: Rows<'_>,
        wide: Rows<'_>,
        stream: Stream,
        usual: &Usual,
    ) -> Self {
        let engine_from_wide = distance(engine, wide);
        let stock_from_wide = distance(stock, wide);
        let stream_rounding = stream.rounding();
        let unit = unit(stock_from_wide, stream_rounding, usual, wide);
        Self {
            engine_from_wide,
            stock_from_wide,
            engine_from_stock: distance(engine, stock),
            stream_rounding,
            hidden_ratio: ratio(engine_from_wide.hidden_relative, unit.hidden_relative),
            logits_ratio: ratio(engine_from_wide.logits_relative, unit.logits_relative),
            familiar: Familiar::measure(engine.logits, wide.logits),
            unit,
        }
    }

    /// The factor of the rule, and what is measured with how far it may be.
    fn checks(&self, judge: Judge) -> (f64, [(&'static str, f64, f64); 3]) {
        let (measured, factor) = match judge {
            Judge::Wide => (self.engine_from_wide, RULE_OF_THREE),
            Judge::Stock => (self.engine_from_stock, TRIANGLE),
        };
        let allowed = self.unit;
        let checks = [
            (
                "relative distance of the hidden state",
                measured.hidden_relative,
                factor * allowed.hidden_relative,
            ),
            (
                "relative distance of the logits",
                measured.logits_relative,
                factor * allowed.logits_relative,
            ),
            ("shift of all logits", measured.logits_shift, factor * allowed.logits_abs_max),
        ];
        (factor, checks)
    }

    /// How much of their bounds the two rows of a readout use.
    pub fn outcomes(&self, judge: Judge, verdict: &Verdict) -> Vec<TapOutcome> {
        let (_, [hidden, logits, shift]) = self.checks(judge);
        // Of a limit that is none all is too much, as the verdict has it.
        let share = |(_, distance, limit): (&str, f64, f64)| match limit.is_infinite() {
            true => f64::INFINITY,
            false => ratio(distance, limit),
        };
        let logits = worse(share(logits), share(shift));
        let top1 = matches!(verdict, Verdict::Diverges(found)
            if matches!(found.difference, Difference::Top1 { .. }));
        [("final_norm", share(hidden), false), ("logits", logits, top1)]
            .into_iter()
            .map(|(tap, share, other_top)| {
                let within = share <= 1.0 && !other_top;
                TapOutcome {
                    layer: None,
                    tap: tap.into(),
                    state: if within { State::Within } else { State::Beyond },
                    rows_compared: 1,
                    rows_differing: u64::from(!within),
                    elements_differing: 0,
                    bound_share: Some(Number::F64(share)),
                }
            })
            .collect()
    }

    /// Whether the distances and the top tokens are allowed. `place` names the readout; the
    /// landscapes are the engine's and the judge's.
    pub fn verdict(
        &self,
        judge: Judge,
        place: &Place,
        engine: &Landscape,
        reference: &Landscape,
    ) -> Verdict {
        let (factor, checks) = self.checks(judge);
        for (quantity, distance, limit) in checks {
            // Stated so that NaN is not within the limit.
            let within = distance <= limit && limit.is_finite();
            if !within {
                let (distance, limit) = (Number::F64(distance), Number::F64(limit));
                return diverges(Difference::Distance { quantity, distance, limit }, place);
            }
        }
        let limit = TOP1_GAP * factor * self.unit.logits_abs_max;
        let (Some(expected), Some(gap)) = (reference.top1(), reference.gap) else {
            return Verdict::Agrees;
        };
        let actual_id = engine.top1().map(|logit| logit.id);
        let may_change = gap.to_f64() <= limit;
        if actual_id == Some(expected.id) || may_change {
            return Verdict::Agrees;
        }
        let (expected_id, limit) = (expected.id, Number::F64(limit));
        diverges(Difference::Top1 { expected_id, actual_id, gap, limit }, place)
    }
}

/// The largest of stock's distance, its median before and the rounding; NaN stays NaN.
fn unit(stock: Distance, rounding: f64, usual: &Usual, wide: Rows<'_>) -> Distance {
    let larger = |stock: f64, usual: &[f64], rounding: f64| {
        let floor = median(usual).max(rounding);
        if stock <= floor { floor } else { stock }
    };
    let largest = wide.logits.to_f64().iter().fold(0.0_f64, |most, logit| most.max(logit.abs()));
    Distance {
        hidden_relative: larger(stock.hidden_relative, &usual.hidden_relative, rounding),
        logits_relative: larger(stock.logits_relative, &usual.logits_relative, rounding),
        logits_shift: stock.logits_shift,
        logits_abs_max: larger(stock.logits_abs_max, &usual.logits_abs_max, rounding * largest),
    }
}

/// The larger; NaN is the worse of any two.
fn worse(one: f64, two: f64) -> f64 {
    if one.is_nan() || two <= one { one } else { two }
}

fn ratio(of: f64, to: f64) -> f64 {
    // Equal to wide in every bit on both sides is as good as can be, and no 0/0.
    if of == 0.0 && to == 0.0 { 0.0 } else { of / to }
}

fn diverges(difference: Difference, place: &Place) -> Verdict {
    Verdict::Diverges(Box::new(Divergence {
        difference,
        place: place.clone(),
        element: None,
        differing_count: 0,
        elements_count: 0,
    }))
}
