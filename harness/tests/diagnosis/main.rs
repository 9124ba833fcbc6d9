//! Every fault planted in a small model, and what the diagnosis says of it.
//!
//! **Invariant:** faults are planted by code of their own; nothing of a hypothesis makes its proof.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod cost;
mod library;
mod limits;
mod noise;
mod operations;
mod parts;
mod places;
mod plain;
mod weights;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use harness::diagnose::{Evidence, Label, diagnose, look_at};

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
    let mut labels = BTreeSet::new();
    for (seed, spec) in [GROUPED, PLAIN, FLOATS].iter().enumerate() {
        let world = World::new(spec, 1 + seed as u64);
        let mut planted = places::planted(&world);
        planted.extend(operations::planted(&world));
        planted.extend(weights::planted(&world));
        for Planted { name, evidence, label } in planted {
            count += 1;
            labels.insert(label);
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
    eprintln!("{count} faults");
    let missing: Vec<Label> =
        Label::ALL.into_iter().filter(|label| !labels.contains(label)).collect();
    assert!(missing.is_empty(), "no fault was planted for {missing:?}");
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}

/// `docs/diagnosis.md` has a row for every label, and every place to look at exists.
#[test]
fn the_document_has_every_label() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = fs::read_to_string(root.join("docs/diagnosis.md")).unwrap();
    for label in Label::ALL {
        assert!(document.contains(&format!("\n| {label} | ")), "no row for {label}");
    }
    let world = World::new(&FLOATS, 1);
    for (tap, layer) in noise::TAPS {
        let mut evidence = world.evidence(tap, layer, 0);
        for label in Label::ALL {
            let places = look_at(&evidence, label);
            assert!(!places.is_empty(), "{tap}, {label}: nowhere to look");
            for place in places {
                assert!(root.join(place).is_file(), "{place} is missing");
            }
        }
        evidence.tap = "unknown".into();
        assert!(diagnose(&evidence).first().is_none());
    }
}
