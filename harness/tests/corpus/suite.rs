//! What holds for any bytes that are read as a suite: they are refused in a line, or every case has
//! a name that is a folder, and options within their bounds.

use std::collections::BTreeSet;

use harness::suite::{CASES_MAX, parse};

/// The longest prompt, the most steps, the largest cache.
const TOKENS_MAX: usize = 1 << 24;

/// What a file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Came {
    /// No suite.
    Refused,
    /// A suite.
    Read,
}

/// Reads a file.
///
/// # Panics
/// When something does not hold.
pub(crate) fn read(bytes: &[u8]) -> Came {
    let suite = match parse(bytes) {
        Ok(suite) => suite,
        Err(error) => {
            one_line(&error.to_string());
            one_line(&error.hint());
            return Came::Refused;
        }
    };
    assert!((1..=CASES_MAX).contains(&suite.cases.len()));
    assert!(suite.budget_minutes.is_none_or(|minutes| minutes > 0.0 && minutes <= 1e5));
    let day = suite.clone().draw_from(None, 20_261_126);
    assert_eq!(day.is_some(), suite.cases.iter().any(|case| case.drawn.is_some_and(|d| d.dated)));
    let mut names = BTreeSet::new();
    for case in &suite.cases {
        let name = case.name.as_str();
        assert!(names.insert(name), "two cases are called {name}");
        let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(name.len() <= 120 && name.chars().all(sound), "{name:?}");
        assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()), "{name:?}");
        assert!(case.limit_minutes.is_none_or(|minutes| minutes > 0.0 && minutes <= 1e5));
        let options = &case.options;
        let ways = [options.prompt.is_some(), options.tokens.is_some(), case.drawn.is_some()];
        assert!(ways.into_iter().filter(|way| *way).count() <= 1, "{name} begins twice");
        let length = case.drawn.map(|drawn| drawn.length);
        let counts = [Some(options.max_tokens), Some(options.ubatch), options.context_tokens];
        for count in counts.into_iter().chain([options.threads, length]).flatten() {
            assert!((1..=TOKENS_MAX).contains(&count), "{count} in {name}");
        }
    }
    Came::Read
}

/// What people are shown is short, and nothing in it steers a terminal.
fn one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(message.len() <= 1000, "a message of {} bytes", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
}
