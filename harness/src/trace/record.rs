//! Recording: one side runs alone, and every row is written before the next one is waited for.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Landscape, Record, Writer};
use crate::compare::{Phase, sequence};
use crate::event::{RowFacts, Stopped};
use crate::landscape;
use crate::run::lane::Lane;
use crate::sides::{Row, SideError, TapLevel};

/// The taps that a readout brings as well.
const READOUT: [&str; 2] = ["final_norm", "logits"];

/// What one side runs.
pub struct Recording {
    /// The prompt.
    pub prompt_ids: Vec<u32>,
    /// The tokens after it; none where the side chooses.
    pub feed: Option<Vec<u32>>,
    /// The most steps, the prompt is one.
    pub steps_max: usize,
    /// What is watched.
    pub level: TapLevel,
    /// Whether whole rows are kept.
    pub rows: bool,
    /// The tokens that end a text.
    pub end_ids: BTreeSet<u32>,
}

/// How a recording went.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Why there is no further step.
    pub stopped: Stopped,
    /// Steps that were run.
    pub steps_count: usize,
    /// Rows that were written.
    pub rows_count: usize,
    /// What the side failed with.
    pub failure: Option<SideError>,
}

impl Recording {
    /// Runs the side to its end. Only the writer can fail: what the side does wrong is told.
    pub fn run(
        &self,
        lane: &mut Lane,
        mut writer: Writer<impl Write>,
        interrupted: &AtomicBool,
    ) -> io::Result<Recorded> {
        let mut recorded =
            Recorded { stopped: Stopped::MaxTokens, steps_count: 0, rows_count: 0, failure: None };
        let mut tokens = self.prompt_ids.clone();
        for step in 0..self.steps_max {
            if interrupted.load(Ordering::SeqCst) {
                recorded.stopped = Stopped::Interrupted;
                break;
            }
            let choice = match self.step(step, &tokens, lane, &mut writer, &mut recorded)? {
                Ok(choice) => choice,
                Err(error) => {
                    recorded.stopped = Stopped::Failed;
                    recorded.failure = Some(error);
                    break;
                }
            };
            recorded.steps_count += 1;
            if step + 1 == self.steps_max {
                break;
            }
            match self.next(step, choice) {
                Ok(token) => tokens = vec![token],
                Err(stopped) => {
                    recorded.stopped = stopped;
                    break;
                }
            }
        }
        writer.end(recorded.stopped)?;
        Ok(recorded)
    }

    /// The token after a step, or why there is none.
    fn next(&self, step: usize, choice: Option<u32>) -> Result<u32, Stopped> {
        if let Some(feed) = &self.feed {
            return feed.get(step).copied().ok_or(Stopped::MaxTokens);
        }
        match choice {
            None => Err(Stopped::NoChoice),
            Some(id) if self.end_ids.contains(&id) => Err(Stopped::EndOfText),
            Some(id) => Ok(id),
        }
    }

    fn step(
        &self,
        step: usize,
        tokens: &[u32],
        lane: &mut Lane,
        writer: &mut Writer<impl Write>,
        recorded: &mut Recorded,
    ) -> io::Result<Result<Option<u32>, SideError>> {
        lane.forward(tokens, self.level);
        let mut write = |record: &sequence::Record| {
            recorded.rows_count += 1;
            writer.row(&self.record(step, record))
        };
        let mut read_out = Vec::new();
        while let Some(record) = lane.next_record() {
            write(&record)?;
            if READOUT.contains(&record.key.tap.as_ref()) {
                read_out.push(record);
            }
        }
        let reading = match lane.finish() {
            Ok(reading) => reading,
            Err(error) => return Ok(Err(error)),
        };
        for record in [reading.hidden(), reading.logits()] {
            // Said once where tap and readout are one row, and twice where they are not.
            if !read_out.iter().any(|tapped| same(tapped, &record)) {
                write(&record)?;
            }
        }
        let top = landscape::Landscape::of(&reading.readout.logits);
        let choice = top.choice();
        writer.landscape(&Landscape {
            line: 0,
            step,
            token_id: Some(reading.token_id),
            position: Some(reading.readout.position),
            top: top.top,
            gap: top.gap,
            entropy: top.entropy,
        })?;
        Ok(Ok(choice))
    }

