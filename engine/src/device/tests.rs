//! The gate, the launch extents and the checked build, each shown to refuse.

use super::*;
use crate::gguf::TensorType;
use crate::kernels::{Embed, Kernels, RmsNorm};
use crate::options::{Activations, KvType};

fn device(build: HostBuild) -> Device {
    Device::open(DeviceChoice::Host, Some(build), 2).unwrap()
}

#[test]
fn copies_of_another_length_are_refused_and_counted() {
    let device = device(HostBuild::Baseline);
    let buffer = device.upload("hidden", &[1.0_f32, 2.0, 3.0]).unwrap();
    let mut short = [0.0_f32; 2];
    let error = buffer.all().read(&mut short).unwrap_err();
    let expected = "copy of hidden refused: 2 elements on the host, 3 on the device";
    assert_eq!(error.to_string(), expected);
    assert_eq!((device.copies_checked(), device.copies_total()), (1, 2));
    let mut whole = [0.0_f32; 3];
    buffer.all().read(&mut whole).unwrap();
    assert_eq!(whole, [1.0, 2.0, 3.0]);
}

#[test]
fn views_stay_in_their_buffer() {
    let device = device(HostBuild::Baseline);
    let buffer = device.allocate::<f32>("hidden", 8).unwrap();
    assert!(buffer.view::<f32>(4, 4).is_ok());
    let error = buffer.view::<f32>(5, 4).unwrap_err().to_string();
    let expected = "view of hidden refused: element 5 + 4 of 4 bytes > capacity 32";
    assert_eq!(error, expected);
    for (first, count) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX / 4, 2)] {
        assert!(buffer.view::<f32>(first, count).is_err(), "{first} + {count}");
    }
    assert!(buffer.all::<f32>().part(7, 2).is_err());
}

#[test]
fn memory_that_nobody_wrote_reads_as_nan() {
    let device = device(HostBuild::Baseline);
    let buffer = device.allocate::<f32>("workspace", 100).unwrap();
    let mut values = [0.0_f32; 100];
    buffer.all().read(&mut values).unwrap();
    assert!(values.iter().all(|value| value.is_nan()));
}

#[test]
fn a_launch_past_a_buffer_is_refused_by_name() {
    let device = device(HostBuild::Baseline);
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
    let x = device.upload("x", &[1.0_f32; 64]).unwrap();
    let weight = device.upload("blk.0.attn_norm.weight", &[1.0_f32; 31]).unwrap();
    let out = device.allocate::<f32>("norm", 64).unwrap();
    let input = RmsNorm { x: x.all(), weight: weight.all(), width: 32, rows: 2, epsilon: 1e-5 };
    let error = kernels.rms_norm(input, out.all()).unwrap_err().to_string();
    let expected = "launch of rms_norm refused: weight needs 32 elements, \
                    blk.0.attn_norm.weight has 31";
    assert_eq!(error, expected);
    let weight = device.upload("w", &[1.0_f32; 32]).unwrap();
    let input = RmsNorm { x: x.all(), weight: weight.all(), width: 32, rows: 2, epsilon: 1e-5 };
    let error = kernels.rms_norm(input, x.all()).unwrap_err().to_string();
    assert_eq!(error, "launch of rms_norm refused: output out (x) overlaps x (x)");
}

#[test]
fn the_checked_build_names_the_array_a_kernel_leaves() {
    if !Device::usable_host_builds().contains(&HostBuild::Checked) {
        eprintln!("SKIPPED checked build: this CPU cannot run it");
        return;
    }
    let device = device(HostBuild::Checked);
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
    // A token beyond the table: the caller's check is left out here on purpose.
    let table = device.upload("token_embd.weight", &[0_u8; 4 * 8 * 4]).unwrap();
    let tokens = device.upload("tokens", &[1_u32, 4]).unwrap();
    let out = device.allocate::<f32>("stream", 16).unwrap();
    let input = Embed {
        table: table.all(),
        kind: TensorType::F32,
        tokens: tokens.all(),
        vocabulary: 4,
        hidden: 8,
        rows: 2,
    };
    let error = kernels.embed(input, out.all()).unwrap_err().to_string();
    let expected = "kernel embed_f32 reached outside argument table (token_embd.weight): \
                    element 128 + 4 of 128; the access was redirected and the results of the \
                    launch are void";
    assert_eq!(error, expected);
}

#[test]
fn an_unknown_kernel_and_other_arguments_are_refused() {
    let device = device(HostBuild::Baseline);
    let error = device.kernel::<[u64; 2]>("no_such_kernel").unwrap_err().to_string();
    assert!(error.contains("no kernel of that name"), "{error}");
    let error = device.kernel::<[u64; 2]>("rms_norm").unwrap_err().to_string();
    assert!(error.contains("64 argument bytes, not 16"), "{error}");
}

