//! Command lines to paste: a run with its tokens, a case of a suite.

use super::options::{RunOptions, word};
use crate::find::minimise::Size;

/// The search that looks into a run.
pub(super) fn of_run(options: &RunOptions, prompt_ids: &[u32]) -> String {
    let (steps, ubatch) = (options.max_tokens, options.ubatch);
    find(options, &Size { tokens: prompt_ids.to_vec(), steps, ubatch })
}

/// The search of a run of this size, whatever its prompt was.
pub(super) fn find(options: &RunOptions, size: &Size) -> String {
    let tokens: Vec<String> = size.tokens.iter().map(u32::to_string).collect();
    let mut words = vec!["lockstep find".to_owned()];
    if let Some(model) = &options.model {
        words.push(format!("--model {}", quoted(model)));
    }
    words.push(format!("--tokens {}", tokens.join(",")));
    words.push(format!("--max-tokens {} --ubatch {}", size.steps, size.ubatch));
    words.push(format!("--context-tokens {}", size.tokens.len() + size.steps));
    for (name, value, default) in [
        ("device", options.device.to_string(), "auto"),
        ("reference", word(options.reference), "exact"),
        ("activations", word(options.activations), "i24"),
        ("kv", word(options.kv), "f32"),
        ("drive", word(options.drive), "reference"),
    ] {
        if value != default {
            words.push(format!("--{name} {value}"));
        }
    }
    if let Some(command) = &options.engine_command {
        words.push(format!("--engine-command {}", quoted(command)));
    }
    if options.past_end {
        words.push("--past-end".to_owned());
    }
    if let Some(fault) = options.plant {
        words.push(format!("--plant {}", fault.id()));
    }
    words.join(" ")
}

/// A word as a shell takes it: in quotes unless it is plain.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_space_is_one_word() {
        assert_eq!(quoted("fixtures/suites/quick.toml"), "fixtures/suites/quick.toml");
        assert_eq!(quoted("my suite.toml"), "'my suite.toml'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
