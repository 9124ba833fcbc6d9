//! A witness's operation once more, on both sides, from its saved inputs.

use engine::gguf::File;
use reference::operation::{OperationInputs, Operations};

use super::witness::{Witness, WitnessModel, WitnessSide};
use crate::compare::rows;
use crate::number::Number;
use crate::sides::engine::EngineSide;
use crate::sides::question::{Answer, Question};
use crate::sides::{Side, SideError};

/// How often the engine runs the operation.
const RUNS: usize = 5;

/// What a replay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine differs from the reference.
    StillThere,
    /// It agrees in every run.
    Gone,
    /// Neither follows.
    Untold {
        /// Why.
        reason: String,
    },
}

/// A replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What it says.
    pub verdict: Verdict,
    /// Elements that differ now, at most over the runs.
    pub differing_count: usize,
    /// Of how many.
    pub elements_count: usize,
    /// The first of them now.
    pub element: Option<String>,
    /// Whether the engine gave the very rows of the witness.
    pub same_rows: bool,
    /// What is not as it was.
    pub notes: Vec<String>,
}

impl Replay {
    /// 0 gone, 1 still there, 4 cannot be told.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Gone => 0,
            Verdict::StillThere => 1,
            Verdict::Untold { .. } => 4,
        }
    }
}

/// Why a replay did not run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] SideError),
    /// The reference.
    #[error("the reference cannot run the operation: {0}")]
    Reference(#[from] reference::Error),
}

/// Runs the operation of a witness on both sides.
pub fn replay(
    witness: &Witness,
    model: &WitnessModel,
    file: &File,
    options: &engine::Options,
    operations: &mut Operations,
) -> Result<Replay, ReplayError> {
    let mut engine = EngineSide::load(file, options)?;
    let mut notes = Vec::new();
    let other_model = model.sha256 != witness.model.sha256;
    if other_model {
        let (then, now) =
            (&witness.model.sha256[..16.min(witness.model.sha256.len())], &model.sha256[..16]);
        notes.push(format!("the model is another: sha256 {now}, the witness has {then}"));
    }
    let now = WitnessSide::of(&engine.identity());
    for (what, then, now) in [
        ("program", &witness.engine.implementation, &now.implementation),
        ("device", &witness.engine.device, &now.device),
        ("build", &witness.engine.build, &now.build),
    ] {
        if then != now {
            notes.push(format!("the engine's {what} is another: {now}, the witness has {then}"));
        }
    }
    let place = &witness.place;
    let inputs = OperationInputs {
        first_position: witness.inputs.first_position,
        tokens: &witness.inputs.tokens,
        tensors: &witness.inputs.tensors,
    };
    let expected = operations.run(&place.tap, place.layer, inputs)?;
    let mut replay = Replay {
        verdict: Verdict::Gone,
        differing_count: 0,
        elements_count: expected.len(),
        element: None,
        same_rows: false,
        notes,
    };
    for _ in 0..RUNS {
        let question = Question::Operation {
            tap: place.tap.clone(),
            layer: place.layer,
            inputs: witness.inputs.clone().into(),
        };
        let Answer::Rows(actual) = engine.answer(&question)? else { continue };
        replay.compare(&expected, &actual, place.width);
        replay.same_rows |= equal(&actual, &witness.actual);
    }
    replay.judge(witness, &expected, other_model);
    Ok(replay)
}

fn equal(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| rows::same(*one, *two))
}

impl Replay {
    fn compare(&mut self, expected: &[f32], actual: &[f32], width: usize) {
        let differs = |index: &usize| !rows::same(expected[*index], actual[*index]);
        let differing: Vec<usize> = (0..expected.len().min(actual.len())).filter(differs).collect();
        if differing.len() <= self.differing_count {
            return;
        }
        self.differing_count = differing.len();
        let index = differing[0];
        let (one, two) = (Number::F32(expected[index]), Number::F32(actual[index]));
        self.element = Some(format!(
            "row {}, column {}: engine {two} ({}), reference {one} ({})",
            index / width,
            index % width,
            two.bits(),
            one.bits(),
        ));
    }

    fn judge(&mut self, witness: &Witness, expected: &[f32], other_model: bool) {
        let alone_agreed = equal_in_finding(witness);
        let untold = |reason: &str| Verdict::Untold { reason: reason.to_owned() };
        self.verdict = if other_model {
            untold("the model is not the one of the witness")
        } else if !equal(expected, &witness.expected) {
            untold("the reference gives other rows than the witness has: its arithmetic is another")
        } else if self.differing_count > 0 {
            Verdict::StillThere
        } else if alone_agreed {
            untold(
                "the operation alone agreed when the witness was written as well; its input in \
                 the pass was guilty, which only the run shows",
            )
        } else {
            Verdict::Gone
        };
    }
}

/// Whether the operation alone agreed when the witness was written.
fn equal_in_finding(witness: &Witness) -> bool {
    let judgement = &witness.finding["located"]["judgement"]["kind"];
    judgement == "input_guilty" || judgement == "cache_overwritten"
}
