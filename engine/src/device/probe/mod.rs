//! The environment probe: scalar operations whose bits say whether a device keeps the contract.
//!
//! Invariant: `Device::open` hands out no device that was not probed. On the host it costs 23 to
//! 25 µs in every build of the kernels, the first time up to 125 µs (one core of an EPYC).

mod case;
mod conversions;
mod demand;
mod exponential;
mod operation;
#[cfg(test)]
mod planted;
mod rounding;
mod special;
#[cfg(test)]
mod tests;

pub use case::Finding;

use super::{Access, Device, DeviceError, Grid, Span};
use bytemuck::{Pod, Zeroable};
use case::{Case, Group};
use demand::Demand;
use operation::Operation;

/// Lanes of a row; `ROW_LANES` in probe.hip. As many as the widest vector of bytes has.
const ROW_LANES: usize = 32;

/// What a lane holds before the launch: no NaN, which is an answer, and none that is due.
const UNWRITTEN: u32 = 0x5eed_5eed;

/// `ProbeArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    operations: Span,
    first: Span,
    second: Span,
    third: Span,
    out: Span,
    lanes: u32,
    unused: u32,
}

/// The order in which a device is judged: what later cases rely on comes first.
static GROUPS: [Group; 24] = [
    Group { demand: Demand::Integers, cases: &conversions::INTEGERS },
    Group { demand: Demand::DenormalInputs, cases: &special::DENORMAL_INPUTS },
    Group { demand: Demand::DenormalResults, cases: &special::DENORMAL_RESULTS },
    Group { demand: Demand::NearestEven, cases: &rounding::NEAREST_EVEN },
    Group { demand: Demand::NearestEven, cases: &rounding::ASSORTED_SUMS },
    Group { demand: Demand::NearestEven, cases: &rounding::ASSORTED_PRODUCTS },
    Group { demand: Demand::Division, cases: &rounding::DIVISION },
    Group { demand: Demand::Division, cases: &rounding::ASSORTED_QUOTIENTS },
    Group { demand: Demand::SquareRoot, cases: &rounding::SQUARE_ROOT },
    Group { demand: Demand::SquareRoot, cases: &rounding::ASSORTED_ROOTS },
    Group { demand: Demand::SquareRoot, cases: &rounding::ASSORTED_RECIPROCAL_ROOTS },
    Group { demand: Demand::Fma, cases: &rounding::FMA },
    Group { demand: Demand::NoContraction, cases: &rounding::NO_CONTRACTION },
    Group { demand: Demand::NoContraction, cases: &rounding::ASSORTED_CONTRACTIONS },
    Group { demand: Demand::NoReassociation, cases: &rounding::NO_REASSOCIATION },
    Group { demand: Demand::Rint, cases: &conversions::RINT },
    Group { demand: Demand::FromInteger, cases: &conversions::FROM_INTEGER },
    Group { demand: Demand::NarrowHalf, cases: &conversions::NARROW_HALF },
    Group { demand: Demand::WidenHalf, cases: &conversions::WIDEN_HALF },
    Group { demand: Demand::WidenBfloat, cases: &conversions::WIDEN_BFLOAT },
    Group { demand: Demand::Nan, cases: &special::NOT_A_NUMBER },
    Group { demand: Demand::Infinity, cases: &special::INFINITE },
    Group { demand: Demand::SignedZero, cases: &special::SIGNED_ZERO },
    Group { demand: Demand::Exponential, cases: &exponential::EXPONENTIAL },
];

/// All cases with their demands, in the order of judgement.
fn cases() -> impl Iterator<Item = (Demand, &'static Case)> {
    GROUPS.iter().flat_map(|group| group.cases.iter().map(|case| (group.demand, case)))
}

