//! Another rounding: a narrower type, truncation, or no more than the derived bounds allow.

use half::f16;
use reference::KvType;
use reference::bounds;

use super::attention::Inputs;
use super::narrow::NARROWINGS;
use super::operation::{Named, Source, source, tokens};
use super::{Answer, Certainty, Evidence, Explanation, Label, No};

/// Multiplications that a bound of all elements may cost.
const WORK_MAX: usize = 1 << 29;

/// Every value narrowed or cut.
pub(super) fn narrowed(evidence: &Evidence<'_>) -> Answer {
    for (what, function) in NARROWINGS {
        let rounded: Vec<f32> = evidence.expected.iter().map(|value| function(*value)).collect();
        if let Some(extent) = evidence.extent(&rounded) {
            let text = format!("got equals expected rounded to {what}, exactly, {extent}");
            return Ok(Explanation::new(Label::Rounding, text).with("to", what));
        }
    }
    Err(No::Refuted)
}

/// Zeros in the place of denormals, of all of them and of nothing else.
pub(super) fn denormals(evidence: &Evidence<'_>) -> Answer {
    let is_half = matches!(&*evidence.tap, "keys" | "values") && evidence.kv == KvType::F16;
    let (what, normal) =
        if is_half { ("f16", f16::MIN_POSITIVE.to_f32()) } else { ("f32", f32::MIN_POSITIVE) };
    let is_denormal = |value: f32| value != 0.0 && value.abs() < normal;
    let differing: Vec<usize> = evidence.differing().collect();
    let lost = |at: &usize| is_denormal(evidence.expected[*at]) && evidence.actual[*at] == 0.0;
    let kept = evidence.pairs().any(|(one, two)| is_denormal(one) && two != 0.0);
    if differing.is_empty() || kept || !differing.iter().all(lost) {
        return Err(No::Refuted);
    }
    let text = format!(
        "all {} denormals of {what} are zeros; the others are equal, exactly, {}",
        differing.len(),
        evidence.all()
    );
    Ok(Explanation::new(Label::Rounding, text).with("to", format!("no denormals of {what}")))
}

/// The bound of each element's distance from f64, by its index in the tensor.
type Bound<'a> = Box<dyn Fn(usize) -> f64 + 'a>;

/// The bounds of one row after the other, kept while the row stays the same.
fn by_row<'a>(width: usize, row: impl Fn(usize) -> Vec<f64> + 'a) -> Bound<'a> {
    let kept = std::cell::RefCell::new((usize::MAX, Vec::new()));
    Box::new(move |index| {
        let mut kept = kept.borrow_mut();
        if kept.0 != index / width {
            *kept = (index / width, row(index / width));
        }
        kept.1[index % width]
    })
}

fn bound<'a>(evidence: &'a Evidence<'a>) -> Result<(Bound<'a>, usize), No> {
    let width = evidence.width;
    Ok(match source(evidence)? {
        Source::Embed => {
            tokens(evidence)?;
            (Box::new(|index| bounds::embed(f64::from(evidence.expected[index]))), 1)
        }
        Source::Norm { stream, weight } => {
            let (x, weight) = (evidence.input_like(&stream)?, evidence.vector(&weight)?);
            let eps = evidence.config.eps;
            let row = move |row: usize| bounds::rms_norm(&x[row * width..][..width], &weight, eps);
            (by_row(width, row), 1)
        }
        Source::Product { input, weight } => {
            let (x, weight) = super::product::operands(evidence, &input, &weight)?;
            let columns = weight.columns;
            let element = move |index: usize| {
                let x = &x[index / width * columns..][..columns];
                bounds::product(weight.kind, evidence.activations, weight.row(index % width), x)
            };
            (Box::new(element), columns)
        }
        Source::Rope { input } => {
            let x = evidence.input_like(&input)?;
            let factors = evidence.rope_factors()?;
            let frequencies = evidence.rope(factors.as_deref()).frequencies();
            let size = evidence.config.head_size;
            let first = evidence.first_position;
            let row = move |row: usize| {
                bounds::rope(&x[row * width..][..width], size, &frequencies, first + row)
            };
            (by_row(width, row), 1)
        }
        Source::Attention { .. } => attention_bound(evidence)?,
        Source::Swiglu { layer } => {
            let named = |tap| Named { tap, layer: Some(layer) };
            let gate = evidence.input_like(&named("gate"))?;
            let up = evidence.input_like(&named("up"))?;
            let element =
                move |index: usize| bounds::swiglu(f64::from(gate[index]), f64::from(up[index]));
            (Box::new(element), 1)
        }
        Source::Residual { stream, branch } => {
            let x = evidence.input_like(&stream)?;
            let o = evidence.input_like(&branch)?;
            let element = move |index: usize| bounds::add(f64::from(x[index]), f64::from(o[index]));
            (Box::new(element), 1)
        }
    })
}

