//! A finding in the few words that a table, a JUnit file and an annotation have room for.

use serde::{Deserialize, Serialize};

use super::source_lines::line_of_kernel;
use crate::find::{Finding, inputs};

/// A file of the engine's sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePlace {
    /// From the root of the repository.
    pub file: String,
    /// Where its kernel begins, in a file that has one.
    pub line: Option<usize>,
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The first operation that differs, with its values.
    pub divergence: String,
    /// Who is to blame, where that was looked into.
    pub judged: Option<String>,
    /// Why.
    pub cause: Option<String>,
    /// What to read first.
    pub look_at: Vec<SourcePlace>,
    /// The file that replays it, where one was written.
    pub witness: Option<String>,
}

impl Found {
    /// Words in the place of what would have been found.
    pub fn said(words: impl Into<String>) -> Self {
        let divergence = words.into();
        Self { divergence, judged: None, cause: None, look_at: Vec::new(), witness: None }
    }

    /// Of a finding, and the witness that was written of it.
    pub fn of(finding: &Finding, witness: Option<String>) -> Self {
        let place = |file: &str| SourcePlace { file: file.to_owned(), line: line_of_kernel(file) };
        let (judged, cause, look_at) = match (&finding.located, &finding.distances) {
            (Some(located), _) => {
                let places = located.look_at.iter().map(|file| place(file)).collect();
                let diagnosis = &located.diagnosis;
                (Some(located.judgement.to_string()), Some(diagnosis.to_string()), places)
            }
            (None, Some(distances)) => {
                let tap = distances.first.as_ref().map(|excess| excess.tap);
                let places = tap.map(|tap| place(inputs::kernel(tap))).into_iter().collect();
                (Some(distances.words()), None, places)
            }
            (None, None) => (None, None, Vec::new()),
        };
        Self { divergence: finding.divergence.to_string(), judged, cause, look_at, witness }
    }
}
