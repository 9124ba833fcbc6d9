//! The must-fail twin of every demand: faulty arithmetic of the kinds that devices have, planted
//! in the answers, is found under the demand that it breaks.

use super::tests::due;
use super::*;

/// The answer of a faulty device, or `None` where it is the one that is due.
type Fault = fn(Operation, [u32; 3]) -> Option<u32>;

/// The demand that a fault breaks first, and the fault.
const FAULTS: &[(Demand, &str, Fault)] = &[
    (Demand::Integers, "bytes without a sign", unsigned_bytes),
    (Demand::Integers, "one operand's bytes without a sign", half_signed_bytes),
    (Demand::Integers, "pairs that saturate at 16 bits", saturated_pairs),
    (Demand::Integers, "a shift that brings in zeros", logical_shift),
    (Demand::Integers, "no sign extension", zero_extension),
    (Demand::Integers, "digits without a sign", unsigned_digits),
    (Demand::DenormalInputs, "denormal inputs are zero", flushed_inputs),
    (Demand::DenormalResults, "denormal results are zero", flushed_results),
    (Demand::NearestEven, "sums cut off", truncated_sums),
    (Demand::NearestEven, "products cut off", truncated_products),
    (Demand::NearestEven, "ties away from zero", ties_away),
    (Demand::Division, "a product with the reciprocal", division_by_reciprocal),
    (Demand::SquareRoot, "a product with the reciprocal root", root_by_reciprocal),
    (Demand::SquareRoot, "a reciprocal root rounded once", reciprocal_root_at_once),
    (Demand::Fma, "two roundings", fma_as_two),
    (Demand::Fma, "rounded to f64 first", fma_through_f64),
    (Demand::NoContraction, "a product and a sum as fma", contraction),
    (Demand::NoContraction, "a product and a difference as fma", contracted_difference),
    (Demand::NoReassociation, "a sum that cancels early", early_cancellation),
    (Demand::NoReassociation, "a sum by a tree", sum_by_tree),
    (Demand::NoReassociation, "products from the right", products_from_the_right),
    (Demand::NoReassociation, "a common factor taken out", common_factor),
    (Demand::NoReassociation, "a common divisor taken out", common_divisor),
    (Demand::Rint, "halves away from zero", halves_away),
    (Demand::Rint, "cut off", cut_off),
    (Demand::FromInteger, "cut off", integers_cut_off),
    (Demand::NarrowHalf, "cut off", halves_cut_off),
    (Demand::NarrowHalf, "denormals are zero", halves_flushed),
    (Demand::NarrowHalf, "overflow stays finite", halves_saturated),
    (Demand::WidenHalf, "denormals are zero", widened_flushed),
    (Demand::WidenBfloat, "read as f16", bfloat_as_half),
    (Demand::Nan, "comparisons true for NaN", unordered_comparisons),
    (Demand::Nan, "x == x always", always_equal),
    (Demand::Nan, "a select by the opposite", opposite_select),
    (Demand::Infinity, "everything is finite", all_finite),
    (Demand::Infinity, "overflow stays finite", saturated_sums),
    (Demand::SignedZero, "x + 0 is x", sum_with_zero),
    (Demand::SignedZero, "0 - x is -x", difference_from_zero),
    (Demand::SignedZero, "one zero only", one_zero),
    (Demand::Exponential, "f64 rounded", exponential_of_f64),
];

#[test]
fn each_fault_is_found_under_its_demand() {
    let plan = Plan::new();
    for &(demand, name, fault) in FAULTS {
        let answer = |index: &usize| {
            let case = plan.cases[*index].1;
            fault(case.operation, case.inputs).unwrap_or(case.expected)
        };
        let planted: Vec<u32> = plan.lanes.iter().map(answer).collect();
        for answers in [[planted.clone(), due(&plan)], [due(&plan), planted]] {
            let findings = plan.findings(&answers);
            assert!(!findings.is_empty(), "{demand:?}, {name}: not found");
            assert_eq!(findings[0].demand, demand, "{name}: {}", findings[0]);
        }
    }
    for group in &GROUPS {
        assert!(FAULTS.iter().any(|fault| fault.0 == group.demand), "{:?}", group.demand);
    }
}

fn floats(words: [u32; 3]) -> [f32; 3] {
    words.map(f32::from_bits)
}

