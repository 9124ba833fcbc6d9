//! What a hypothesis answers, and the diagnosis that comes of asking all of them.

use std::fmt;

use serde::Serialize;

use super::sources::look_at;
use super::{Evidence, Explanation};

/// Why a hypothesis explains nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum No {
    /// It is about other taps.
    Idle,
    /// It was tested and does not give the engine's rows.
    Refuted,
    /// A tensor that it needs is not known.
    Lacks(String),
}

/// An explanation, or why there is none.
pub type Answer = Result<Explanation, No>;

/// What a hypothesis needs of the elements that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It makes sure by itself that it is no coincidence.
    Anything,
    /// Two elements at least, finite, of different values: a constant could come from anywhere.
    Values,
}

/// A family of causes that are tested together.
#[derive(Clone, Copy)]
pub struct Hypothesis {
    /// Its name in reports and in `docs/diagnosis.md`.
    pub name: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Tests it; the simplest cause of the family that holds.
    pub examine: fn(&Evidence<'_>) -> Answer,
}

/// A hypothesis that could not be tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Untested {
    /// Its name.
    pub hypothesis: &'static str,
    /// What was missing.
    pub lacks: String,
}

/// The answer to why a tap differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// What explains it: exact before bounded, then the simplest first. Empty when nothing does.
    pub explanations: Vec<Explanation>,
    /// The hypotheses that were tested and gave other rows.
    pub refuted: Vec<&'static str>,
    /// The hypotheses that lacked a tensor.
    pub untested: Vec<Untested>,
    /// Whether the reference's operation on the given inputs gives the reference's rows; nothing
    /// where an input is missing. If it does not, the inputs are not the ones of this tap.
    pub inputs_fit: Option<bool>,
}

impl Diagnosis {
    /// The cause to name.
    pub fn first(&self) -> Option<&Explanation> {
        self.explanations.first()
    }

    /// Asks every hypothesis of the table; what is equally certain stays in the table's order.
    pub fn of(evidence: &Evidence<'_>, table: &[Hypothesis], inputs_fit: Option<bool>) -> Self {
        let mut found = Self {
            explanations: Vec::new(),
            refuted: Vec::new(),
            untested: Vec::new(),
            inputs_fit,
        };
        let telling = evidence.is_telling();
        for hypothesis in table {
            let answer = if hypothesis.needs == Needs::Values && !telling {
                Err(No::Lacks("two finite values that differ from each other".into()))
            } else {
                (hypothesis.examine)(evidence)
            };
            match answer {
                Ok(mut explanation) => {
                    if explanation.look_at.is_empty() {
                        explanation.look_at = look_at(evidence, explanation.label);
                    }
                    found.explanations.push(explanation);
                }
                Err(No::Idle) => {}
                Err(No::Refuted) => found.refuted.push(hypothesis.name),
                Err(No::Lacks(lacks)) => {
                    found.untested.push(Untested { hypothesis: hypothesis.name, lacks });
                }
            }
        }
        found.explanations.sort_by_key(|explanation| explanation.certainty);
        found
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inputs_fit == Some(false) {
            writeln!(f, "the inputs that were given do not give the reference's own rows")?;
        }
        match self.explanations.split_first() {
            Some((first, others)) => {
                write!(f, "{first}")?;
                let equal = others.iter().filter(|other| other.certainty == first.certainty);
                let mut labels: Vec<&str> = Vec::new();
                for label in equal.map(|other| other.label.words()) {
                    if label != first.label.words() && !labels.contains(&label) {
                        labels.push(label);
                    }
                }
                if !labels.is_empty() {
                    write!(f, "; as certain: {}", labels.join(", "))?;
                }
            }
            None => {
                write!(f, "no hypothesis explains it: {} were tested", self.refuted.len())?;
                if !self.untested.is_empty() {
                    write!(f, ", {} lacked an input", self.untested.len())?;
                }
            }
        }
        Ok(())
    }
}
