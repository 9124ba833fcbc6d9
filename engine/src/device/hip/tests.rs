//! The whole driver path of `hip`, through hip-sys' types, against an imaginary ROCm.
//!
//! What is not tested here is what only a GPU does: the machine code runs nowhere in this file.

mod code;
mod faults;
mod late;
mod loading;
mod mock;

use super::*;
use crate::Engine;
use crate::device::{Device, DeviceError};
use crate::gguf::{File, TensorType};
use crate::kernels::{Embed, Kernels, RmsNorm};
use crate::options::{Activations, DeviceChoice, HostBuild, KvType, Options};
use crate::taps::Silent;
use late::{counts, step};
use mock::{play, tell};
use objects::CodeObject;
use std::path::Path;

/// Not a test by itself: what a process that `play` started does.
#[test]
fn scenario() {
    let Ok(scenario) = std::env::var(mock::SCENARIO) else { return };
    match scenario.as_str() {
        "open" => match Device::open(DeviceChoice::Hip(number()), None, 1) {
            Ok(device) => describe(&device),
            Err(error) => tell(error),
        },
        "objects" => with_objects(),
        "work" => work().unwrap(),
        "graph" => graph().unwrap(),
        "model" => model(),
        "step" => step(),
        "counts" => counts(),
        "faults" => faults::play_on(),
        "load" => loading::load(),
        "loads" => loading::loads(),
        _ => unreachable!("{scenario}"),
    }
}

fn number() -> usize {
    std::env::var("LOCKSTEP_NUMBER").map_or(0, |text| text.parse().unwrap())
}

fn hip() -> Device {
    Device::open(DeviceChoice::Hip(number()), None, 1).unwrap()
}

fn host() -> Device {
    Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 1).unwrap()
}

fn describe(device: &Device) {
    let about = device.describe();
    tell(format!("{} | {} | {}", about.device, about.name, about.wave_lanes));
    tell(about.build);
    tell(format!("{} {:?}", device.operations_probed(), device.attributes()));
}

#[test]
fn a_device_opens_and_says_what_it_is() {
    let Some(told) = play("open", &[("LOCKSTEP_NUMBER", "1")]) else { return };
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "hip:1 | Imaginary Instinct gfx942 | 64");
    assert!(lines[1].contains(&format!("kernels {}", env!("LOCKSTEP_KERNELS_HASH"))), "{told}");
    assert!(lines[1].contains("gfx942 object ") && lines[1].contains("HIP 60443484"), "{told}");
    assert!(
        lines[2]
            .contains("multiprocessors: 304, pool: None, memory_total_bytes: Some(206158430208)")
    );
    let Some(told) = play("open", &[("LOCKSTEP_MOCK_CAPABILITY", "90")]) else { return };
    assert!(
        told.contains("Imaginary Instinct gfx90a") && told.contains("gfx90a object "),
        "{told}"
    );
}

