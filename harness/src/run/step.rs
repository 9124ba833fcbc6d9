//! One step: every side runs the same tokens at the same time, then what they gave is compared.

use super::Runner;
use super::filled::Filled;
use super::lane::{Lane, Reading};
use super::plan::{Drive, References};
use crate::compare::sequence::{Compared, Comparison, Tally};
use crate::compare::triangle::{Judge, Stream, Triangle, Usual};
use crate::compare::{Phase, Place, Verdict};
use crate::event::{RowFacts, SideStep, Step, Token};
use crate::find::search::Search;
use crate::landscape::Landscape;
use crate::sides::sabotaged::{Fault, plant};
use crate::sides::{SideError, TapLevel};

/// What the sides gave at one step.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    /// The side under test.
    pub(super) engine: Reading,
    /// The judge.
    pub(super) reference: Reading,
    /// The third voice and which of the two references judges, where f64 judges.
    pub(super) third: Option<(Judge, Reading)>,
    /// The residual stream of f64 at the readout's position.
    stream: Stream,
    /// What stock was off by before this step.
    usual: Usual,
}

impl Readings {
    /// The distances, where there are three voices.
    fn triangle(&self) -> Option<Triangle> {
        let (judge, third) = self.third.as_ref()?;
        let (stock, wide) = match judge {
            Judge::Wide => (third, &self.reference),
            Judge::Stock => (&self.reference, third),
        };
        let (engine, stock, wide) = (self.engine.rows(), stock.rows(), wide.rows());
        Some(Triangle::measure(engine, stock, wide, self.stream, &self.usual))
    }

    /// Whether the distances see a flipped exponent bit. True where bits are compared.
    pub(super) fn canary_of_triangle(&self) -> bool {
        let Some((judge, _)) = &self.third else { return true };
        let mut flipped = self.clone();
        let logits = &mut flipped.engine.readout.logits;
        let top = Landscape::of(logits).top1().map(|logit| logit.id as usize);
        plant(logits, Fault::FlipBit { index: top.unwrap_or(0), bit: 30 });
        let landscape = Landscape::of(logits);
        let reference = Landscape::of(&self.reference.readout.logits);
        let place = self.place("logits", 0, Phase::Decode);
        flipped.triangle().is_some_and(|triangle| {
            let verdict = triangle.verdict(*judge, &place, &landscape, &reference);
            matches!(verdict, Verdict::Diverges(_))
        })
    }

    fn place(&self, tap: &'static str, step: usize, phase: Phase) -> Place {
        Place { key: self.reference.key(tap), step, phase }
    }
}

impl Runner<'_, '_> {
    /// Runs the tokens on every side and compares.
    pub(super) fn step(
        &mut self,
        step: usize,
        phase: Phase,
        tokens: &[u32],
    ) -> Result<Step, SideError> {
        self.sequence.extend_from_slice(tokens);
        if let Some(search) = &mut self.search {
            search.begin(step, phase);
        }
        let first = !matches!(self.verdict, Verdict::Diverges(_));
        let mut comparison = Comparison::new(step, phase).pictured(first);
        let readings = self.read(tokens, &mut comparison)?;
        for (side, reading) in self.duration.sides_seconds.iter_mut().zip(readings.in_order()) {
            side.1 += reading.duration_seconds;
        }
        let engine = Landscape::of(&readings.engine.readout.logits);
        let reference = Landscape::of(&readings.reference.readout.logits);
        let triangle = readings.triangle();
        let compared = match (&triangle, &readings.third) {
            (Some(triangle), Some((judge, _))) => {
                let place = readings.place("logits", step, phase);
                let paired = pairs(&readings, step, phase);
                let judged = triangle.verdict(*judge, &place, &engine, &reference);
                let taps = triangle.outcomes(*judge, &judged);
                let (verdict, tally) = (paired.and(judged), tally_of(&readings));
                Compared { verdict, tally, taps, neighbourhood: None }
            }
            _ => {
                let (reference, engine) = (&readings.reference, &readings.engine);
                comparison.pair(Some(&reference.hidden()), Some(&engine.hidden()));
                comparison.pair(Some(&reference.logits()), Some(&engine.logits()));
                comparison.finish()
            }
        };
        let chosen = match self.plan.drive {
            Drive::Reference => reference.choice(),
            Drive::Engine => engine.choice(),
        };
        let report = Step {
            step,
            phase,
            position: readings.reference.readout.position,
            token: self.token(readings.reference.token_id),
            step_tokens: tokens.len(),
            tokens_total: self.sequence.len(),
            sides: self.sides(&readings),
            triangle,
            verdict: compared.verdict,
            tally: compared.tally,
            taps: compared.taps,
            neighbourhood: compared.neighbourhood,
            chosen: chosen.map(|id| self.token(id)),
        };
        if step == 0 {
            self.first = Some(readings.clone());
        }
        self.last = Some(readings);
        Ok(report)
    }

