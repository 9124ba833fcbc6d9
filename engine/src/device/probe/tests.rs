//! The probe refuses builds that break the contract, and every single bit that is not due.

use super::operation::Answer;
use super::*;
use crate::device::host::{HostBackend, usable};
use crate::device::shared::Shared;
use crate::options::{DeviceChoice, HostBuild, Unfit};
use std::collections::BTreeSet;
use std::sync::Arc;

const KERNEL: &str = include_str!("../../../kernels/probe.hip");

/// A device as it is before the probe, which `Device::open` gives to nobody.
fn unprobed(build: HostBuild) -> Device {
    let backend = Arc::new(HostBackend::new(Some(build), 1).unwrap());
    Device { shared: Arc::new(Shared::new(backend)), operations_probed: 0 }
}

/// What is due in every lane.
pub(super) fn due(plan: &Plan) -> Vec<u32> {
    plan.lanes.iter().map(|index| plan.cases[*index].1.expected).collect()
}

/// Everything that a build answers wrongly.
fn findings(build: HostBuild) -> Vec<Finding> {
    let plan = Plan::new();
    plan.findings(&run(&unprobed(build), &plan).unwrap())
}

#[test]
fn every_build_of_the_engine_passes() {
    let builds = Device::usable_host_builds();
    assert!(builds.contains(&HostBuild::Baseline));
    for build in builds {
        let wrong = findings(build);
        assert!(wrong.is_empty(), "{}: {}", build.name(), wrong[0]);
        let device = Device::open(DeviceChoice::Host, Some(build), 1).unwrap();
        assert_eq!(device.operations_probed(), cases().count() as u64);
        assert!(device.operations_probed() >= 300);
        assert_eq!((device.copies_checked(), device.copies_total()), (0, 0));
    }
}

/// The demands that a build does not meet are these at least. A compiler may break more: g++ 12
/// with -ffast-math also divides and takes roots by approximate reciprocals.
fn must_break(unfit: Unfit) -> &'static [Demand] {
    match unfit {
        Unfit::FastMath => {
            &[Demand::NoContraction, Demand::NoReassociation, Demand::Nan, Demand::SignedZero]
        }
        Unfit::Contracted => &[Demand::NoContraction],
        Unfit::FlushedInputs => &[Demand::DenormalInputs, Demand::WidenHalf],
        Unfit::FlushedResults => {
            &[Demand::DenormalResults, Demand::NearestEven, Demand::Exponential]
        }
        Unfit::RoundedDown | Unfit::RoundedUp | Unfit::RoundedToZero => &[
            Demand::NearestEven,
            Demand::Division,
            Demand::SquareRoot,
            Demand::Fma,
            Demand::Rint,
            Demand::FromInteger,
            Demand::NarrowHalf,
            Demand::Infinity,
            Demand::Exponential,
        ],
    }
}

#[test]
fn every_unfit_build_is_refused_by_name() {
    for &unfit in Unfit::ALL {
        let build = HostBuild::Unfit(unfit);
        if !usable(build) {
            eprintln!("SKIPPED {}: this CPU cannot run it", build.name());
            continue;
        }
        let wrong = findings(build);
        let broken: BTreeSet<Demand> = wrong.iter().map(|finding| finding.demand).collect();
        eprintln!("{}: {} of {} wrong, {broken:?}", build.name(), wrong.len(), cases().count());
        for demand in must_break(unfit) {
            assert!(broken.contains(demand), "{}: {demand:?} is not in {broken:?}", build.name());
        }
        // A mode of the CPU is found as what it is, not as what follows from it.
        if !matches!(unfit, Unfit::FastMath) {
            assert_eq!(wrong[0].demand, must_break(unfit)[0], "{}: {}", build.name(), wrong[0]);
        }
        let error = Device::open(DeviceChoice::Host, Some(build), 1).unwrap_err();
        let DeviceError::Refused { device, finding } = &error else { panic!("{error}") };
        assert_eq!(*device, format!("host ({} {})", std::env::consts::ARCH, build.name()));
        assert_eq!(**finding, wrong[0]);
        eprintln!("{error}");
    }
}

#[test]
fn unfit_builds_are_offered_to_nobody() {
    assert!(!HostBuild::ALL.iter().any(|build| matches!(build, HostBuild::Unfit(_))));
    let error = unprobed(HostBuild::Unfit(Unfit::FastMath)).kernel::<[u64; 8]>("rms_norm");
    assert!(error.unwrap_err().to_string().contains("no kernel of that name"));
}

#[test]
fn a_refusal_names_operation_inputs_and_bits() {
    let plan = Plan::new();
    let mut answers = due(&plan);
    let third = |(_, case): &(Demand, &Case)| {
        case.operation == Operation::Divide && case.inputs[0] == 1.0_f32.to_bits()
    };
    let index = plan.cases.iter().position(third).unwrap();
    let lane = plan.lanes.iter().position(|case| *case == index).unwrap();
    answers[lane] -= 1;
    let findings = plan.findings(&[answers]);
    let error = DeviceError::Refused {
        device: "host (x86_64 fast-math)".to_owned(),
        finding: Box::new(findings[0].clone()),
    };
    assert_eq!(
        error.to_string(),
        "device host (x86_64 fast-math) is refused: its division is not correctly rounded: \
         1.0 / 3.0 gave 0x3eaaaaaa, 0x3eaaaaab is due"
    );
    let words = |operation: Operation, inputs| operation.with_inputs(inputs);
    let [one, two, third] = [1.0_f32, -2.5, f32::NAN].map(f32::to_bits);
    assert_eq!(words(Operation::Fma, [one, two, third]), "fma(1.0, -2.5, NaN)");
    assert_eq!(words(Operation::Exponential, [two, 0, 0]), "exp32(-2.5)");
    assert_eq!(words(Operation::ShiftRight, [u32::MAX, 3, 0]), "-1 >> 3");
    assert_eq!(words(Operation::SignExtend, [0x80, 0, 0]), "sext8(0x80 & 255)");
    assert_eq!(words(Operation::WidenHalf, [0x3c00, 0, 0]), "f32(f16 0x3c00)");
    assert_eq!(words(Operation::SumMinusFirst, [one, two, 0]), "(1.0 + -2.5) - 1.0");
}