/// `result` where the operation is the one with the fault.
fn when(holds: bool, result: u32) -> Option<u32> {
    holds.then_some(result)
}

fn is_denormal(x: f32) -> bool {
    x.is_subnormal()
}

/// The operations that IEEE-754 defines, as they are.
fn plain(operation: Operation, [x, y, z]: [f32; 3]) -> Option<f32> {
    Some(match operation {
        Operation::Add => x + y,
        Operation::Subtract => x - y,
        Operation::Multiply => x * y,
        Operation::Divide => x / y,
        Operation::SquareRoot => x.sqrt(),
        Operation::Fma => x.mul_add(y, z),
        _ => return None,
    })
}

/// The sum, the difference or the product before it is rounded; exact for the cases of rounding.
fn exact(operation: Operation, words: [u32; 3]) -> Option<f64> {
    let [x, y, _] = floats(words).map(f64::from);
    match operation {
        Operation::Add => Some(x + y),
        Operation::Subtract => Some(x - y),
        Operation::Multiply => Some(x * y),
        _ => None,
    }
}

/// Towards zero.
fn truncated(exact: f64) -> u32 {
    let nearest = exact as f32;
    let beyond = f64::from(nearest).abs() > exact.abs();
    if beyond && nearest.is_finite() { nearest.to_bits() - 1 } else { nearest.to_bits() }
}

fn unsigned_bytes(operation: Operation, [p, q, k]: [u32; 3]) -> Option<u32> {
    let bytes = p.to_le_bytes().into_iter().zip(q.to_le_bytes());
    let sum: u32 = bytes.map(|(p, q)| u32::from(p) * u32::from(q)).sum();
    when(operation == Operation::DotBytes, sum.wrapping_add(k))
}

fn half_signed_bytes(operation: Operation, [p, q, k]: [u32; 3]) -> Option<u32> {
    let bytes = p.to_le_bytes().into_iter().zip(q.to_le_bytes());
    let sum: i32 = bytes.map(|(p, q)| i32::from(p) * i32::from(q as i8)).sum();
    when(operation == Operation::DotBytes, sum.wrapping_add(k as i32) as u32)
}

fn saturated_pairs(operation: Operation, [p, q, k]: [u32; 3]) -> Option<u32> {
    let halves = |word: u32| [word as i16, (word >> 16) as i16].map(i32::from);
    let sum: i32 = halves(p).iter().zip(halves(q)).map(|(p, q)| p * q).sum();
    let sum = sum.clamp(-32_768, 32_767).wrapping_add(k as i32);
    when(operation == Operation::DotPairs, sum as u32)
}

fn logical_shift(operation: Operation, [i, j, _]: [u32; 3]) -> Option<u32> {
    when(operation == Operation::ShiftRight, i.wrapping_shr(j))
}

fn zero_extension(operation: Operation, [p, _, _]: [u32; 3]) -> Option<u32> {
    when(operation == Operation::SignExtend, p & 255)
}

fn unsigned_digits(operation: Operation, [i, _, _]: [u32; 3]) -> Option<u32> {
    when(operation == Operation::SecondDigit, i >> 8 & 255)
}

fn flushed_inputs(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let flushed = floats(words).map(|x| if is_denormal(x) { 0.0 * x } else { x });
    plain(operation, flushed).map(f32::to_bits)
}

fn flushed_results(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = plain(operation, floats(words))?;
    Some(if is_denormal(result) { 0.0 * result } else { result }.to_bits())
}

fn truncated_sums(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = truncated(exact(operation, words)?);
    when(operation != Operation::Multiply, result)
}

fn truncated_products(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = truncated(exact(operation, words)?);
    when(operation == Operation::Multiply, result)
}

fn ties_away(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let exact = exact(operation, words)?;
    let low = truncated(exact);
    let [below, above] = [low, low + 1].map(|bits| f64::from(f32::from_bits(bits)));
    when(exact.is_finite() && exact - below == above - exact, low + 1)
}

fn division_by_reciprocal(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, _] = floats(words);
    when(operation == Operation::Divide, (x * (1.0 / y)).to_bits())
}

fn root_by_reciprocal(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, _, _] = floats(words);
    let result = (x * (1.0 / x.sqrt())).to_bits();
    when(operation == Operation::SquareRoot && x > 0.0 && x <= f32::MAX, result)
}

