//! `summary.md`: a table of the cases, and under it what is known of those that do not agree.

use std::fmt::Write;

use super::words::facts;
use crate::suite::{CaseResult, Word};

/// The summary of a suite or a run; `last_line` is that of the terminal.
pub fn markdown(title: &str, cases: &[CaseResult], last_line: &str) -> String {
    let mut text = format!(
        "## lockstep: {}\n\n{}\n\n\
         | verdict | case | seconds | steps | rows | elements | differing | canary |\n\
         |---|---|---:|---:|---:|---:|---:|---|\n",
        cell(title),
        cell(last_line)
    );
    for case in cases {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}", row(case));
    }
    for case in cases.iter().filter(|case| case.verdict != Word::Agrees) {
        let _ = write!(text, "\n### {}\n\n{}\n", cell(&case.name), cell(&case.message));
        let facts = facts(case);
        if !facts.is_empty() {
            text.push('\n');
        }
        for (label, words) in facts {
            let _ = match label {
                "again" | "witness" => writeln!(text, "- {label}: {}", code(&words)),
                _ => writeln!(text, "- {label}: {}", cell(&words)),
            };
        }
    }
    text
}

fn row(case: &CaseResult) -> String {
    let mark = match case.verdict {
        Word::Agrees => "agrees".to_owned(),
        other => format!("**{}**", other.head().to_lowercase()),
    };
    let mark = if case.reused { format!("{mark} (reused)") } else { mark };
    let figures = case.figures.as_ref();
    let figure = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let cells = [
        mark,
        cell(&case.name),
        format!("{:.1}", case.duration_seconds),
        figure(figures.map(|f| format!("{} of {}", f.steps_agreeing, f.steps_compared))),
        figure(figures.map(|f| f.rows_compared.to_string())),
        figure(figures.map(|f| f.elements_compared.to_string())),
        figure(figures.map(|f| f.elements_differing.to_string())),
        figure(figures.and_then(|f| f.canary_seen).map(|seen| match seen {
            true => "seen".to_owned(),
            false => "**not seen**".to_owned(),
        })),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Words as they are, in a fence that no run of backticks among them ends.
fn code(words: &str) -> String {
    let words = words.replace(char::is_control, " ");
    let longest = words.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One space on each side is the fence's, and keeps it apart from a backtick.
    let space = if longest == 0 { "" } else { " " };
    format!("{fence}{space}{words}{space}{fence}")
}

/// Text without what Markdown or HTML would read as its own.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' => safe.extend(['\\', letter]),
            _ if letter.is_control() => safe.push(' '),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_stays_in_its_fence() {
        assert_eq!(code("lockstep find"), "`lockstep find`");
        assert_eq!(code("a `b` ``c``"), "``` a `b` ``c`` ```");
        assert_eq!(code("a\n\n# b\r|"), "`a  # b |`");
        let mut case = CaseResult::new("a", Some(4), "x");
        case.replay = Some("find --model 'a`\n# b'".into());
        let text = markdown("t", &[case], "one");
        assert!(text.contains("\n- again: `` find --model 'a` # b' ``\n"), "{text}");
    }

    #[test]
    fn no_message_leaves_its_cell() {
        let case = CaseResult::new("a|b", Some(4), "x | <b>\n`y` [0]");
        let text = markdown("t", &[case], "one | line");
        assert!(text.contains("| **inconclusive** | a\\|b | 0.0 | - |"), "{text}");
        assert!(text.contains("x \\| &lt;b&gt; \\`y\\` \\[0\\]"), "{text}");
        assert!(text.contains("\none \\| line\n"), "{text}");
    }
}
