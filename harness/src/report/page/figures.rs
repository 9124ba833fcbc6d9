//! The figures of `verdict.json`: each with its exact value, whatever is shown of it.

use serde_json::Value;

/// A figure with the place it has in `verdict.json`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) path: String,
    /// As in the file.
    pub(super) value: String,
    /// For people.
    pub(super) text: String,
}

/// A piece of a sentence.
pub(super) enum Part {
    Text(String),
    Figure(Figure),
}

/// A few figures under one name.
pub(super) struct Card {
    pub(super) name: &'static str,
    pub(super) parts: Vec<Part>,
    /// Whether it has to be looked at.
    pub(super) alarm: bool,
}

/// Every figure of the file, in its order.
pub(super) fn all(verdict: &Value) -> Vec<Figure> {
    let mut found = Vec::new();
    walk(verdict, String::new(), &mut found);
    found
}

fn walk(value: &Value, path: String, found: &mut Vec<Figure>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| walk(value, under(key), found));
        }
        // Ids are one list, and not a figure each.
        Value::Array(values) if values.iter().any(|value| !value.is_number()) => {
            for (index, value) in values.iter().enumerate() {
                walk(value, under(&index.to_string()), found);
            }
        }
        _ => found.push(figure(path, value)),
    }
}

/// A value as it stands in the file.
pub(super) fn raw(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(raw).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn figure(path: String, value: &Value) -> Figure {
    let text = match value {
        Value::Number(number) if path.contains("seconds") => {
            format!("{:.3} s", number.as_f64().unwrap_or(f64::NAN))
        }
        Value::Number(number) if number.is_u64() && !path.ends_with("_id") => {
            grouped(number.as_u64())
        }
        Value::Number(number) if path.ends_with("_ratio") => {
            format!("{:.3}", number.as_f64().unwrap_or(f64::NAN))
        }
        Value::String(word) if path == "stopped" => word.replace('_', " "),
        other => raw(other),
    };
    Figure { path, value: raw(value), text }
}

/// Digits in groups of three, from five on.
fn grouped(number: Option<u64>) -> String {
    let digits = number.unwrap_or_default().to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The cards on top of a page.
pub(super) fn cards(verdict: &Value) -> Vec<Card> {
    let at = |path: &str| path.split('.').try_fold(verdict, |value, key| value.get(key));
    let there = |path: &str| at(path).is_some_and(|value| !value.is_null());
    let fig = |path: &str| Part::Figure(figure(path.to_owned(), at(path).unwrap_or(&Value::Null)));
    let text = |text: &str| Part::Text(text.to_owned());
    let zero = |path: &str| at(path).and_then(Value::as_u64) == Some(0);
    let equal = |one: &str, two: &str| at(one) == at(two);
    let mut cards = vec![
        Card {
            name: "Steps",
            parts: vec![
                fig("steps_agreeing"),
                text(" of "),
                fig("steps_compared"),
                text(" agree; stopped: "),
                fig("stopped"),
            ],
            alarm: !equal("steps_agreeing", "steps_compared"),
        },
        Card {
            name: "Rows",
            parts: vec![
                fig("rows_compared"),
                text(" compared, "),
                fig("rows_differing"),
                text(" differ"),
            ],
            alarm: !zero("rows_differing"),
        },
        Card {
            name: "Elements",
            parts: vec![
                fig("elements_compared"),
                text(" compared, "),
                fig("elements_differing"),
                text(" differ"),
            ],
            alarm: !zero("elements_differing"),
        },
    ];
    if there("prefill_decode") {
        let mut parts = vec![
            fig("prefill_decode.diverging_count"),
            text(" of "),
            fig("prefill_decode.chunkings_count"),
            text(" give other bits"),
        ];
        if there("prefill_decode.not_checked") {
            parts.extend([text("; not checked: "), fig("prefill_decode.not_checked")]);
        }
        let alarm = !zero("prefill_decode.diverging_count");
        cards.push(Card { name: "Prefill equals decode", parts, alarm });
    }
    if there("worst_ratio") {
        let parts = vec![
            text("hidden state "),
            fig("worst_ratio.hidden_ratio"),
            text(" at step "),
            fig("worst_ratio.hidden_step"),
            text(", logits "),
            fig("worst_ratio.logits_ratio"),
            text(" at step "),
            fig("worst_ratio.logits_step"),
        ];
        cards.push(Card { name: "Worst ratio to f64", parts, alarm: false });
    }
    if there("canary") {
        let parts = vec![
            text("bit "),
            fig("canary.bit"),
            text(" of element "),
            fig("canary.index"),
            text(" flipped; seen: "),
            fig("canary.seen"),
        ];
        let alarm = at("canary.seen") != Some(&Value::Bool(true));
        cards.push(Card { name: "Canary", parts, alarm });
    }
    if there("copies") {
        let parts =
            vec![fig("copies.checked"), text(" of "), fig("copies.total"), text(" checked")];
        let alarm = !equal("copies.checked", "copies.total");
        cards.push(Card { name: "Copies", parts, alarm });
    }
    if there("weights_verified") {
        let parts = vec![
            fig("weights_verified.tensors"),
            text(" tensors read back, "),
            fig("weights_verified.bytes"),
            text(" bytes"),
        ];
        cards.push(Card { name: "Weights", parts, alarm: false });
    }
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_a_figure_and_keeps_its_value() {
        let verdict = serde_json::json!({
            "rows_compared": 1_234_567,
            "chosen_ids": [1, 2],
            "reason": null,
            "duration": { "sides_seconds": [["engine", 0.123_456]] },
        });
        let all = all(&verdict);
        let find = |path: &str| all.iter().find(|figure| figure.path == path).unwrap();
        assert_eq!(find("rows_compared").value, "1234567");
        assert_eq!(find("rows_compared").text, "1\u{202f}234\u{202f}567");
        assert_eq!(find("chosen_ids").value, "1 2");
        assert_eq!(find("reason").value, "none");
        assert_eq!(find("duration.sides_seconds.0.0").value, "engine");
        assert_eq!(find("duration.sides_seconds.0.1").value, "0.123456");
        assert_eq!(find("duration.sides_seconds.0.1").text, "0.123 s");
    }
}