fn attention_bound<'a>(evidence: &'a Evidence<'a>) -> Result<(Bound<'a>, usize), No> {
    let inputs = Inputs::of(evidence)?;
    let (heads, kv_heads, size) =
        (evidence.config.heads, evidence.config.kv_heads, evidence.config.head_size);
    let stored = |rows: &[f32]| -> Vec<f32> {
        let keep = |value: &f32| match evidence.kv {
            KvType::F32 => *value,
            KvType::F16 => f16::from_f32(*value).to_f32(),
        };
        rows.iter().map(keep).collect()
    };
    let (queries, keys, values) = (inputs.queries, stored(&inputs.keys), stored(&inputs.values));
    let head = move |index: usize| {
        let (row, head) = (index / heads, index % heads);
        let part = |rows: &[f32]| -> Vec<f32> {
            let of = |rows: &[f32]| rows[head / (heads / kv_heads) * size..][..size].to_vec();
            let seen = evidence.first_position + row + 1;
            rows.chunks_exact(kv_heads * size).take(seen).flat_map(of).collect()
        };
        bounds::attention(&queries[index * size..][..size], &part(&keys), &part(&values))
    };
    Ok((by_row(size, head), 2 * evidence.positions().end))
}

/// The bit that differs, where it is one of one element.
fn one_bit(evidence: &Evidence<'_>, differing: &[usize]) -> Option<u32> {
    let [index] = differing else { return None };
    let bits = evidence.expected[*index].to_bits() ^ evidence.actual[*index].to_bits();
    (bits.count_ones() == 1).then(|| bits.trailing_zeros())
}

/// Everything as near as two right computations may be: another order of a sum, a fused step.
pub(super) fn within_bound(evidence: &Evidence<'_>) -> Answer {
    let (bound, work) = bound(evidence)?;
    let differing: Vec<usize> = evidence.differing().collect();
    if differing.len().saturating_mul(work) > WORK_MAX {
        let count = differing.len();
        return Err(No::Lacks(format!("time to bound {count} elements of {work} terms each")));
    }
    let (mut largest, mut sharp) = (0.0_f64, 0);
    for index in &differing {
        let (one, two) = (f64::from(evidence.expected[*index]), f64::from(evidence.actual[*index]));
        // Both are within one bound of the truth, so within two of each other.
        let limit = 2.0 * bound(*index);
        let distance = (one - two).abs();
        // Written so that NaN fails it.
        let is_near = distance <= limit;
        if !is_near {
            return Err(No::Refuted);
        }
        largest = largest.max(distance / limit);
        sharp += usize::from(16.0 * limit <= one.abs());
    }
    // A bound as wide as the values explains anything.
    if sharp * 2 < differing.len() {
        return Err(No::Refuted);
    }
    let text = format!(
        "all {} elements that differ are as near as two right computations may be: at most \
         {largest:.3} of twice the bound of CONTRACT.md, section 15{}",
        differing.len(),
        one_bit(evidence, &differing).map_or_else(String::new, |bit| format!(
            "; if bit {bit} was flipped instead, nothing tells it from that"
        ))
    );
    Ok(Explanation::new(Label::Rounding, text)
        .with("share_of_bound", format!("{largest:.3}"))
        .certain(Certainty::WithinBound))
}
