//! Kept within limits: what is beyond the one or the other has its value.

use super::{Answer, Evidence, Explanation, Label, No};

/// As many elements have to be at a limit, and as many inside: fewer could be a constant that came
/// from anywhere.
const ELEMENTS_MIN: usize = 8;

/// A lower limit, an upper one, or both.
pub(super) fn clamped(evidence: &Evidence<'_>) -> Answer {
    let differing: Vec<usize> = evidence.differing().collect();
    let (mut low, mut high) = (None, None);
    for index in &differing {
        let (one, two) = (evidence.expected[*index], evidence.actual[*index]);
        let limit = if one < two { &mut low } else { &mut high };
        // A value that is no number is at no limit, and a sign of zero is not beyond one.
        let is_other = !one.is_nan() && two.is_finite() && one != two;
        if !is_other || *limit.get_or_insert(two) != two {
            return Err(No::Refuted);
        }
    }
    // Of one limit from both sides nothing is inside: all values are the same, however they came.
    if low.is_some() && low == high {
        return Err(No::Refuted);
    }
    let is_beyond =
        |value: f32| low.is_some_and(|low| value < low) || high.is_some_and(|high| value > high);
    let beyond = evidence.expected.iter().filter(|value| is_beyond(**value)).count();
    let inside = evidence.expected.len() - differing.len();
    if beyond != differing.len() || beyond < ELEMENTS_MIN || inside < ELEMENTS_MIN {
        return Err(No::Refuted);
    }
    let limits = match (low, high) {
        (Some(low), Some(high)) => format!("{low} and {high}"),
        (Some(low), None) => format!("{low} from below"),
        (None, high) => format!("{} from above", high.unwrap_or_default()),
    };
    let text = format!(
        "got equals expected limited to {limits}, exactly, {}; {beyond} were beyond",
        evidence.all()
    );
    Ok(Explanation::new(Label::Clamped, text).with("limits", limits).with("elements", beyond))
}