/// The environment of an imaginary ROCm, and what opening a device says then.
const REFUSALS: [(&[(&str, &str)], &str); 12] = [
    (
        &[("LOCKSTEP_LIBAMDHIP64", "/nowhere/libamdhip64.so")],
        "device hip:0 is not usable: libamdhip64 cannot be loaded (/nowhere/libamdhip64.so: cannot \
         open shared object file: No such file or directory); install ROCm 5.4 or newer, name the \
         library in LOCKSTEP_LIBAMDHIP64, or use --device host",
    ),
    (
        &[("LOCKSTEP_MOCK_DEVICES", "0")],
        "device hip:0 is not usable: HIP finds no AMD GPU; see that `rocminfo` lists one and that \
         this user may open /dev/kfd (groups render and video), or use --device host",
    ),
    (&[("LOCKSTEP_MOCK_FAIL", "hipInit:1:101")], "hip:0 is not usable: HIP finds no AMD GPU; see"),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipGetDeviceCount:1:100")],
        "hip:0 is not usable: HIP finds no AMD GPU; see",
    ),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipInit:1:3")],
        "hip:0 is not usable: hipInit gave hipErrorUnknown (code 3); see that `rocminfo` works",
    ),
    (
        &[("LOCKSTEP_NUMBER", "7")],
        "device hip:7 is not usable: this machine has 2 of them, counted from 0; use --device \
         hip:0 to hip:1",
    ),
    (
        &[("LOCKSTEP_MOCK_WAVE", "32")],
        "device hip:0 is not usable: Imaginary Instinct has waves of 32 lanes, and the kernels are \
         built for 64; use an AMD Instinct GPU, or --device host",
    ),
    (
        &[("LOCKSTEP_MOCK_CAPABILITY", "103")],
        "Imaginary Instinct: its architecture, gfx103x, is not served; use an AMD Instinct MI100",
    ),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipHostMalloc:1:2")],
        "hip:0 is not usable: hipHostMalloc gave hipErrorOutOfMemory (code 2); see `dmesg`",
    ),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipMalloc:2:2")],
        "allocation of 5376 bytes for probe first inputs failed: 206158429440 bytes are free; end \
         what else uses the device",
    ),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipModuleLaunchKernel:1:719")],
        "launch of probe failed: hipModuleLaunchKernel gave hipErrorUnknown (code 719)",
    ),
    (
        &[("LOCKSTEP_MOCK_FAIL", "hipStreamSynchronize:1:12345")],
        "hipStreamSynchronize failed: hipErrorUnknown (code 12345)",
    ),
];

#[test]
fn each_failure_has_its_own_words() {
    for (environment, expected) in REFUSALS {
        let Some(told) = play("open", environment) else { return };
        assert!(told.contains(expected), "{environment:?}\n{told}\n{expected}");
    }
    // A runtime that does not wait is seen by what it gives: the probe refuses the device.
    let Some(told) = play("open", &[("LOCKSTEP_MOCK_DEAF", "1")]) else { return };
    assert!(told.starts_with("device hip:0 (Imaginary Instinct gfx942) is refused: "), "{told}");
    // A failed free is said and harms nothing.
    let Some(told) = play("open", &[("LOCKSTEP_MOCK_FAIL", "hipFree:1:1")]) else { return };
    assert!(told.contains("warning: hip:0: hipFree gave hipErrorInvalidValue (code 1)"), "{told}");
    assert!(told.contains("hip:0 | Imaginary Instinct gfx942 | 64"), "{told}");
}

fn with_objects() {
    let planted = |objects: &[CodeObject], fault| match HipBackend::with_objects(0, objects, fault)
    {
        Ok(backend) => backend.describe().build,
        Err(error) => error.to_string(),
    };
    let words = |objects: &[CodeObject]| planted(objects, None);
    let sound = objects::embedded();
    let mut stale = sound[0].bytes.to_vec();
    *stale.last_mut().unwrap() ^= 1;
    tell(words(&[CodeObject { bytes: stale.leak(), ..sound[0] }]));
    // Code of another GPU under this one's name, with its own hash: the runtime refuses it.
    tell(words(&[CodeObject { architecture: "gfx942", ..sound[1] }]));
    tell(words(&[]));
    // No object has a fault.
    tell(planted(sound, Some(6)));
}

#[test]
fn code_that_is_not_this_build_s_is_refused_and_hiprtc_serves_the_rest() {
    let Some(told) = play("objects", &[]) else { return };
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("Instinct: the code object for gfx942 has hash "), "{told}");
    assert!(lines[0].ends_with("; rebuild the engine"), "{told}");
    assert!(lines[1].contains("gfx942 by hiprtc"), "{told}");
    assert!(lines[2].contains("gfx942 by hiprtc"), "{told}");
    assert!(lines[3].contains("gfx942 by hiprtc, fault 6"), "{told}");
    let nothing = [("LOCKSTEP_LIBHIPRTC", "/nowhere/libhiprtc.so")];
    let Some(told) = play("objects", &nothing) else { return };
    let expected = "no code for it can be had: the embedded object: hipModuleLoadData gave \
                    hipErrorNoBinaryForGpu (code 209); gfx942 by hiprtc: libhiprtc cannot be";
    assert!(told.contains(expected), "{told}");
    // clang-19 does not know the GPU: hiprtc's log is shown.
    let Some(told) = play("open", &[("LOCKSTEP_MOCK_CAPABILITY", "95")]) else { return };
    assert!(told.contains("gfx950 by hiprtc: ") || told.contains("gfx950 | 64"), "{told}");
}

