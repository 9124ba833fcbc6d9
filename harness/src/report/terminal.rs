//! What a person reads: who runs, one aligned line a step, and the verdict last.

use std::io::{self, Write};

use engine::Mebibytes;
use indicatif::ProgressBar;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::record;
use crate::compare::Verdict;
use crate::compare::familiar::Familiar;
use crate::event::{Chunking, Display, Event, Outcome, SideStep, Start, Step, Stopped, Token};
use crate::number::{Hash, Number};
use crate::sides::Verified;

/// Width of a column with a token in it.
const TOKEN_COLUMNS: usize = 16;
/// Width of a hash.
const HASH_COLUMNS: usize = 16;
/// Width of a number with its sign and exponent.
const NUMBER_COLUMNS: usize = 10;
/// Width before the text of a fact.
const LABEL_COLUMNS: usize = 10;

/// Prints events as text.
pub struct TerminalDisplay<W> {
    output: W,
    bar: ProgressBar,
    quiet: bool,
    chunkings_begun: bool,
    steps_max: usize,
}

impl<W: Write> TerminalDisplay<W> {
    /// Prints to `output`, above `bar`. Quiet prints the verdict only.
    pub fn new(output: W, bar: ProgressBar, quiet: bool) -> Self {
        Self { output, bar, quiet, chunkings_begun: false, steps_max: 0 }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        let output = &mut self.output;
        self.bar.suspend(|| {
            output.write_all(text.as_bytes())?;
            output.flush()
        })
    }
}

impl<W: Write> Display for TerminalDisplay<W> {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(start) => self.steps_max = start.steps_max,
            _ if self.quiet => {}
            _ => {}
        }
        let text = match event {
            Event::Finished(outcome) => end(outcome, self.steps_max, self.quiet),
            _ if self.quiet => return Ok(()),
            Event::Started(start) => head(start),
            Event::Step(step) => line(step),
            Event::Chunking(chunking) => {
                let title = if self.chunkings_begun { "" } else { "\nprefill equals decode\n" };
                self.chunkings_begun = true;
                format!("{title}{}", chunking_line(chunking))
            }
            Event::Progress(_) => return Ok(()),
        };
        self.print(&text)
    }
}

fn fact(label: &str, text: &str) -> String {
    format!("{label:<LABEL_COLUMNS$} {text}\n")
}

fn head(start: &Start) -> String {
    let identity = &start.identity;
    let model = &identity.model;
    let mut text = fact(
        "model",
        &format!("{}, {} bytes, sha256 {}", model.name, model.bytes, &model.sha256[..16]),
    );
    let engine = &identity.engine;
    let who = |side: &crate::sides::SideIdentity| {
        format!("{} on {}, {}", side.implementation, side.device, side.build)
    };
    text += &fact("engine", &who(engine));
    for reference in &identity.references {
        text += &fact("reference", &who(reference));
    }
    let options = &identity.options;
    text += &fact(
        "run",
        &format!(
            "{} prompt tokens, at most {} steps, activations {}, cache {}, ubatch {}, context {}",
            start.prompt_ids.len(),
            start.steps_max,
            options.activations,
            options.kv,
            options.ubatch,
            options.context_tokens,
        ),
    );
    if !options.checking {
        text +=
            &fact("unchecked", "no guard zones and no poison; bounds are asserted all the same");
    }
    let last = if identity.references.len() > 1 {
        let columns = ["engine-wide", "stock-wide", "ratio", "logits max", "logit ratio"];
        columns.map(|name| format!("{name:>NUMBER_COLUMNS$}")).join("  ")
    } else {
        let (one, two) = ("engine hidden", "reference hidden");
        format!("{one:<HASH_COLUMNS$}  {two:<HASH_COLUMNS$}")
    };
    format!(
        "{text}\n{:>4}  {:<7}  {:>8}  {:<TOKEN_COLUMNS$}  {:<TOKEN_COLUMNS$}  \
         {:>NUMBER_COLUMNS$}  {last}  verdict\n",
        "step", "phase", "position", "token", "top-1", "gap"
    )
}

