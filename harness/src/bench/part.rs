//! One part, measured in this process.

use std::time::Instant;

use super::{Seconds, Work};
use crate::compare::Phase;
use crate::compare::sequence::Comparison;
use crate::run::lane::Lane;
use crate::run::{Lanes, References};
use crate::sides::engine::EngineSide;
use crate::sides::{Side, SideError, TapLevel, Unwatched};

/// Something that runs tokens and can begin again.
pub trait Runner {
    /// What goes wrong.
    type Error;
    /// Runs tokens after those already there.
    fn run(&mut self, tokens: &[u32]) -> Result<(), Self::Error>;
    /// Forgets the sequence.
    fn reset(&mut self) -> Result<(), Self::Error>;
}

/// Repeats prompt and decode. Once before it counts, so that caches and pools are warm.
pub fn measure<R: Runner>(
    runner: &mut R,
    work: &Work,
    vocabulary: usize,
) -> Result<Seconds, R::Error> {
    let (prompt, rest) = work.tokens(vocabulary);
    let mut seconds = Seconds { prefill: Vec::new(), decode: Vec::new() };
    runner.run(&prompt)?;
    for &token in rest.iter().take(4) {
        runner.run(&[token])?;
    }
    for _ in 0..work.repeat {
        runner.reset()?;
        let begin = Instant::now();
        runner.run(&prompt)?;
        seconds.prefill.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        for &token in &rest {
            runner.run(&[token])?;
        }
        seconds.decode.push(begin.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// One side alone.
pub struct Alone<S>(pub S);

impl<S: Side> Runner for Alone<S> {
    type Error = SideError;

    fn run(&mut self, tokens: &[u32]) -> Result<(), SideError> {
        self.0.forward(tokens, &mut Unwatched).map(drop)
    }

    fn reset(&mut self) -> Result<(), SideError> {
        self.0.reset();
        Ok(())
    }
}

/// The engine alone, which brings back digests of what is watched and of its readout.
pub struct Steps {
    /// The engine.
    pub side: EngineSide,
    /// What is watched.
    pub level: TapLevel,
}

impl Runner for Steps {
    type Error = SideError;

    fn run(&mut self, tokens: &[u32]) -> Result<(), SideError> {
        self.side.step(tokens, self.level).map(drop)
    }

    fn reset(&mut self) -> Result<(), SideError> {
        self.side.reset();
        Ok(())
    }
}

/// candle-transformers.
impl Runner for super::candle::Candle {
    type Error = candle_core::Error;

    fn run(&mut self, tokens: &[u32]) -> candle_core::Result<()> {
        self.forward(tokens).map(drop)
    }

    fn reset(&mut self) -> candle_core::Result<()> {
        Self::reset(self);
        Ok(())
    }
}

/// Both sides at once, compared after each call as a run does it.
pub struct Together(pub Lanes);

impl Together {
    fn references(&mut self) -> &mut Lane {
        match &mut self.0.references {
            References::Exact(lane) | References::Recorded(lane) => lane,
            References::Triangle { wide, .. } => wide,
        }
    }
}

impl Runner for Together {
    type Error = SideError;

    fn run(&mut self, tokens: &[u32]) -> Result<(), SideError> {
        self.0.engine.forward(tokens, TapLevel::Readout);
        self.references().forward(tokens, TapLevel::Readout);
        let reference = self.references().finish()?;
        let engine = self.0.engine.finish()?;
        let mut comparison = Comparison::new(0, Phase::Decode);
        comparison.pair(Some(&reference.hidden()), Some(&engine.hidden()));
        comparison.pair(Some(&reference.logits()), Some(&engine.logits()));
        let verdict = comparison.finish().verdict;
        assert_eq!(verdict.word(), "agrees", "the sides part while they are measured: {verdict:?}");
        Ok(())
    }

    fn reset(&mut self) -> Result<(), SideError> {
        self.0.engine.reset();
        self.references().reset();
        Ok(())
    }
}