fn reciprocal_root_at_once(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = (1.0 / f64::from(f32::from_bits(words[0])).sqrt()) as f32;
    when(operation == Operation::ReciprocalRoot, result.to_bits())
}

fn fma_as_two(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    when(operation == Operation::Fma, (x * y + z).to_bits())
}

fn fma_through_f64(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words).map(f64::from);
    when(operation == Operation::Fma, ((x * y + z) as f32).to_bits())
}

fn contraction(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    when(operation == Operation::ProductPlus, x.mul_add(y, z).to_bits())
}

fn contracted_difference(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    match operation {
        Operation::ProductMinus => Some(x.mul_add(y, -z).to_bits()),
        Operation::MinusProduct => Some((-x).mul_add(y, z).to_bits()),
        _ => None,
    }
}

fn early_cancellation(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::SumMinusFirst, words[1])
}

fn sum_by_tree(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    match operation {
        Operation::SumOfThree => Some((x + (y + z)).to_bits()),
        Operation::SumInOrder => Some((4.0 * x + (4.0 * y + 4.0 * z)).to_bits()),
        _ => None,
    }
}

fn products_from_the_right(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    when(operation == Operation::ProductOfThree, (x * (y * z)).to_bits())
}

fn common_factor(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    when(operation == Operation::CommonFactor, ((x + y) * z).to_bits())
}

fn common_divisor(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, z] = floats(words);
    when(operation == Operation::CommonDivisor, ((x + y) / z).to_bits())
}

fn halves_away(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::Rint, floats(words)[0].round().to_bits())
}

fn cut_off(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::Rint, floats(words)[0].trunc().to_bits())
}

fn integers_cut_off(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = truncated(f64::from(words[0] as i32));
    when(operation == Operation::FromInteger, result)
}

fn halves_cut_off(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let bits = half::f16::from_f32(floats(words)[0]);
    let beyond = bits.to_f32().abs() > floats(words)[0].abs();
    when(operation == Operation::NarrowHalf && beyond, u32::from(bits.to_bits()).wrapping_sub(1))
}

fn halves_flushed(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let small = words[0] & 0x7fff_ffff < 0x3880_0000;
    when(operation == Operation::NarrowHalf && small, words[0] >> 16 & 0x8000)
}

fn halves_saturated(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let large = floats(words)[0].abs() >= 65_520.0;
    when(operation == Operation::NarrowHalf && large, 0x7bff | (words[0] >> 16 & 0x8000))
}

fn widened_flushed(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::WidenHalf && words[0] & 0x7c00 == 0, words[0] << 16 & 1 << 31)
}

fn bfloat_as_half(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = half::f16::from_bits(words[0] as u16).to_f32();
    when(operation == Operation::WidenBfloat, result.to_bits())
}

fn unordered_comparisons(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, _] = floats(words);
    match operation {
        Operation::Greater => Some(u32::from(x.is_nan() || y.is_nan() || x > y)),
        Operation::NotGreater => Some(u32::from(x <= y)),
        _ => None,
    }
}

fn always_equal(operation: Operation, _: [u32; 3]) -> Option<u32> {
    when(operation == Operation::EqualsItself, 1)
}

fn opposite_select(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, _] = floats(words);
    when(operation == Operation::Larger, if x <= y { y } else { x }.to_bits())
}

fn all_finite(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let infinite = floats(words)[0].is_infinite();
    when(operation == Operation::Finite && infinite, 1)
}

fn saturated_sums(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let [x, y, _] = floats(words);
    let overflows = (x + y).is_infinite() && x.is_finite() && y.is_finite();
    when(operation == Operation::Add && overflows, f32::MAX.to_bits())
}

fn sum_with_zero(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::PlusZero, words[0])
}

fn difference_from_zero(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(operation == Operation::ZeroMinus, words[0] ^ 1 << 31)
}

fn one_zero(operation: Operation, words: [u32; 3]) -> Option<u32> {
    when(plain(operation, floats(words))? == 0.0, 0)
}

fn exponential_of_f64(operation: Operation, words: [u32; 3]) -> Option<u32> {
    let result = f64::from(floats(words)[0]).exp() as f32;
    when(operation == Operation::Exponential && !result.is_nan(), result.to_bits())
}
