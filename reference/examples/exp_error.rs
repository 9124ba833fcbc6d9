//! Prints the largest error of exp32 over every f32, in units of 2^-24 relative to the result.
//!
//! `cargo run --release -p reference --example exp_error`
//!
//! Exit code 1 when it is more than the bounds allow.

use std::io::{self, Write};
use std::process::ExitCode;

use rayon::prelude::*;
use reference::bounds;
use reference::exact::{Level, ops};

fn main() -> io::Result<ExitCode> {
    let level = Level::best(true);
    let piece = 1_u32 << 16;
    let worst = |(first, sign): (u32, u32)| {
        let x = (first..first + piece).map(|bits| f32::from_bits(bits | sign << 31));
        let x: Vec<f32> = x.filter(|x| (-87.0..=88.722_83).contains(x)).collect();
        let errors = x.iter().zip(ops::exp32(level, &x)).map(|(x, y)| {
            let truth = f64::from(*x).exp();
            ((f64::from(y) / truth - 1.0).abs() * 16_777_216.0, *x)
        });
        errors.fold((0.0, 0.0), |one, two| if one.0 >= two.0 { one } else { two })
    };
    // Up to 2^7: larger arguments have no finite exponential.
    let pieces =
        (0..0x4300_0000 / piece).flat_map(|index| [(index * piece, 0), (index * piece, 1)]);
    let pieces: Vec<(u32, u32)> = pieces.collect();
    let (error, x) = pieces
        .into_par_iter()
        .map(worst)
        .reduce(|| (0.0, 0.0), |one, two| if one.0 >= two.0 { one } else { two });
    writeln!(io::stdout(), "exp32: at most {error:.4} of 2^-24, at {x:e}")?;
    let within = error <= bounds::EXP_UNITS;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
