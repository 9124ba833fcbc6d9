//! Where a run is when a device refuses something: step, phase and layer.

use std::fmt;

/// Whether a pass begins a sequence or goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassPhase {
    /// The prompt, from an empty sequence.
    Prefill,
    /// Tokens after others.
    Decode,
}

/// A point in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Calls since the sequence was empty; 0 is the prompt.
    pub step: u32,
    /// Prompt or what follows.
    pub phase: PassPhase,
    /// The layer whose operations are under way.
    pub layer: Option<u32>,
}

/// A moment in brackets behind a name, or nothing outside a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub Option<Moment>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Moment { step, phase, layer }) = self.0 else { return Ok(()) };
        let phase = match phase {
            PassPhase::Prefill => "prefill",
            PassPhase::Decode => "decode",
        };
        write!(f, " (step {step}, {phase}")?;
        layer.map_or(Ok(()), |layer| write!(f, ", layer {layer}"))?;
        write!(f, ")")
    }
}