/// A pattern that no two places share.
fn pattern(count: u32) -> Vec<u32> {
    (0..count).map(|index| index.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995).collect()
}

fn work() -> Result<(), DeviceError> {
    let device = hip();
    // Longer than pinned memory, at odd places.
    let source = pattern((20 << 20) / 4 + 3);
    let buffer = device.upload("pattern", &source)?;
    let mut target = vec![0; source.len()];
    buffer.all().read(&mut target)?;
    assert!(source == target);
    for (first, count) in [(1, 3), (1_000_001, 77), (source.len() - 1, 1), (5, 0)] {
        let mut part = vec![0; count];
        buffer.view::<u32>(first as u64, count as u64)?.read(&mut part)?;
        assert_eq!(part, source[first..first + count]);
    }
    // Many small copies: more than pinned memory has room for before a wait.
    for turn in 0..40_u32 {
        let values = vec![turn; 100_000];
        buffer.view::<u32>(u64::from(turn) * 100_000, 100_000)?.write(&values)?;
    }
    buffer.all().read(&mut target)?;
    assert!((0..4_000_000).all(|index| target[index] == (index / 100_000) as u32));
    let fresh = device.allocate::<f32>("fresh", 1000)?;
    let mut values = [0.0_f32; 1000];
    fresh.all().read(&mut values)?;
    assert!(values.iter().all(|value| value.is_nan()));
    // The device is chosen in every thread.
    apart(|| norm(&device));
    assert_eq!(norm(&device), norm(&host()));
    assert!(device.kernel::<[u64; 2]>("rms_norm").is_err());
    tell(device.kernel::<[u64; 2]>("no_such_kernel").unwrap_err());
    let huge = device.allocate::<u8>("huge", 1 << 41).unwrap_err();
    tell(huge);
    // A kernel that reaches outside shows at the next wait.
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32)?;
    let table = device.upload("table", &[0_u8; 4 * 8 * 4])?;
    let tokens = device.upload("tokens", &[1_u32, 4])?;
    let out = device.allocate::<f32>("stream", 16)?;
    let input = Embed {
        table: table.all(),
        kind: TensorType::F32,
        tokens: tokens.all(),
        vocabulary: 4,
        hidden: 8,
        rows: 2,
    };
    kernels.embed(input, out.all())?;
    tell(device.synchronise().unwrap_err());
    let residual = device.kernel::<[u64; 7]>("residual")?;
    tell(device.launch(&residual, Grid { x: 1 << 24, y: 1 }, &[], &[0_u64; 7]).unwrap_err());
    let backend = HipBackend::new(0, None)?;
    // SAFETY: the imaginary runtime finds no allocation there, and touches nothing.
    tell(unsafe { backend.fill(4096, 0, 8) }.unwrap_err());
    device.synchronise()
}

/// Bits of some rows' norm.
fn norm(device: &Device) -> Vec<u32> {
    let kernels = Kernels::load(device, Activations::I24, KvType::F32).unwrap();
    let values: Vec<f32> = pattern(7 * 96).iter().map(|word| *word as i32 as f32).collect();
    let x = device.upload("x", &values).unwrap();
    let weight = device.upload("weight", &values[..96]).unwrap();
    let out = device.allocate::<f32>("out", 7 * 96).unwrap();
    let input = RmsNorm { x: x.all(), weight: weight.all(), width: 96, rows: 7, epsilon: 1e-5 };
    kernels.rms_norm(input, out.all()).unwrap();
    let mut result = vec![0.0_f32; 7 * 96];
    out.all().read(&mut result).unwrap();
    result.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn copies_launches_and_their_faults_come_back() {
    let Some(told) = play("work", &[("LOCKSTEP_NUMBER", "1")]) else { return };
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("kernel no_such_kernel is not in build gfx942 object"), "{told}");
    assert!(lines[1].starts_with("allocation of 2199023255552 bytes for huge failed"), "{told}");
    let expected = "hipStreamSynchronize failed: hipErrorIllegalAddress (code 700)";
    assert_eq!(lines[2], expected);
    let expected = "launch of residual failed: 16777216 blocks in x, HIP serves 16777215";
    assert_eq!(lines[3], expected);
    assert_eq!(lines[4], "hipMemsetD8Async failed: hipErrorInvalidValue (code 1)");
}

