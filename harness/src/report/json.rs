//! Events as JSON lines, one object each, flushed as they happen.

use std::io::{self, Write};

use super::record::{EventLine, LandscapeLine, ReadoutLine, VerdictFile};
use crate::compare::Verdict;
use crate::event::{Display, Event, Start, Step};

/// Writes one line an event; progress is not written.
pub struct JsonDisplay<W> {
    output: W,
    start: Option<Start>,
}

impl<W: Write> JsonDisplay<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, start: None }
    }

    fn line(&mut self, line: &EventLine<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, line)?;
        self.output.write_all(b"\n")?;
        self.output.flush()
    }
}

impl<W: Write> Display for JsonDisplay<W> {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(start) => {
                self.start = Some(start.clone());
                let (identity, prompt_ids) = (&start.identity, &start.prompt_ids);
                let steps_max = start.steps_max;
                self.line(&EventLine::Started { identity, prompt_ids, steps_max })
            }
            Event::Step(step) => self.line(&step_line(step)),
            Event::Chunking(chunking) => {
                let readout = Box::new(ReadoutLine::of_chunking(chunking));
                self.line(&EventLine::Chunking { readout })
            }
            Event::Progress(_) => Ok(()),
            Event::Finished(outcome) => {
                let Some(start) = self.start.take() else { return Ok(()) };
                let outcome = Box::new(VerdictFile::of(&start, outcome));
                self.line(&EventLine::Finished { outcome })
            }
        }
    }
}

fn step_line(step: &Step) -> EventLine<'_> {
    EventLine::Step {
        step: step.step,
        verdict: step.verdict.word(),
        message: match &step.verdict {
            Verdict::Agrees => None,
            Verdict::Diverges(divergence) => Some(divergence.to_string()),
            Verdict::Inconclusive(reason) => Some(reason.to_string()),
        },
        chosen_id: step.chosen.as_ref().map(|token| token.id),
        triangle: step.triangle.as_ref(),
        readouts: step.sides.iter().map(|side| ReadoutLine::of_step(step, side)).collect(),
        landscapes: step.sides.iter().map(|side| LandscapeLine::of(step, side)).collect(),
    }
}