fn line(step: &Step) -> String {
    // The reference is what the next token comes from, unless the engine drives; shown is the
    // engine's, for that is the side under test.
    let engine = &step.sides[0];
    let top1 = engine
        .landscape
        .top1()
        .map(|top| Token { id: top.id, text: engine.top_texts.first().cloned().flatten() });
    let top1 = top1.as_ref().map_or_else(|| "-".to_owned(), token);
    let gap = engine.landscape.gap.map_or_else(|| "-".to_owned(), short);
    let last = match &step.triangle {
        Some(triangle) => [
            triangle.engine_from_wide.hidden_relative,
            triangle.stock_from_wide.hidden_relative,
            triangle.hidden_ratio,
            triangle.engine_from_wide.logits_abs_max,
            triangle.logits_ratio,
        ]
        .into_iter()
        .zip(["engine-wide", "stock-wide", "ratio", "logits max", "logit ratio"])
        .map(|(value, name)| format!("{:>1$}", distance(value), name.len().max(NUMBER_COLUMNS)))
        .collect::<Vec<_>>()
        .join("  "),
        None => step.sides.iter().map(hash).collect::<Vec<_>>().join("  "),
    };
    let verdict = match &step.verdict {
        Verdict::Agrees => "agrees",
        Verdict::Diverges(_) => "DIVERGES",
        Verdict::Inconclusive(_) => "INCONCLUSIVE",
    };
    format!(
        "{:>4}  {:<7}  {:>8}  {}  {}  {gap:>NUMBER_COLUMNS$}  {last}  {verdict}\n",
        step.step,
        step.phase.word(),
        step.position,
        pad(&token(&step.token), TOKEN_COLUMNS),
        pad(&top1, TOKEN_COLUMNS),
    )
}

fn hash(side: &SideStep) -> String {
    let text = side.hidden.hash.as_ref().map_or_else(|| "-".to_owned(), Hash::to_string);
    format!("{text:<HASH_COLUMNS$}")
}

fn chunking_line(chunking: &Chunking) -> String {
    let hash = chunking.hidden.hash.map_or_else(|| "-".to_owned(), |hash| hash.to_string());
    format!(
        "{:<10}  {:<34}  {hash:<HASH_COLUMNS$}  {}\n",
        chunking.side,
        chunking.words,
        match &chunking.verdict {
            Verdict::Agrees => "agrees",
            Verdict::Diverges(_) => "DIVERGES",
            Verdict::Inconclusive(_) => "INCONCLUSIVE",
        }
    )
}

fn end(outcome: &Outcome, steps_max: usize, quiet: bool) -> String {
    let word = outcome.verdict.word().to_uppercase();
    let mut text = String::new();
    if !quiet {
        text.push('\n');
        if let Some(chosen) = &outcome.chosen_text {
            text += &fact("text", &escape(chosen));
        }
        if let Some(worst) = &outcome.worst_ratio {
            text += &fact("worst", &worst_line(worst));
            if let Some(familiar) = &worst.familiar {
                text += &fact("known as", &familiar_line(familiar));
            }
        }
        text += &fact("verdict", &format!("{word}: {}", record::message(outcome)));
        text += &fact("steps", &steps(outcome, steps_max));
        if let Some(summary) = &outcome.prefill_decode {
            text += &fact("chunkings", &chunkings(summary));
        }
        if let Some(canary) = outcome.canary {
            let seen = if canary.seen { "seen" } else { "NOT SEEN" };
            let (bit, index) = (canary.bit, canary.index);
            text += &fact("canary", &format!("bit {bit} of element {index} flipped: {seen}"));
        }
        if let Some(copies) = outcome.copies {
            text += &fact("copies", &format!("{} of {} checked", copies.checked, copies.total));
        }
        if let Some(weights) = &outcome.weights_verified {
            text += &fact("weights", &weights_line(weights));
        }
        return text;
    }
    text += &format!("{word}: {}\n", record::message(outcome));
    text
}