#[test]
fn one_wrong_bit_in_one_lane_is_found() {
    let plan = Plan::new();
    for (lane, index) in plan.lanes.iter().enumerate() {
        let (demand, case) = plan.cases[*index];
        // In the rows and in the single lanes, in a high and in a low bit by turns.
        let mut answers = [due(&plan), due(&plan)];
        answers[lane % 2][lane] ^= 1 << (lane % 32);
        let found = plan.findings(&answers);
        let actual = answers[lane % 2][lane];
        let is_nan = |word| f32::from_bits(word).is_nan();
        match case.operation.answer() {
            Answer::Float if is_nan(actual) && is_nan(case.expected) => assert!(found.is_empty()),
            Answer::Half if case.expected == 0x7e00 && actual & 0x7fff > 0x7c00 => {}
            _ => {
                assert_eq!(found.len(), 1, "lane {lane}: {case:?}");
                assert_eq!((found[0].demand, found[0].actual), (demand, actual));
            }
        }
    }
}

#[test]
fn lanes_that_nobody_wrote_are_found() {
    let plan = Plan::new();
    let unwritten = vec![UNWRITTEN; plan.lanes.len()];
    assert_eq!(plan.findings(&[due(&plan), unwritten]).len(), plan.cases.len());
    assert!(plan.findings(&[due(&plan), due(&plan)]).is_empty());
}

#[test]
fn nan_is_nan_and_nothing_else() {
    let nan = Case::float(Operation::Add, [f32::NAN, 1.0, 0.0], f32::NAN);
    for (actual, accepted) in [
        (0x7fc0_0000, true),
        (0xffc0_0000, true),
        (0x7f80_0001, true),
        (0x7f80_0000, false),
        (0, false),
    ] {
        assert_eq!(nan.accepts(actual), accepted, "{actual:#x}");
    }
    let half = Case::word(Operation::NarrowHalf, 0x7fc0_0000, 0x7e00);
    for (actual, accepted) in [
        (0x7e00, true),
        (0xfe01, true),
        (0x7c01, true),
        (0x7c00, false),
        (0x0001_7e00, false),
        (0x3c00, false),
    ] {
        assert_eq!(half.accepts(actual), accepted, "{actual:#x}");
    }
    assert!(!Case::word(Operation::SignExtend, 0, 0x7fc0_0000).accepts(0x7fc0_0001));
}

#[test]
fn the_kernel_has_the_operations_under_these_numbers() {
    let lines = KERNEL.lines().filter_map(|line| line.trim().strip_prefix("OPERATION("));
    let kernel: Vec<(String, String)> = lines
        .map(|line| {
            let mut words = line.split(',').map(|word| word.trim().to_owned());
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect();
    let ours: Vec<(String, String)> = Operation::ALL
        .iter()
        .map(|operation| ((*operation as u32).to_string(), operation.name().to_owned()))
        .collect();
    assert_eq!(kernel, ours);
    assert!(KERNEL.contains(&format!("#define ROW_LANES {ROW_LANES}u")));
}

#[test]
fn every_operation_has_cases_and_every_row_one_operation() {
    let plan = Plan::new();
    for operation in Operation::ALL {
        assert!(cases().any(|(_, case)| case.operation == *operation), "{operation:?}");
    }
    assert_eq!(plan.lanes.len(), plan.operations.len() * ROW_LANES);
    for (row, lanes) in plan.lanes.chunks(ROW_LANES).enumerate() {
        for index in lanes {
            assert_eq!(plan.cases[*index].1.operation as u32, plan.operations[row]);
        }
    }
    let used: BTreeSet<usize> = plan.lanes.iter().copied().collect();
    assert_eq!(used.len(), plan.cases.len());
    assert!(GROUPS.is_sorted_by_key(|group| group.demand));
}

/// The bits that are due, by ways other than those that made them.
#[test]
fn what_is_due_is_right() {
    for x in rounding::assorted::<1000>(7).map(f32::abs) {
        assert_eq!(rounding::square_root(x), x.sqrt(), "{x}");
    }
    for (_, case) in cases() {
        let [x, y, z] = case.inputs.map(f32::from_bits);
        assert_ne!(case.expected, UNWRITTEN);
        let expected = f32::from_bits(case.expected);
        match case.operation {
            Operation::SquareRoot => assert!(case.accepts(x.sqrt().to_bits()), "{case:?}"),
            // Both are exact in f64 but for one rounding.
            Operation::Multiply => {
                assert!(case.accepts(((f64::from(x) * f64::from(y)) as f32).to_bits()), "{case:?}");
            }
            Operation::Fma => assert!(case.accepts(x.mul_add(y, z).to_bits()), "{case:?}"),
            Operation::NarrowHalf if !x.is_nan() => {
                assert_eq!(case.expected, u32::from(half::f16::from_f32(x).to_bits()), "{x}");
            }
            Operation::WidenHalf if !expected.is_nan() => {
                assert_eq!(half::f16::from_bits(case.inputs[0] as u16).to_f32(), expected);
            }
            Operation::Exponential if expected.is_normal() => {
                let exact = f64::from(x).exp();
                assert!((f64::from(expected) / exact - 1.0).abs() <= 1.0e-7, "{x} {expected}");
            }
            _ => {}
        }
    }
}
