//! Every fault planted in a small model, and what the diagnosis says of it.
//!
//! **Invariant:** faults are planted by code of their own; nothing of a hypothesis makes its proof.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod cost;
mod library;
mod noise;
mod operations;
mod places;
mod plain;
mod weights;
mod world;

use std::time::Instant;

use harness::diagnose::{Evidence, Label, diagnose};

use world::{FLOATS, GROUPED, PLAIN, World};

/// A fault with the label that it has to get.
pub(crate) struct Planted<'w> {
    name: String,
    evidence: Evidence<'w>,
    label: Label,
}

impl<'w> Planted<'w> {
    pub(crate) fn new(
        name: String,
        evidence: Evidence<'w>,
        label: Label,
        actual: Vec<f32>,
    ) -> Self {
        assert_eq!(actual.len(), evidence.expected.len(), "{name}");
        let pairs = actual.iter().zip(&evidence.expected);
        let differing = pairs.filter(|(one, two)| one.to_bits() != two.to_bits()).count();
        assert!(differing > 0, "{name} changes nothing");
        Self { name, evidence: Evidence { actual, ..evidence }, label }
    }
}

/// Every planted fault against every hypothesis: the first answer is the right one.
#[test]
fn every_planted_fault_gets_its_name() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (seed, spec) in [GROUPED, PLAIN, FLOATS].iter().enumerate() {
        let world = World::new(spec, 1 + seed as u64);
        let mut planted = places::planted(&world);
        planted.extend(operations::planted(&world));
        planted.extend(weights::planted(&world));
        for Planted { name, evidence, label } in planted {
            count += 1;
            let start = Instant::now();
            let found = diagnose(&evidence);
            let seconds = start.elapsed().as_secs_f64();
            let first = found.first().map(|first| first.label);
            if first != Some(label) || found.inputs_fit != Some(true) {
                let place = format!("{} {} {:?}", spec.name, evidence.tap, evidence.layer);
                failures.push(format!("{place}: {name}: wanted {label}, got {found}"));
            }
            if seconds > 5.0 {
                failures.push(format!("{}: {name}: {seconds:.1} s", spec.name));
            }
        }
    }
    println!("{count} faults");
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}
