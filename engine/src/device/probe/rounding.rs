//! Cases of arithmetic that rounds: their bits are computed by the compiler, which is IEEE-754
//! whatever the mode of the CPU that runs the probe.

use super::case::Case;
use super::operation::Operation;
use super::special::DENORMAL;

/// 2^-126, the least normal number.
pub(super) const LEAST_NORMAL: f32 = f32::MIN_POSITIVE;
/// 2^-23: one and this are neighbours.
const ULP: f32 = f32::EPSILON;

pub(super) const fn add(x: f32, y: f32) -> Case {
    Case::float(Operation::Add, [x, y, 0.0], x + y)
}

pub(super) const fn subtract(x: f32, y: f32) -> Case {
    Case::float(Operation::Subtract, [x, y, 0.0], x - y)
}

pub(super) const fn multiply(x: f32, y: f32) -> Case {
    Case::float(Operation::Multiply, [x, y, 0.0], x * y)
}

pub(super) const fn divide(x: f32, y: f32) -> Case {
    Case::float(Operation::Divide, [x, y, 0.0], x / y)
}

const fn reciprocal(x: f32) -> Case {
    Case::float(Operation::Reciprocal, [x, 0.0, 0.0], 1.0 / x)
}

pub(super) const fn fma(x: f32, y: f32, z: f32) -> Case {
    Case::float(Operation::Fma, [x, y, z], x.mul_add(y, z))
}

const fn product_plus(x: f32, y: f32, z: f32) -> Case {
    Case::float(Operation::ProductPlus, [x, y, z], x * y + z)
}

const fn product_minus(x: f32, y: f32, z: f32) -> Case {
    Case::float(Operation::ProductMinus, [x, y, z], x * y - z)
}

const fn minus_product(x: f32, y: f32, z: f32) -> Case {
    Case::float(Operation::MinusProduct, [x, y, z], z - x * y)
}

pub(super) const fn root(x: f32) -> Case {
    Case::float(Operation::SquareRoot, [x, 0.0, 0.0], square_root(x))
}

const fn reciprocal_root(x: f32) -> Case {
    Case::float(Operation::ReciprocalRoot, [x, 0.0, 0.0], 1.0 / square_root(x))
}

/// The correctly rounded root of a positive number, by integers: 33 bits of it, the last of which
/// says whether there is a rest, rounded once when they become an f32.
pub(super) const fn square_root(x: f32) -> f32 {
    let bits = (x as f64).to_bits();
    let mut fraction = (bits & ((1 << 52) - 1)) | 1 << 52;
    let mut exponent = (bits >> 52) as i32 - 1075;
    if exponent % 2 != 0 {
        fraction <<= 1;
        exponent -= 1;
    }
    fraction <<= 10;
    exponent -= 10;
    let whole = fraction.isqrt();
    let rest = (whole * whole != fraction) as u64;
    let scale = f32::from_bits(((exponent / 2 - 1 + 127) as u32) << 23);
    (2 * whole + rest) as f32 * scale
}

/// Numbers of both signs in 2^-8..2^8, every bit of their fractions in use.
pub(super) const fn assorted<const N: usize>(seed: u32) -> [f32; N] {
    let mut numbers = [0.0; N];
    let mut state = seed;
    let mut index = 0;
    while index < N {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let exponent = 119 + (state >> 24) % 16;
        numbers[index] = f32::from_bits((state & 0x807f_ffff) | exponent << 23);
        index += 1;
    }
    numbers
}

/// One case for each pair of neighbours in a list.
macro_rules! pairs {
    ($count:literal, $seed:literal, $case:expr) => {{
        const NUMBERS: [f32; 2 * $count] = assorted($seed);
        let mut cases = [add(0.0, 0.0); $count];
        let mut index = 0;
        while index < $count {
            cases[index] = $case(NUMBERS[2 * index], NUMBERS[2 * index + 1]);
            index += 1;
        }
        cases
    }};
}

