//! A finding as a person reads it, and as a line for programs.

use serde::Serialize;

use super::{Finding, Kind, Located, inputs};
use crate::compare::{Difference, Reason, Verdict};
use crate::event::Outcome;

/// Width before the text of a fact; as in the report of a run.
const LABEL_COLUMNS: usize = 10;

fn fact(label: &str, text: &str) -> String {
    format!("{label:<LABEL_COLUMNS$} {text}\n")
}

/// The finding in lines; `token` gives the text of one.
pub fn lines(finding: &Finding, token: impl Fn(u32) -> Option<String>) -> String {
    facts(finding, token).iter().map(|(label, text)| fact(label, text)).collect()
}

/// The finding in facts, each with its label; one without a label goes on with the last.
pub fn facts(
    finding: &Finding,
    token: impl Fn(u32) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let divergence = &finding.divergence;
    let place = &divergence.place;
    let words = token(place.key.token_id).map_or_else(String::new, |text| format!(" {text:?}"));
    let Some(located) = &finding.located else {
        let mut facts = vec![
            ("found", divergence.to_string()),
            ("", kind_words(finding.kind).to_owned()),
            ("token", words.trim_start().to_owned()),
        ];
        facts.retain(|(_, words)| !words.is_empty());
        if let Some(distances) = &finding.distances {
            facts.push(("judged", distances.words()));
            let tap = distances.first.as_ref().map(|excess| excess.tap);
            facts.extend(tap.map(|tap| ("look at", inputs::kernel(tap).to_owned())));
        }
        return facts;
    };
    let mut facts = vec![("found", format!("{place}{words}")), ("", place_words(located))];
    if let Some(element) = &divergence.element {
        let differing = match divergence.difference {
            Difference::NonFinite => "elements differ, some by being no number",
            _ => "elements differ",
        };
        let count = format!("{} of {}", divergence.differing_count, divergence.elements_count);
        let text = format!(
            "engine {} ({}), reference {} ({}); {count} {differing}",
            element.actual, element.actual_bits, element.expected, element.expected_bits
        );
        facts.push(("", text));
    }
    facts.push(("pattern", located.pattern.to_string()));
    facts.push(("judged", located.judgement.to_string()));
    if let Some(tensor) = &located.weight_checked {
        let guilty = matches!(located.judgement, super::Judgement::Weights(_));
        let equal = if guilty { "is not the file's" } else { "is the file's" };
        facts.push(("weights", format!("{tensor} on the device {equal}")));
    }
    facts.push(("cause", located.diagnosis.to_string()));
    facts.push(("look at", located.look_at.join(", ")));
    facts
}

/// The whole of `finding.json`.
#[derive(Debug, Serialize)]
pub struct FindingFile<'a> {
    /// As the terminal says it.
    pub facts: Vec<(&'static str, String)>,
    /// For programs.
    pub finding: &'a Finding,
    /// The witness beside this file, where there is an operation to run again.
    pub witness: Option<&'a str>,
}

/// What a search says that found no divergence.
pub fn nothing(outcome: &Outcome, taps_seen: usize) -> String {
    match &outcome.verdict {
        Verdict::Agrees if outcome.worst_ratio.is_some() => fact(
            "found",
            "nothing is too far from f64: operations are judged one by one after a step that is",
        ),
        Verdict::Agrees if taps_seen > 0 => {
            let rows = outcome.tally.rows_compared;
            fact("found", &format!("nothing differs: {taps_seen} tensors of taps, {rows} rows"))
        }
        Verdict::Inconclusive(reason @ Reason::NonFiniteOnBothSides { .. }) => {
            fact("found", &format!("{reason}: nobody is right, and no operation differs"))
        }
        Verdict::Inconclusive(Reason::SideFailed { message }) => {
            let after =
                format!("after {} steps and {taps_seen} tensors of taps", outcome.steps_compared);
            let cause = refusal(message).unwrap_or("a side failed");
            fact("found", &format!("no divergence, but a failure {after}"))
                + &fact("cause", &format!("{cause}: {message}"))
        }
        _ => String::new(),
    }
}

/// The cause that a refusal names, if the engine refused something before it happened.
pub fn refusal(message: &str) -> Option<&'static str> {
    let bounds = message.contains(" refused: ") && message.contains(" needs ");
    bounds.then_some("out-of-bounds, refused before the launch")
}

fn place_words(located: &Located) -> String {
    let Located { row, rows, column, width, head, .. } = located;
    let head = head.map_or_else(String::new, |head| format!(", head {head}"));
    format!("row {row} of {rows}, column {column} of {width}{head}")
}

fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Tap => "a tap differs",
        Kind::Readout => {
            "every tap of the pass agrees: the fault is in the copy of the readout, or after it"
        }
        Kind::Sequence => {
            "the sequences of taps part: one side computes something that the other does not, or \
             in another shape; no operation can be compared"
        }
        Kind::Chunking => {
            "one side gives other bits when the tokens are cut in another way: run `lockstep find` \
             with --tokens of the prompt and of what it chose, --max-tokens 1 and --ubatch of \
             that size"
        }
        Kind::Distance => "judged by distance from f64, not by bits",
    }
}

/// The finding as one line of JSON.
pub fn json(finding: &Finding, witness: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        event: &'static str,
        #[serde(flatten)]
        finding: &'a Finding,
        witness: Option<&'a str>,
    }
    let line = Line { event: "found", finding, witness };
    serde_json::to_string(&line).expect("a finding is plain data") + "\n"
}
