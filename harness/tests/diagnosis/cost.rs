//! What a diagnosis costs on the shape of SmolLM2-135M when nothing explains what differs.

use std::time::Instant;

use fixtures::values::Stream;
use harness::diagnose::{Evidence, diagnose};
use reference::{KvType, WeightType};

use crate::world::{Spec, World};

/// A prompt of two chunks, the second of 200 positions.
const SMOL: Spec = Spec {
    name: "smollm2",
    heads: 9,
    kv_heads: 3,
    head_size: 64,
    rope_dimensions: 64,
    feed_forward: 1536,
    layers: 4,
    kv: KvType::F16,
    tied: true,
    vocabulary: 49152,
    passes: &[0..50, 50..250],
    kinds: &[WeightType::Q8_0],
};

/// Seconds a diagnosis may take. 2 are promised on two idle cores; tests share theirs.
const SECONDS_MAX: f64 = 20.0;

#[test]
fn all_hypotheses_together_are_quick() {
    let layers = std::env::var("LOCKSTEP_LAYERS").map_or(SMOL.layers, |n| n.parse().unwrap());
    let world = World::new(&Spec { layers, ..SMOL }, 3);
    let inside = ["attn_norm", "q", "k", "q_rope", "attn_out", "attn_residual", "gate", "swiglu"];
    let taps = inside.iter().chain(&["down"]).map(|tap| (*tap, Some(1)));
    for (tap, layer) in taps.chain([("embed", None), ("final_norm", None), ("logits", None)]) {
        let clean = world.evidence(tap, layer, 1);
        let mut stream = Stream::new(4);
        let noise = clean.expected.iter().map(|value| value * (1.5 + stream.unit())).collect();
        // Last bits, so that bounds are computed for every element.
        let last = clean.expected.iter().map(|value| value.next_up()).collect();
        for (name, actual) in [("noise", noise), ("last bits", last)] {
            let evidence = Evidence { actual, ..clean.clone() };
            let start = Instant::now();
            let found = diagnose(&evidence);
            let seconds = start.elapsed().as_secs_f64();
            eprintln!("{tap} {name}: {seconds:.3} s, {found}");
            assert!(seconds <= SECONDS_MAX, "{tap} {name}: {seconds} s");
        }
    }
}