#[test]
fn missing_devices_say_why_and_what_to_do() {
    // What is missing depends on the machine: the driver, every GPU, or the hundredth.
    let error = Device::open(DeviceChoice::Hip(99), None, 1).unwrap_err().to_string();
    assert!(error.starts_with("device hip:99 is not usable: "), "{error}");
    assert!(error.contains("use --device h"), "{error}");
}

#[test]
fn a_capture_runs_nothing_copies_nothing_and_leaves_the_device_usable() {
    let device = device(HostBuild::Baseline);
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
    let x = device.upload("x", &[1.0_f32, 2.0]).unwrap();
    let out = device.allocate::<f32>("out", 2).unwrap();
    let add = || kernels.residual(x.all(), x.all(), out.all(), 2);
    let values = |buffer: &Buffer| {
        let mut values = [0.0_f32; 2];
        buffer.all().read(&mut values).unwrap();
        values
    };
    let failed = device.capture(|| -> Result<(), DeviceError> {
        add()?;
        x.all().write(&[3.0_f32, 4.0])
    });
    let error = failed.unwrap_err().to_string();
    assert_eq!(error, "copy of x refused: launches are being captured; copy before or after");
    let graph = device.capture(add).unwrap();
    assert!(values(&out)[0].is_nan(), "nothing ran while it was captured");
    x.all().write(&[3.0_f32, 4.0]).unwrap();
    graph.replay().unwrap();
    assert_eq!(values(&out), [6.0, 8.0]);
    // The graph holds its memory.
    drop(x);
    graph.replay().unwrap();
    assert_eq!(values(&out), [6.0, 8.0]);
}

#[test]
#[should_panic(expected = "buffers of residual are of the device that runs it")]
fn a_buffer_of_another_device_is_refused() {
    let (device, other) = (device(HostBuild::Baseline), device(HostBuild::Baseline));
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
    let x = other.upload("x", &[1.0_f32]).unwrap();
    let out = device.allocate::<f32>("out", 1).unwrap();
    let _ = kernels.residual(x.all(), x.all(), out.all(), 1);
}

#[test]
fn a_copy_past_the_end_says_where_in_the_run() {
    let device = device(HostBuild::Baseline);
    let hidden = device.allocate::<u8>("hidden", 3_358_719).unwrap();
    device.set_moment(Some(Moment { step: 3, phase: PassPhase::Prefill, layer: Some(31) }));
    // The readout of a row that is one too late, by a byte.
    let error = hidden.read(835_584, &mut [0.0_f32; 4096]).unwrap_err().to_string();
    let expected = "copy of hidden (step 3, prefill, layer 31) refused: \
                    offset 3342336 + 16384 bytes > capacity 3358719";
    assert_eq!(error, expected);
    let mut words = [0_u16; 4];
    let halves = device.allocate::<f32>("q", 8).unwrap();
    let error = halves.read(0, &mut words).unwrap_err().to_string();
    let expected = "copy of q (step 3, prefill, layer 31) refused: elements of 2 bytes, the buffer \
                    holds elements of 4";
    assert_eq!(error, expected);
    device.set_moment(None);
    let error = halves.read(u64::MAX, &mut words[..0]).unwrap_err().to_string();
    let expected = "copy of q refused: offset 18446744073709551615 + 0 bytes > capacity 32";
    assert_eq!(error, expected);
    assert_eq!(device.copies_total() - device.copies_checked(), 3, "none of them was let through");
}

#[test]
fn a_matrix_of_fewer_rows_is_refused_with_both_numbers() {
    let device = device(HostBuild::Baseline);
    let kernels = Kernels::load(&device, Activations::I24, KvType::F32).unwrap();
    // A grouped K weight, launched with the rows of the queries: 64 of them, where it has 16.
    let weights = device.allocate::<f32>("blk.0.attn_k.weight", 16 * 32).unwrap();
    let x = device.upload("attn_norm", &[1.0_f32; 32]).unwrap();
    let out = device.allocate::<f32>("k", 64).unwrap();
    device.set_moment(Some(Moment { step: 0, phase: PassPhase::Prefill, layer: Some(0) }));
    let input = crate::kernels::ProductFloat {
        weights: weights.all(),
        kind: TensorType::F32,
        x: x.all(),
        outputs: 64,
        width: 32,
        rows: 1,
    };
    let error = kernels.product_float(input, out.all()).unwrap_err().to_string();
    let expected = "launch of product_f32 (step 0, prefill, layer 0) refused: weights needs 8192 \
                    elements, blk.0.attn_k.weight has 2048";
    assert_eq!(error, expected);
}
