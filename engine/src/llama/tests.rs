//! The tuned pass against the plain one, whole models, and digests against rows.

mod loading;

use super::*;
use crate::gguf::File;
use crate::options::{Activations, DeviceChoice, HostBuild, KvType, Options};
use crate::taps::{DigestedTap, Observer, Tap, TapLevel};
use std::path::Path;

fn tiny() -> File {
    File::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny.gguf")).unwrap()
}

fn engine(file: &File, build: HostBuild, options: Options) -> Engine {
    let host = Options { device: DeviceChoice::Host, host_build: Some(build), ..options };
    Engine::load(file, &host).unwrap()
}

/// Every tap with its rows as bits.
#[derive(Default)]
struct Seen(Vec<(&'static str, Option<usize>, usize, Vec<u32>)>);

impl Observer for Seen {
    fn level(&self) -> TapLevel {
        TapLevel::Op
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let bits = tap.values.iter().map(|value| value.to_bits()).collect();
        self.0.push((tap.name, tap.layer, tap.first_position, bits));
    }
}

fn waves() -> impl Iterator<Item = HostBuild> {
    let usable = crate::device::Device::usable_host_builds();
    let builds = [HostBuild::Waves32, HostBuild::Waves64].into_iter();
    builds.filter(move |build| usable.contains(build))
}

const PROMPT: [u32; 9] = [3, 17, 80, 4, 255, 31, 9, 100, 64];

#[test]
fn every_tap_of_the_tuned_pass_has_the_bits_of_the_plain_one() {
    let file = tiny();
    for (activations, kv, ubatch) in [
        (Activations::I24, KvType::F32, 512),
        (Activations::I16, KvType::F16, 4),
        (Activations::I8, KvType::F32, 1),
    ] {
        let options = Options { activations, kv, ubatch, context_tokens: 64, ..Options::default() };
        let mut plain = engine(&file, HostBuild::Baseline, options.clone());
        let mut expected = Seen::default();
        plain.forward(&PROMPT, &mut expected).unwrap();
        plain.forward(&[7], &mut expected).unwrap();
        for build in waves() {
            let mut tuned = engine(&file, build, options.clone());
            let mut actual = Seen::default();
            tuned.forward(&PROMPT, &mut actual).unwrap();
            tuned.forward(&[7], &mut actual).unwrap();
            assert_eq!(actual.0.len(), expected.0.len());
            for (actual, expected) in actual.0.iter().zip(&expected.0) {
                let (name, layer, position, _) = expected;
                assert_eq!(actual, expected, "{build:?} {name} {layer:?} at {position}");
            }
        }
    }
}

#[test]
fn every_build_has_the_bits_of_the_baseline() {
    let file = tiny();
    let options = Options { context_tokens: 64, ubatch: 7, ..Options::default() };
    let mut plain = engine(&file, HostBuild::Baseline, options.clone());
    let mut expected = Seen::default();
    plain.forward(&PROMPT, &mut expected).unwrap();
    let usable = crate::device::Device::usable_host_builds();
    for build in usable.into_iter().filter(|build| build.wave_lanes() == 1) {
        let mut other = engine(&file, build, options.clone());
        let mut actual = Seen::default();
        other.forward(&PROMPT, &mut actual).unwrap();
        assert_eq!(actual.0, expected.0, "{build:?}");
    }
}

#[test]
fn digests_are_those_of_the_rows_and_a_graph_is_never_stale() {
    let file = tiny();
    let options = Options { context_tokens: 64, ubatch: 5, ..Options::default() };
    for level in [TapLevel::Readout, TapLevel::Layer, TapLevel::Op] {
        let mut plain = engine(&file, HostBuild::Baseline, options.clone());
        let mut expected = vec![plain.step(&PROMPT, level).unwrap()];
        expected.extend((0..6).map(|token| plain.step(&[token * 11], level).unwrap()));
        for build in waves() {
            let mut tuned = engine(&file, build, options.clone());
            let mut actual = vec![tuned.step(&PROMPT, level).unwrap()];
            actual.extend((0..6).map(|token| tuned.step(&[token * 11], level).unwrap()));
            assert_eq!(actual, expected, "{build:?} {level:?}");
        }
    }
}

/// Looks at digests, and wants the rows of one tap.
struct Picks {
    wanted: (&'static str, Option<usize>),
    asked: Option<usize>,
    digests: Vec<(&'static str, Option<usize>, usize, Vec<u64>)>,
    rows: Seen,
}

impl Observer for Picks {
    fn level(&self) -> TapLevel {
        TapLevel::Op
    }

    fn tap(&mut self, tap: Tap<'_>) {
        self.rows.tap(tap);
    }

    fn digests_first(&self) -> bool {
        true
    }

    fn digests(&mut self, taps: &[DigestedTap<'_>]) {
        self.asked = taps.iter().position(|tap| (tap.name, tap.layer) == self.wanted);
        self.digests.extend(taps.iter().map(|tap| {
            let hashes = tap.digests.iter().map(|digest| digest.hash).collect();
            (tap.name, tap.layer, tap.first_position, hashes)
        }));
    }

    fn wanted(&mut self) -> Option<usize> {
        self.asked.take()
    }
}

#[test]
fn digests_come_first_and_then_the_rows_that_are_wanted_and_no_others() {
    let file = tiny();
    // More rows than have buffers of every layer's own.
    let options = Options { context_tokens: 64, ubatch: 5, ..Options::default() };
    for build in waves() {
        let mut all = engine(&file, build, options.clone());
        let mut expected = Seen::default();
        let before = all.device().copied_bytes();
        all.forward(&PROMPT, &mut expected).unwrap();
        let copied_all = all.device().copied_bytes() - before;
        let mut some = engine(&file, build, options.clone());
        let wanted = ("k", Some(1));
        let rows = Seen::default();
        let mut actual = Picks { wanted, asked: None, digests: Vec::new(), rows };
        let before = some.device().copied_bytes();
        some.forward(&PROMPT, &mut actual).unwrap();
        let copied = some.device().copied_bytes() - before;
        assert!(copied * 4 < copied_all, "{copied} bytes where all rows took {copied_all}");
        let readout = |name| matches!(name, "final_norm" | "logits");
        let picked = |name, layer| (name, layer) == wanted || readout(name);
        let rows: Vec<_> = expected.0.iter().filter(|tap| picked(tap.0, tap.1)).collect();
        assert_eq!(actual.rows.0.iter().collect::<Vec<_>>(), rows, "{build:?}");
        let due = expected.0.iter().filter(|tap| !readout(tap.0)).map(|tap| {
            let (name, layer, first, bits) = tap;
            let rows = PROMPT.len().min(first + 5) - first;
            let row = |bits: &[u32]| {
                let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
                crate::hash_row(&values)
            };
            (*name, *layer, *first, bits.chunks(bits.len() / rows).map(row).collect())
        });
        assert_eq!(actual.digests, due.collect::<Vec<_>>(), "{build:?}");
    }
}

#[test]
fn replays_of_a_graph_read_out_what_a_plain_step_does() {
    let file = tiny();
    let options = Options { context_tokens: 64, ..Options::default() };
    let mut plain = engine(&file, HostBuild::Baseline, options.clone());
    for build in waves() {
        let mut tuned = engine(&file, build, options.clone());
        plain.reset();
        for (index, token) in [5, 5, 90, 1, 1, 200, 33, 90, 7].into_iter().enumerate() {
            // A second sequence, with the graph of the first.
            if index == 6 {
                plain.reset();
                tuned.reset();
            }
            let expected = plain.forward(&[token], &mut crate::taps::Silent).unwrap();
            let actual = tuned.forward(&[token], &mut crate::taps::Silent).unwrap();
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&actual.hidden), bits(&expected.hidden), "{build:?}");
            assert_eq!(bits(&actual.logits), bits(&expected.logits), "{build:?}");
        }
    }
}

#[test]
fn launch_by_launch_every_output_is_written_and_has_the_same_bits() {
    let file = tiny();
    let builds = waves().map(|build| (build, KvType::F16));
    for (build, kv) in builds.chain([(HostBuild::Baseline, KvType::F32)]) {
        let options = Options { kv, ubatch: 5, context_tokens: 64, ..Options::default() };
        let careful = Options { launch_by_launch: true, ..options.clone() };
        let unchecked = Options { unchecked: true, ..options.clone() };
        let steps = |options| {
            let mut engine = engine(&file, build, options);
            let run = |tokens: &[u32]| engine.forward(tokens, &mut crate::taps::Silent).unwrap();
            let bits = |readout: crate::taps::Readout| {
                let values = readout.hidden.into_iter().chain(readout.logits);
                values.map(f32::to_bits).collect::<Vec<_>>()
            };
            [&PROMPT[..], &[7], &[8, 9], &[11], &[12]].map(run).map(bits)
        };
        let expected = steps(options);
        assert!(steps(careful) == expected, "{build:?} {kv:?} launch by launch");
        assert!(steps(unchecked) == expected, "{build:?} {kv:?} without guards and poison");
    }
}

#[test]
fn a_sequence_after_another_begins_with_a_poisoned_cache() {
    let file = tiny();
    let options = Options { context_tokens: 64, ..Options::default() };
    let mut engine = engine(&file, HostBuild::Baseline, options);
    if !engine.device().is_checking() {
        eprintln!("SKIPPED the poison: the kernels were built with sanitizers");
        return;
    }
    engine.forward(&PROMPT, &mut crate::taps::Silent).unwrap();
    engine.reset();
    engine.forward(&PROMPT[..2], &mut crate::taps::Silent).unwrap();
    let (keys, values) = engine.cache.layer(0);
    let nan = |buffer: &crate::device::Buffer| {
        let mut read = vec![0.0_f32; (buffer.bytes() / 4) as usize];
        buffer.all::<u8>().read(bytemuck::cast_slice_mut(&mut read)).unwrap();
        read.iter().filter(|value| value.is_nan()).count() as f64 / read.len() as f64
    };
    // Two of 64 positions were written.
    assert_eq!((nan(keys), nan(values)), (62.0 / 64.0, 62.0 / 64.0));
}
