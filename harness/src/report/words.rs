//! What stands under a case that does not agree: cause, place, witness, the command for it.

use std::fmt::Write;

use crate::suite::CaseResult;

/// One fact a line, the message first.
pub fn details(case: &CaseResult) -> String {
    let mut text = format!("{}\n", case.message);
    for (label, words) in facts(case) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{label}: {words}");
    }
    text
}

/// What is known besides the message.
pub fn facts(case: &CaseResult) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(found) = &case.found {
        // The search sees the first operation; the run may have seen the readout only.
        if found.divergence != case.message {
            facts.push(("found", found.divergence.clone()));
        }
        facts.extend(found.judged.clone().map(|words| ("judged", words)));
        facts.extend(found.cause.clone().map(|words| ("cause", words)));
        if !found.look_at.is_empty() {
            let places = found.look_at.iter().map(|place| match place.line {
                Some(line) => format!("{}:{line}", place.file),
                None => place.file.clone(),
            });
            facts.push(("look at", places.collect::<Vec<_>>().join(", ")));
        }
        facts.extend(found.witness.clone().map(|path| ("witness", path)));
    }
    facts.extend(case.replay.clone().map(|command| ("again", command)));
    facts
}