    fn record(&self, step: usize, record: &sequence::Record) -> Record {
        let facts = RowFacts::of(&record.row, record.hash, None);
        let key = &record.key;
        Record {
            line: 0,
            token_id: Some(key.token_id),
            position: key.position,
            layer: key.layer,
            tap: key.tap.to_string(),
            step,
            phase: if step == 0 { Phase::PrefillLast } else { Phase::Decode },
            hash: facts.hash,
            elements_count: Some(facts.elements_count),
            covered_count: None,
            min: facts.min,
            max: facts.max,
            mean: facts.mean,
            nan: Some(facts.nan_count),
            inf: Some(facts.infinite_count),
            sample: None,
            row: match &record.row {
                Row::F32(values) if self.rows => Some(values.clone()),
                _ => None,
            },
        }
    }
}

/// Whether two records are one: the key, and every bit.
fn same(one: &sequence::Record, two: &sequence::Record) -> bool {
    let bits = |row: &Row| -> Vec<u64> {
        match row {
            Row::F32(values) => values.iter().map(|value| u64::from(value.to_bits())).collect(),
            Row::F64(values) => values.iter().map(|value| value.to_bits()).collect(),
        }
    };
    one.key == two.key && one.hash == two.hash && bits(&one.row) == bits(&two.row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::lane::Loading;
    use crate::sides::Side;
    use crate::sides::imaginary::Imaginary;
    use crate::trace::{Ending, Trace, parse, tests::header};

    fn recording(steps_max: usize) -> Recording {
        Recording {
            prompt_ids: vec![1, 2, 3],
            feed: None,
            steps_max,
            level: TapLevel::Layer,
            rows: true,
            end_ids: BTreeSet::new(),
        }
    }

    fn run(recording: &Recording, panic_at: Option<usize>) -> (Recorded, Trace) {
        let load = move || {
            let mut side = Imaginary::new("engine");
            side.panic_at = panic_at;
            Ok(Box::new(side) as Box<dyn Side>)
        };
        let mut lane = Loading::start("engine", Box::new(load)).wait().unwrap();
        let mut bytes = Vec::new();
        // The imaginary side hashes in its own way.
        let mut header = header();
        header.hash = crate::trace::HashKind::Foreign;
        let writer = Writer::begin(&mut bytes, &header).unwrap();
        let recorded = recording.run(&mut lane, writer, &AtomicBool::new(false)).unwrap();
        (recorded, parse(&bytes).unwrap())
    }

    #[test]
    fn every_row_of_every_step_is_written() {
        let (recorded, trace) = run(&recording(3), None);
        // Two layers of three prompt tokens and of two more, and two rows of each readout.
        assert_eq!((recorded.steps_count, recorded.rows_count), (3, 2 * 5 + 2 * 3));
        assert_eq!(trace.records.len(), recorded.rows_count);
        assert_eq!(trace.landscapes.len(), 3);
        assert_eq!(trace.ending, Ending::Whole(Stopped::MaxTokens));
        assert!(trace.records.iter().all(|record| record.row.is_some()));
        let chosen = trace.landscapes[0].top[0].id;
        assert_eq!(trace.landscapes[1].token_id, Some(chosen));
    }

    #[test]
    fn tokens_that_are_given_are_run() {
        let mut fed = recording(3);
        fed.feed = Some(vec![11, 12]);
        let (_, trace) = run(&fed, None);
        let tokens: Vec<_> = trace.landscapes.iter().map(|top| top.token_id.unwrap()).collect();
        assert_eq!(tokens, [3, 11, 12]);
    }

    #[test]
    fn a_side_that_fails_leaves_what_there_was() {
        let (recorded, trace) = run(&recording(9), Some(4));
        assert_eq!(recorded.stopped, Stopped::Failed);
        assert!(recorded.failure.unwrap().to_string().contains("planted"));
        assert_eq!(trace.ending, Ending::Whole(Stopped::Failed));
        assert_eq!(trace.landscapes.len(), 2);
    }
}