/// Which case every lane has: rows of one operation, filled up by taking its cases again.
struct Plan {
    cases: Vec<(Demand, &'static Case)>,
    /// The operation of each row.
    operations: Vec<u32>,
    /// The index of the case of each lane.
    lanes: Vec<usize>,
}

impl Plan {
    fn new() -> Self {
        let cases: Vec<_> = cases().collect();
        let mut plan = Self { cases, operations: Vec::new(), lanes: Vec::new() };
        for operation in Operation::ALL {
            let indices: Vec<usize> = (0..plan.cases.len())
                .filter(|index| plan.cases[*index].1.operation == *operation)
                .collect();
            for row in indices.chunks(ROW_LANES) {
                plan.operations.push(*operation as u32);
                plan.lanes.extend(row.iter().cycle().take(ROW_LANES));
            }
        }
        plan
    }

    /// One of the three inputs of every lane.
    fn inputs(&self, which: usize) -> Vec<u32> {
        self.lanes.iter().map(|index| self.cases[*index].1.inputs[which]).collect()
    }

    /// Every case that some lane answered wrongly, in the order of judgement.
    fn findings(&self, answers: &[Vec<u32>]) -> Vec<Finding> {
        let mut wrong: Vec<Option<u32>> = vec![None; self.cases.len()];
        for answers in answers {
            assert_eq!(answers.len(), self.lanes.len(), "one answer a lane");
            for (index, actual) in self.lanes.iter().zip(answers) {
                if !self.cases[*index].1.accepts(*actual) {
                    wrong[*index].get_or_insert(*actual);
                }
            }
        }
        let wrong = self.cases.iter().zip(wrong).filter_map(|(case, actual)| Some((case, actual?)));
        wrong
            .map(|(&(demand, case), actual)| Finding {
                demand,
                operation: case.operation,
                inputs: case.inputs,
                expected: case.expected,
                actual,
            })
            .collect()
    }
}

/// Runs every case on a device and refuses it by its first wrong answer; returns their number.
///
/// # Errors
/// [`DeviceError::Refused`], or whatever kept the probe from running.
pub(super) fn probe(device: &Device) -> Result<u64, DeviceError> {
    let plan = Plan::new();
    let answers = run(device, &plan)?;
    match plan.findings(&answers).into_iter().next() {
        None => Ok(plan.cases.len() as u64),
        Some(finding) => {
            let description = device.describe();
            let device = format!("{} ({})", description.device, description.name);
            Err(DeviceError::Refused { device, finding: Box::new(finding) })
        }
    }
}

/// The answer of every lane, once in whole rows and once lane by lane: a compiler's vectors may
/// break the contract where its scalars keep it.
fn run(device: &Device, plan: &Plan) -> Result<Vec<Vec<u32>>, DeviceError> {
    let kernel = device.kernel::<Arguments>("probe")?;
    let operations = device.upload("probe operations", &plan.operations)?;
    let first = device.upload("probe first inputs", &plan.inputs(0))?;
    let second = device.upload("probe second inputs", &plan.inputs(1))?;
    let third = device.upload("probe third inputs", &plan.inputs(2))?;
    let lane_count = plan.lanes.len();
    let mut answers = Vec::new();
    for lanes in [ROW_LANES, 1] {
        let out = device.upload("probe answers", &vec![UNWRITTEN; lane_count])?;
        let count = lane_count as u64;
        let accesses = [
            Access::read("operations", operations.all::<u32>(), plan.operations.len() as u64),
            Access::read("first", first.all::<u32>(), count),
            Access::read("second", second.all::<u32>(), count),
            Access::read("third", third.all::<u32>(), count),
            Access::write("out", out.all::<u32>(), count),
        ];
        let spans = [0, 1, 2, 3, 4].map(|index: usize| accesses[index].span());
        let [operations, first, second, third, out_span] = spans;
        let arguments = Arguments {
            operations,
            first,
            second,
            third,
            out: out_span,
            lanes: lanes as u32,
            unused: 0,
        };
        let grid = Grid { x: (lane_count / lanes) as u32, y: 1 };
        device.launch(&kernel, grid, &accesses, &arguments)?;
        let mut words = vec![0; lane_count];
        out.all().read(&mut words)?;
        answers.push(words);
    }
    Ok(answers)
}