    /// Starts every side, compares the taps as they come, and waits for the readouts.
    fn read(&mut self, tokens: &[u32], taps: &mut Comparison) -> Result<Readings, SideError> {
        let level = self.plan.level;
        let engine = &mut self.lanes.engine;
        let triangle = matches!(self.lanes.references, References::Triangle { .. });
        // Where nothing is paired, a search keeps what the engine says.
        let watched = if self.search.is_some() && triangle { TapLevel::Op } else { level };
        // A search wants the rows of one tap, and knows which when it has seen the hashes.
        match self.search.is_some() && !triangle {
            true => engine.forward_hashed(tokens, watched),
            false => engine.forward(tokens, watched),
        }
        match &mut self.lanes.references {
            References::Exact(reference) | References::Recorded(reference) => {
                reference.forward(tokens, level);
                if level > TapLevel::Readout {
                    pump(reference, engine, taps, self.search.as_deref_mut());
                }
                let (reference, engine) = (reference.finish(), engine.finish());
                let stream = Stream::default();
                let usual = Usual::default();
                Ok(Readings { engine: engine?, reference: reference?, third: None, stream, usual })
            }
            References::Triangle { stock, wide, judge } => {
                stock.forward(tokens, TapLevel::Readout);
                wide.forward(tokens, TapLevel::Layer);
                if let Some(search) = self.search.as_deref_mut() {
                    while let Some(record) = engine.next_record() {
                        search.keep(record);
                    }
                    search.close();
                }
                let stream = stream_of(wide, self.sequence.len() - 1);
                let (engine, stock, wide) = (engine.finish(), stock.finish(), wide.finish());
                let (engine, stock, wide) = (engine?, stock?, wide?);
                let (reference, third) = match judge {
                    Judge::Wide => (wide, stock),
                    Judge::Stock => (stock, wide),
                };
                let (third, usual) = (Some((*judge, third)), self.usual.clone());
                Ok(Readings { engine, reference, third, stream, usual })
            }
        }
    }

    /// A token with its text.
    pub(super) fn token(&self, id: u32) -> Token {
        Token { id, text: (self.plan.text)(id) }
    }

    fn sides(&self, readings: &Readings) -> Vec<SideStep> {
        let side = |(lane, reading): (&Lane, &Reading)| {
            let landscape = Landscape::of(&reading.readout.logits);
            let Reading { readout, hidden_hash, logits_hash, .. } = reading;
            SideStep {
                side: lane.name(),
                device: lane.identity().device.clone(),
                hidden: RowFacts::of(&readout.hidden, *hidden_hash, readout.hidden_place),
                logits: RowFacts::of(&readout.logits, *logits_hash, readout.logits_place),
                top_texts: landscape.top.iter().map(|logit| (self.plan.text)(logit.id)).collect(),
                landscape,
            }
        };
        self.lanes.all().zip(readings.in_order()).map(side).collect()
    }
}

impl Readings {
    /// In the order of the lanes: the engine, the judge, the third voice.
    fn in_order(&self) -> impl Iterator<Item = &Reading> {
        let third = self.third.as_ref().map(|(_, reading)| reading);
        [&self.engine, &self.reference].into_iter().chain(third)
    }
}

/// Pairs the taps of two running lanes until both have ended.
fn pump(
    reference: &mut Lane,
    engine: &mut Lane,
    taps: &mut Comparison,
    mut search: Option<&mut Search>,
) {
    let mut filled = Filled::default();
    loop {
        let (expected, actual) = (reference.next_record(), engine.next_record());
        let (expected, actual) = match (expected, actual) {
            (Some(expected), Some(actual)) => match filled.fill(&expected, actual, engine) {
                Some(actual) => (Some(expected), Some(actual)),
                None => continue,
            },
            ended => ended,
        };
        // After a tap without a partner the rest pairs by accident only.
        if taps.aligned() {
            taps.pair(expected.as_ref(), actual.as_ref());
        }
        match (expected, actual, &mut search) {
            (None, None, _) => break,
            (Some(expected), Some(actual), Some(search)) if taps.aligned() => {
                search.see(expected, actual);
            }
            _ => {}
        }
    }
    if let Some(search) = search {
        search.close();
    }
}

/// Adds up the residual stream of a running lane at a position.
fn stream_of(wide: &mut Lane, position: usize) -> Stream {
    let mut stream = Stream::default();
    while let Some(record) = wide.next_record() {
        if record.key.tap == "ffn_residual" && record.key.position == position {
            stream.add(&record.row);
        }
    }
    stream
}

/// Where bits cannot be equal, token and position still have to be.
fn pairs(readings: &Readings, step: usize, phase: Phase) -> Verdict {
    let mut verdict = Verdict::Agrees;
    for reading in readings.in_order() {
        for tap in ["final_norm", "logits"] {
            let (expected, actual) = (readings.reference.key(tap), reading.key(tap));
            if expected == actual {
                continue;
            }
            verdict = verdict.and(Verdict::Diverges(Box::new(crate::compare::Divergence {
                difference: crate::compare::Difference::Sequence {
                    expected: Some(expected),
                    actual: Some(actual),
                },
                place: readings.place(tap, step, phase),
                element: None,
                differing_count: 0,
                elements_count: 0,
            })));
        }
    }
    verdict
}

/// Distances look at whole rows; differing bits are no failure there and are not counted.
fn tally_of(readings: &Readings) -> Tally {
    let readout = &readings.reference.readout;
    Tally {
        rows_compared: 2,
        elements_compared: (readout.hidden.len() + readout.logits.len()) as u64,
        ..Tally::default()
    }
}