/// In a thread of its own, whose device nobody has chosen yet.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn graph() -> Result<(), DeviceError> {
    let device = hip();
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32)?;
    let x = device.upload("x", &[1.0_f32; 64])?;
    let branch = device.upload("branch", &[0.5_f32; 64])?;
    let sum = device.allocate::<f32>("sum", 64)?;
    let twice = device.allocate::<f32>("twice", 64)?;
    let graph = apart(|| {
        device.capture(|| {
            kernels.residual(x.all(), branch.all(), sum.all(), 64)?;
            kernels.residual(sum.all(), sum.all(), twice.all(), 64)
        })
    });
    let graph = graph?;
    let mut values = [0.0_f32; 64];
    twice.all().read(&mut values)?;
    assert!(values.iter().all(|value| value.is_nan()), "captured launches did not run");
    let before = apart(|| device.mark())?;
    apart(|| graph.replay())?;
    let after = apart(|| device.mark())?;
    apart(|| twice.all().read(&mut values))?;
    assert_eq!(values, [3.0; 64]);
    assert!(apart(|| after.seconds_since(&before))? > 0.0);
    // The same launches one by one.
    apart(|| sum.all().write(&[0.0_f32; 64]))?;
    apart(|| kernels.residual(x.all(), branch.all(), sum.all(), 64))?;
    apart(|| kernels.residual(sum.all(), sum.all(), twice.all(), 64))?;
    apart(|| device.synchronise())?;
    twice.all().read(&mut values)?;
    assert_eq!(values, [3.0; 64]);
    // What changes stands in memory.
    x.all().write(&[2.0_f32; 64])?;
    graph.replay()?;
    twice.all().read(&mut values)?;
    assert_eq!(values, [5.0; 64]);
    let refused = device.capture(|| x.all().read(&mut [0.0_f32; 64])).unwrap_err();
    tell(refused);
    Ok(())
}

#[test]
fn graphs_replay_and_marks_measure() {
    let Some(told) = play("graph", &[("LOCKSTEP_NUMBER", "1")]) else { return };
    assert_eq!(told, "copy of x refused: launches are being captured; copy before or after");
}

fn tiny() -> File {
    File::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny.gguf")).unwrap()
}

/// Whole passes over a model: prompt in two passes, then single tokens.
fn model() {
    let file = tiny();
    let steps = |device, host_build| {
        let options = Options {
            device,
            host_build,
            context_tokens: 32,
            ubatch: 3,
            threads: 1,
            ..Options::default()
        };
        let mut engine = Engine::load(&file, &options).unwrap();
        let mut bits = Vec::new();
        for tokens in [&[1_u32, 5, 9, 2, 7][..], &[3], &[11]] {
            let readout = engine.forward(tokens, &mut Silent).unwrap();
            bits.extend(readout.hidden.iter().chain(&readout.logits).map(|value| value.to_bits()));
        }
        bits
    };
    let expected = steps(DeviceChoice::Host, Some(HostBuild::Baseline));
    let found = steps(DeviceChoice::Hip(0), None);
    assert!(expected == found, "bits differ");
    tell(format!("{} values agree", found.len()));
}

#[test]
fn a_model_has_the_bits_of_the_host() {
    let Some(told) = play("model", &[]) else { return };
    assert!(told.ends_with(" values agree"), "{told}");
}