/// Ties below and above an even number, sums just beside a tie, of both signs.
pub(super) static NEAREST_EVEN: [Case; 24] = [
    add(1.0, ULP / 2.0),
    add(1.0 + ULP, ULP / 2.0),
    add(-1.0, -ULP / 2.0),
    add(-1.0 - ULP, -ULP / 2.0),
    add(1.0, ULP / 2.0 + ULP * ULP),
    add(1.0, ULP / 4.0),
    add(-1.0, -ULP / 4.0),
    add(16_777_216.0, 1.0),
    add(16_777_218.0, 1.0),
    add(0.1, 0.2),
    add(-0.1, -0.7),
    subtract(1.0, ULP / 4.0),
    subtract(1.0, ULP / 8.0),
    subtract(16_777_216.0, 0.5),
    subtract(0.3, 100.1),
    multiply(1.0 + ULP, 1.5),
    multiply(1.0 + 3.0 * ULP, 1.5),
    multiply(-1.0 - ULP, 1.5),
    multiply(0.1, 0.1),
    multiply(-0.7, 0.3),
    // Results below the normal numbers round at 2^-149: 2.5, 3.5, 0.5 and 1.5 of these.
    multiply(LEAST_NORMAL * 1.25, ULP * 2.0),
    multiply(LEAST_NORMAL * 1.75, ULP * 2.0),
    multiply(LEAST_NORMAL, ULP / 2.0),
    multiply(LEAST_NORMAL, ULP * 1.5),
];

pub(super) static ASSORTED_SUMS: [Case; 8] = pairs!(8, 0x1ead_5eed, add);
pub(super) static ASSORTED_PRODUCTS: [Case; 8] = pairs!(8, 0x2ead_5eed, multiply);

pub(super) static DIVISION: [Case; 21] = [
    divide(1.0, 3.0),
    divide(2.0, 3.0),
    divide(-1.0, 10.0),
    divide(5.0, 7.0),
    divide(1.0, 1.0 - ULP / 2.0),
    divide(1.0 + ULP, 1.0 - ULP / 2.0),
    divide(1.0 - ULP / 2.0, 1.0 + ULP),
    // A reciprocal that overflows, and one that is denormal.
    divide(1.0e-38, 2.0e-39),
    divide(3.0e38, 2.9e38),
    divide(f32::MAX, 3.0),
    divide(DENORMAL, DENORMAL),
    divide(DENORMAL, LEAST_NORMAL),
    divide(LEAST_NORMAL, 8.0),
    divide(-LEAST_NORMAL, 3.0),
    // The two divisions of CONTRACT.md section 5.
    divide(0.731, 8_355_711.0),
    divide(8_355_711.0, 0.731),
    reciprocal(3.0),
    reciprocal(-7.0),
    reciprocal(1.0 + ULP),
    reciprocal(41.0),
    reciprocal(1.0e38),
];

pub(super) static ASSORTED_QUOTIENTS: [Case; 24] = pairs!(24, 0x3ead_5eed, divide);

pub(super) static SQUARE_ROOT: [Case; 14] = [
    root(2.0),
    root(3.0),
    root(0.5),
    root(4.0),
    root(1.0 + ULP),
    root(1.0 - ULP / 2.0),
    root(f32::MAX),
    root(LEAST_NORMAL),
    root(DENORMAL),
    root(f32::from_bits(2)),
    reciprocal_root(2.0),
    reciprocal_root(64.0),
    reciprocal_root(0.001),
    reciprocal_root(1.0e-5),
];

const fn root_of_size(x: f32, _: f32) -> Case {
    root(x.abs())
}

const fn reciprocal_root_of_size(x: f32, _: f32) -> Case {
    reciprocal_root(x.abs())
}

pub(super) static ASSORTED_ROOTS: [Case; 16] = pairs!(16, 0x4ead_5eed, root_of_size);
pub(super) static ASSORTED_RECIPROCAL_ROOTS: [Case; 16] =
    pairs!(16, 0x5ead_5eed, reciprocal_root_of_size);

