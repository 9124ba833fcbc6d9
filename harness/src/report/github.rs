//! Annotations: lines on standard output that GitHub's runner shows beside the source.

use std::fmt::Write;

use super::words::facts;
use crate::suite::{CaseResult, Word};

/// One line for each case that does not agree; those that were not run are notices.
pub fn annotations(title: &str, cases: &[CaseResult]) -> String {
    let mut text = String::new();
    for case in cases {
        let level = match case.verdict {
            Word::Agrees => continue,
            Word::NotRun => "notice",
            Word::Diverges | Word::Inconclusive | Word::Device | Word::Input => "error",
        };
        let place = case.found.as_ref().and_then(|found| found.look_at.first());
        let mut properties = Vec::new();
        if let Some(place) = place {
            properties.push(format!("file={}", property(&place.file)));
            properties.extend(place.line.map(|line| format!("line={line}")));
        }
        let head = case.verdict.head().to_lowercase();
        properties.push(format!("title={}", property(&format!("{title}: {} {head}", case.name))));
        let mut message = case.message.clone();
        for (label, words) in facts(case) {
            // Writing into a string cannot fail.
            let _ = write!(message, "\n{label}: {words}");
        }
        let (properties, message) = (properties.join(","), data(&message));
        let _ = writeln!(text, "::{level} {properties}::{message}");
    }
    text
}

/// What would end the line, escaped as the runner reads it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And what would end the property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_or_a_message_ends_its_line_or_its_property() {
        let mut case = CaseResult::new("a,b:c%", Some(1), "100%\r\n::error::x");
        case.replay = Some("again, please: 1".to_owned());
        assert_eq!(
            annotations("s", &[case]),
            "::error title=s%3A a%2Cb%3Ac%25 diverges::\
             100%25%0D%0A::error::x%0Aagain: again, please: 1\n"
        );
        let well = CaseResult::new("well", Some(0), "4 steps");
        assert_eq!(annotations("s", &[well]), "");
        let later = CaseResult::new("later", None, "not run (budget)");
        let expected = "::notice title=s%3A later not run::not run (budget)\n";
        assert_eq!(annotations("s", &[later]), expected);
    }
}
