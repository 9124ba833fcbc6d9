//! The tuned pass against the plain one, whole models, and digests against rows.

mod loading;

use super::*;
use crate::gguf::File;
use crate::options::{Activations, DeviceChoice, HostBuild, KvType, Options};
use crate::taps::{Observer, Tap, TapLevel};
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
