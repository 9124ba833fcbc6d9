//! A run as the page shows it.

use serde_json::Value;

use super::chart::{Chart, charts};
use super::figures::{self, Card, Figure};
use super::heat::{Heat, heat};
use super::picture::{Picture, picture};
use super::read::{Readout, Run};
use super::tops::{Tops, tops};

/// A name and what it is.
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) text: String,
}

/// How fast a side was.
pub(super) struct Speed {
    pub(super) side: String,
    pub(super) seconds: Figure,
    pub(super) tokens: usize,
    pub(super) rate: String,
}

/// The element that differs, with the figures of both sides.
pub(super) struct Divergence {
    pub(super) figures: Vec<(&'static str, Figure)>,
}

/// Everything of a run.
pub(super) struct RunView {
    pub(super) id: String,
    pub(super) model: String,
    /// The verdict in one word.
    pub(super) word: String,
    /// The same as a class of the style.
    pub(super) class: String,
    pub(super) message: Option<Figure>,
    pub(super) message_text: String,
    pub(super) stopped_early: bool,
    pub(super) identity: Vec<Fact>,
    pub(super) cards: Vec<Card>,
    pub(super) divergence: Option<Divergence>,
    pub(super) picture: Option<Picture>,
    pub(super) finding: Vec<Fact>,
    pub(super) replay: Option<String>,
    pub(super) again: Option<String>,
    pub(super) heat: Option<Heat>,
    pub(super) charts: Vec<Chart>,
    pub(super) tops: Option<Tops>,
    pub(super) chunkings: Vec<Readout>,
    pub(super) speeds: Vec<Speed>,
    pub(super) figures: Vec<Figure>,
    pub(super) damage: Vec<String>,
}

fn text(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => value.get(index),
        Err(_) => value.get(key),
    });
    found.filter(|value| !value.is_null()).map(figures::raw).unwrap_or_default()
}

impl RunView {
    /// The run; `with_data` puts every step into the page and not only some.
    pub(super) fn of(run: &Run, id: &str, with_data: bool) -> Self {
        let figures = run.verdict.as_ref().map(figures::all).unwrap_or_default();
        let find = |path: &str| figures.iter().find(|figure| figure.path == path).cloned();
        let word = find("verdict").map_or_else(|| "no verdict".to_owned(), |word| word.value);
        let message = find("message");
        let diverged = word == "diverges";
        Self {
            id: id.to_owned(),
            class: word.replace(' ', "-"),
            model: text(&run.identity, "model.name"),
            message_text: message.as_ref().map_or_else(|| stopped(run), |m| m.value.clone()),
            stopped_early: run.verdict.is_none(),
            identity: identity(&run.identity),
            cards: run.verdict.as_ref().map(figures::cards).unwrap_or_default(),
            divergence: diverged.then(|| divergence(&find)),
            picture: run.neighbourhood.as_ref().map(picture),
            finding: finding(run),
            replay: run
                .finding
                .as_ref()
                .and_then(|finding| finding.witness.as_deref())
                .map(|witness| format!("lockstep replay {}", shell(witness))),
            again: find("search").map(|command| command.value),
            heat: heat(run),
            charts: charts(run),
            tops: tops(run, with_data),
            chunkings: run.chunkings.clone(),
            speeds: speeds(run, &find),
            damage: run.damage.clone(),
            word,
            message,
            figures,
        }
    }
}

/// What there is to say of a run without an end.
fn stopped(run: &Run) -> String {
    let steps = run.taps.len();
    let unequal = run.taps.iter().find(|step| step.verdict != "agrees");
    let said = match unequal {
        Some(step) => {
            let message = step.message.as_deref().unwrap_or("without words");
            format!("step {} {}: {message}", step.step, step.verdict)
        }
        None => "all of them agree".to_owned(),
    };
    format!("no verdict: the run was stopped before its end. {steps} steps were compared; {said}")
}

fn identity(identity: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, text: String| {
        facts.push(Fact { name: name.to_owned(), text });
    };
    let model = ["name", "bytes", "sha256"].map(|key| text(identity, &format!("model.{key}")));
    add("model", format!("{}, {} bytes, sha256 {}", model[0], model[1], model[2]));
    let side = |side: &Value| {
        let part = |key| text(side, key);
        format!("{} on {}, {}", part("implementation"), part("device"), part("build"))
    };
    add("engine", identity.get("engine").map(side).unwrap_or_default());
    let references = identity.get("references").and_then(Value::as_array);
    for reference in references.into_iter().flatten() {
        add("reference", side(reference));
    }
    let options = identity.get("options").and_then(Value::as_object);
    let options = options.into_iter().flatten();
    let words: Vec<String> = options
        .map(|(key, value)| format!("{} {}", key.replace('_', " "), figures::raw(value)))
        .collect();
    add("options", words.join(", "));
    add("lockstep", text(identity, "lockstep"));
    facts
}

fn divergence(find: &dyn Fn(&str) -> Option<Figure>) -> Divergence {
    let at = |key: &str| find(&format!("divergence.{key}")).filter(|figure| figure.value != "none");
    let named = |names: &[(&'static str, &str)]| -> Vec<(&'static str, Figure)> {
        names.iter().filter_map(|(name, key)| Some((*name, at(key)?))).collect()
    };
    Divergence {
        figures: named(&[
            ("step", "step"),
            ("phase", "phase"),
            ("layer", "layer"),
            ("tap", "tap"),
            ("position", "position"),
            ("token", "token_id"),
            ("element", "element.index"),
            ("engine", "element.actual"),
            ("bits", "element.actual_bits"),
            ("reference", "element.expected"),
            ("bits", "element.expected_bits"),
            ("differ in the row", "differing_count"),
            ("of elements", "elements_count"),
            ("kind", "difference.kind"),
        ]),
    }
}

/// What the search said; a fact without a name goes on with the one before.
fn finding(run: &Run) -> Vec<Fact> {
    let facts = run.finding.iter().flat_map(|finding| &finding.facts);
    facts.map(|(name, text)| Fact { name: name.clone(), text: text.clone() }).collect()
}

/// A word that a shell takes as it is.
fn shell(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn speeds(run: &Run, find: &dyn Fn(&str) -> Option<Figure>) -> Vec<Speed> {
    let tokens = run.readouts.iter().map(|line| line.tokens_total).max().unwrap_or(0);
    (0..)
        .map_while(|index| {
            let side = find(&format!("duration.sides_seconds.{index}.0"))?;
            let seconds = find(&format!("duration.sides_seconds.{index}.1"))?;
            let rate = tokens as f64 / seconds.value.parse::<f64>().unwrap_or(f64::NAN);
            let rate = if rate.is_finite() { format!("{rate:.1}") } else { "–".to_owned() };
            Some(Speed { side: side.value, seconds, tokens, rate })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_shell_whole() {
        assert_eq!(shell("out/witness.json"), "out/witness.json");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("it's; rm"), r"'it'\''s; rm'");
    }
}