fn weights_line(weights: &Verified) -> String {
    format!(
        "verified on the device: {} tensors, {}, BLAKE3 {}",
        weights.tensors,
        Mebibytes(weights.bytes),
        &weights.hash[..16]
    )
}

fn worst_line(worst: &crate::event::WorstRatio) -> String {
    format!(
        "engine from wide over stock from wide (at least its median before, and f32's rounding): \
         hidden {} (step {}), logits {} (step {})",
        distance(worst.hidden_ratio.to_f64()),
        worst.hidden_step,
        distance(worst.logits_ratio.to_f64()),
        worst.logits_step,
    )
}

/// What other tools would print of the same run.
fn familiar_line(familiar: &Familiar) -> String {
    format!(
        "logits from wide: {} ulp, NMSE {:.1e}, 1 - cosine {:.1e}, KL {:.1e}, top-10 {} of 10",
        familiar.ulp_max,
        familiar.nmse,
        familiar.cosine_distance,
        familiar.kl_divergence,
        familiar.top10_overlap,
    )
}

fn steps(outcome: &Outcome, steps_max: usize) -> String {
    let why = match outcome.stopped {
        Stopped::MaxTokens => "all of them",
        Stopped::EndOfText => "the model ended its text",
        Stopped::Interrupted => "interrupted",
        Stopped::NoChoice => "no token to go on with: the logits are not all numbers",
        Stopped::Diverged => "the search ends at the first that diverges",
        Stopped::Failed => "a side failed",
    };
    let (agreeing, compared) = (outcome.steps_agreeing, outcome.steps_compared);
    format!("{agreeing} of {compared} compared agree, {steps_max} at most ({why})")
}

fn chunkings(summary: &crate::event::PrefillDecode) -> String {
    let agreeing = summary.chunkings_count - summary.diverging_count;
    let mut text = format!("{agreeing} of {} have one hash", summary.chunkings_count);
    if let Some(words) = &summary.not_checked {
        text += &format!("; not checked: {words}");
    }
    text
}

/// Id and text of a token.
fn token(token: &Token) -> String {
    match &token.text {
        Some(text) => format!("{} {}", token.id, escape(text)),
        None => token.id.to_string(),
    }
}

/// Quoted, with everything that would move the cursor escaped.
fn escape(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// Exactly so many columns, cut with an ellipsis where it is longer.
fn pad(text: &str, columns: usize) -> String {
    let width = text.width();
    if width <= columns {
        return format!("{text}{}", " ".repeat(columns - width));
    }
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let wide = letter.width().unwrap_or(0);
        if used + wide > columns - 1 {
            break;
        }
        kept.push(letter);
        used += wide;
    }
    kept.push('…');
    kept + &" ".repeat(columns - 1 - used)
}

/// A number for reading; the files have all of its digits.
fn short(number: Number) -> String {
    let value = number.to_f64();
    if value.is_finite() { format!("{value:.5}") } else { number.to_string() }
}

fn distance(value: f64) -> String {
    match value {
        _ if !value.is_finite() => Number::F64(value).to_string(),
        _ if (0.01..1000.0).contains(&value) => format!("{value:.3}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_kept_with_wide_and_odd_letters() {
        for text in [
            "",
            "a",
            "sixteen columns!",
            "more than sixteen columns",
            "漢字漢字漢字漢字漢字",
            "e\u{301}",
        ] {
            assert_eq!(pad(text, 16).width(), 16, "{text:?}");
        }
    }

    #[test]
    fn a_token_cannot_break_the_line() {
        let newline = Token { id: 7, text: Some("\n\u{1b}[2J".to_owned()) };
        assert_eq!(token(&newline), "7 \"\\n\\u{1b}[2J\"");
    }

    #[test]
    fn distances_are_short_and_name_what_is_none() {
        assert_eq!(distance(1.2345e-7), "1.23e-7");
        assert_eq!(distance(0.98765), "0.988");
        assert_eq!(distance(f64::NAN), "NaN");
        assert_eq!(distance(0.0), "0");
    }
}
