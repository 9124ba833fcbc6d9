//! Speeds as a table, and the ratios that say whether they are good.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::{Measured, Part};

/// A ratio with its goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Of what to what.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// What it should be.
    pub goal: &'static str,
}

/// All ratios whose parts were measured.
pub fn ratios(measured: &[Measured]) -> Vec<Ratio> {
    let find = |part: Part| measured.iter().find(|measured| measured.part == part);
    let mut ratios = Vec::new();
    if let (Some(exact), Some(candle), Some(dequantised)) =
        (find(Part::Exact), find(Part::Candle), find(Part::CandleDequantised))
    {
        let best = candle.decode_tokens_per_second.max(dequantised.decode_tokens_per_second);
        ratios.push(Ratio {
            name: "decode: exact to candle's better mode",
            value: exact.decode_tokens_per_second / best,
            goal: "at least 2",
        });
        ratios.push(Ratio {
            name: "prefill: exact to candle dequantised",
            value: exact.prefill_tokens_per_second / dequantised.prefill_tokens_per_second,
            goal: "at least 0.7",
        });
    }
    if let (Some(engine), Some(exact), Some(lockstep)) =
        (find(Part::Engine), find(Part::Exact), find(Part::Lockstep))
    {
        // On shared cores the time of both together is the sum of both alone, at best.
        let sum = |speed: fn(&Measured) -> f64| speed(engine).recip() + speed(exact).recip();
        let prefill = |measured: &Measured| measured.prefill_tokens_per_second;
        let decode = |measured: &Measured| measured.decode_tokens_per_second;
        ratios.push(Ratio {
            name: "prefill: time of lockstep to both sides apart",
            value: prefill(lockstep).recip() / sum(prefill),
            goal: "at most 1.1",
        });
        ratios.push(Ratio {
            name: "decode: time of lockstep to both sides apart",
            value: decode(lockstep).recip() / sum(decode),
            goal: "at most 1.1",
        });
    }
    ratios
}

/// The table for people.
pub fn table(measured: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["", "prefill tok/s", "decode tok/s"]);
    for measured in measured {
        table.add_row([
            measured.part.name().to_owned(),
            format!("{:.1}", measured.prefill_tokens_per_second),
            format!("{:.1}", measured.decode_tokens_per_second),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Seconds, Work};

    fn measured(part: Part, prefill_seconds: f64, decode_seconds: f64) -> Measured {
        let work = Work { threads: 1, repeat: 1, prefill_tokens: 100, decode_tokens: 10 };
        let seconds = Seconds { prefill: vec![prefill_seconds], decode: vec![decode_seconds] };
        Measured::new(part, &work, seconds)
    }

    #[test]
    fn ratios_say_what_they_compare() {
        let all = [
            measured(Part::Engine, 1.0, 1.0),
            measured(Part::Exact, 1.0, 0.5),
            measured(Part::Candle, 4.0, 1.0),
            measured(Part::CandleDequantised, 0.8, 2.0),
            measured(Part::Lockstep, 2.0, 1.8),
        ];
        let values: Vec<f64> = ratios(&all).iter().map(|ratio| ratio.value).collect();
        let expected = [2.0, 0.8, 1.0, 1.2];
        for (value, expected) in values.iter().zip(expected) {
            approx::assert_ulps_eq!(*value, expected, max_ulps = 4);
        }
        assert_eq!(values.len(), expected.len());
        assert_eq!(ratios(&all[..1]), []);
    }
}