pub(super) static FMA: [Case; 10] = [
    // What a product rounded by itself leaves of these is 0.
    fma(1.0 + ULP, 1.0 + ULP, -(1.0 + 2.0 * ULP)),
    fma(0.1, 0.1, -(0.1 * 0.1)),
    fma(-0.7, 0.3, 0.7 * 0.3),
    // Exact 1 + ULP + ULP/2 - 2^-70: f64 rounds that up to a tie, and then a second time.
    fma(1.0 + ULP, ULP / 2.0 - ULP * ULP / 2.0, 1.0 + ULP),
    fma(1.0 + ULP, -(ULP / 2.0 - ULP * ULP / 2.0), -(1.0 + ULP)),
    // Products beyond f32 that the sum brings back.
    fma(f32::MAX, 2.0, -f32::MAX),
    fma(1.0e-30, 1.0e-30, 1.0),
    // The digits of CONTRACT.md section 6.
    fma(16_383.0, 65_536.0, 12_345_679.0),
    fma(-131_071.0, 256.0, 77.0),
    fma(0.012_345_6, 7_654_321.0, 0.333_333_3),
];

const fn contractible(x: f32, y: f32) -> Case {
    product_plus(x, y, -(x * y))
}

pub(super) static NO_CONTRACTION: [Case; 7] = [
    product_plus(1.0 + ULP, 1.0 + ULP, -(1.0 + 2.0 * ULP)),
    product_plus(0.1, 0.1, -(0.1 * 0.1)),
    product_minus(0.1, 0.1, 0.1 * 0.1),
    product_minus(1.0 + ULP, 1.0 + ULP, 1.0),
    minus_product(0.1, 0.1, 0.1 * 0.1),
    minus_product(0.7, -0.3, 0.7 * -0.3),
    product_plus(f32::MAX, 2.0, -f32::MAX),
];

pub(super) static ASSORTED_CONTRACTIONS: [Case; 8] = pairs!(8, 0x6ead_5eed, contractible);

const fn three(operation: Operation, x: f32, y: f32, z: f32) -> Case {
    let result = match operation {
        Operation::SumOfThree => (x + y) + z,
        Operation::SumMinusFirst => (x + y) - x,
        Operation::ProductOfThree => (x * y) * z,
        Operation::CommonFactor => x * z + y * z,
        Operation::CommonDivisor => x / z + y / z,
        _ => {
            let mut sum = 0.0;
            let mut turn = 0;
            while turn < 4 {
                sum = ((sum + x) + y) + z;
                turn += 1;
            }
            sum
        }
    };
    Case::float(operation, [x, y, z], result)
}

pub(super) static NO_REASSOCIATION: [Case; 15] = [
    three(Operation::SumOfThree, 1.0e8, -1.0e8, 1.0),
    three(Operation::SumOfThree, 1.0, 1.0e8, -1.0e8),
    three(Operation::SumOfThree, 1.0e8, 1.0, -1.0e8),
    three(Operation::SumMinusFirst, 1.0e8, 1.0, 0.0),
    three(Operation::SumMinusFirst, 3.0, 0.1, 0.0),
    three(Operation::SumInOrder, 1.0e8, 1.0, -1.0e8),
    three(Operation::SumInOrder, 0.1, 0.2, 0.3),
    three(Operation::SumInOrder, 1.0, 1.0e8, 1.0e-8),
    three(Operation::ProductOfThree, 1.0e30, 1.0e30, 1.0e-30),
    three(Operation::ProductOfThree, 1.0e-30, 1.0e-30, 1.0e30),
    three(Operation::ProductOfThree, 0.1, 0.3, 0.7),
    three(Operation::CommonFactor, 1.0e8, -1.0e8, 1.0e38),
    three(Operation::CommonFactor, 0.1, 0.7, 0.3),
    three(Operation::CommonDivisor, 0.1, 0.7, 0.3),
    three(Operation::CommonDivisor, f32::MAX, f32::MAX, 2.0),
];
