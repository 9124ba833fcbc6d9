//! What memory alone explains: races, poison, zeros, one flipped bit, values that are no numbers.

use super::operation::{Source, level, source, tokens};
use super::{Answer, Evidence, Explanation, Label, No, clamped, held, rounding};
use reference::exact::ops;

/// The bits of a fresh buffer, which is filled with 0xff, as f32 and as f16 widened.
const POISON_BITS: [u32; 2] = [u32::MAX, 0xffff_e000];

/// The engine gave several answers to one question.
pub(super) fn race(evidence: &Evidence<'_>) -> Answer {
    let repeats = evidence.repeats.ok_or_else(|| No::Lacks("repeats on the engine".into()))?;
    if repeats.answers < 2 {
        return Err(No::Refuted);
    }
    let text = format!(
        "the same inputs gave {} answers in {} runs; {} elements are not the same in all",
        repeats.answers, repeats.runs, repeats.elements_differing
    );
    Ok(Explanation::new(Label::Race, text)
        .with("runs", repeats.runs)
        .with("answers", repeats.answers))
}

/// One bit of one element, further away than a rounding.
pub(super) fn bit_flip(evidence: &Evidence<'_>) -> Answer {
    let mut differing = evidence.differing();
    let (Some(index), None) = (differing.next(), differing.next()) else {
        return Err(No::Refuted);
    };
    let (one, two) = (evidence.expected[index].to_bits(), evidence.actual[index].to_bits());
    // The last bits of a value are what another rounding changes as well, and that is likelier.
    if (one ^ two).count_ones() != 1 || rounding::within_bound(evidence).is_ok() {
        return Err(No::Refuted);
    }
    let bit = (one ^ two).trailing_zeros();
    let (row, column) = (index / evidence.width, index % evidence.width);
    let text = format!(
        "bit {bit} of element {column} of row {row} is flipped (0x{one:08x}, got 0x{two:08x}); \
         the other {} elements are equal",
        evidence.actual.len() - 1
    );
    Ok(Explanation::new(Label::BitFlip, text)
        .with("row", row)
        .with("index", column)
        .with("bit", bit))
}

/// Where elements stand: "rows 3 to 4, 128 of 256 elements, first [3][0]".
fn extent(evidence: &Evidence<'_>, indices: &[usize]) -> String {
    let (first, last) = (indices[0], indices[indices.len() - 1]);
    let width = evidence.width;
    format!(
        "{} of {} elements, from [{}][{}] to [{}][{}]",
        indices.len(),
        evidence.actual.len(),
        first / width,
        first % width,
        last / width,
        last % width
    )
}

/// Poison or zeros stand wherever the sides differ.
pub(super) fn not_written(evidence: &Evidence<'_>) -> Answer {
    let indices: Vec<usize> = evidence.differing().collect();
    let values = || indices.iter().map(|index| evidence.actual[*index]);
    let first = *indices.first().ok_or(No::Refuted)?;
    let poison = values().all(|value| POISON_BITS.contains(&value.to_bits()));
    // One zero in a row may have many causes, and zeros for denormals or below a limit have theirs.
    let zeros = indices.len() > 1
        && values().all(|value| value.to_bits() == 0)
        && rounding::denormals(evidence).is_err()
        && clamped::clamped(evidence).is_err();
    if !poison && !zeros {
        return Err(No::Refuted);
    }
    let what = if poison { "the poison of a fresh buffer (0xff)" } else { "zeros" };
    let mut text = format!("{what} in {}; the others are equal", extent(evidence, &indices));
    // A launch that never came leaves poison behind however its inputs are prepared.
    let label = match evidence.alone_reproduces {
        Some(false) if poison => {
            text.push_str("; the operation alone writes them: it read what nobody wrote");
            Label::Uninitialised
        }
        _ => Label::NotWritten,
    };
    Ok(Explanation::new(label, text)
        .with("filled_with", if poison { "poison" } else { "zeros" })
        .with("row", first / evidence.width)
        .with("index", first % evidence.width)
        .with("elements", indices.len()))
}

/// NaN that the operation does not give on the right inputs: it read what nobody wrote. On some
/// devices the poison's own bits do not survive arithmetic.
pub(super) fn uninitialised(evidence: &Evidence<'_>) -> Answer {
    let lacks = || No::Lacks("the operation alone on the engine".into());
    let indices: Vec<usize> = evidence.differing().collect();
    let first = *indices.first().ok_or(No::Refuted)?;
    if indices.iter().any(|index| !evidence.actual[*index].is_nan()) {
        return Err(No::Refuted);
    }
    if evidence.alone_reproduces.ok_or_else(lacks)? {
        return Err(No::Refuted);
    }
    let text = format!(
        "NaN in {}, which the operation alone does not give on the reference's inputs; the others \
         are equal",
        extent(evidence, &indices)
    );
    Ok(Explanation::new(Label::Uninitialised, text)
        .with("row", first / evidence.width)
        .with("index", first % evidence.width)
        .with("elements", indices.len()))
}

/// Everything that differs is no finite number. The last resort: it says what, not why.
pub(super) fn non_finite(evidence: &Evidence<'_>) -> Answer {
    let indices: Vec<usize> = evidence.differing().collect();
    let first = *indices.first().ok_or(No::Refuted)?;
    if indices.iter().any(|index| evidence.actual[*index].is_finite()) {
        return Err(No::Refuted);
    }
    let nan = indices.iter().filter(|index| evidence.actual[**index].is_nan()).count();
    let text = format!(
        "{nan} NaN and {} infinities in {}; the others are equal",
        indices.len() - nan,
        extent(evidence, &indices)
    );
    Ok(Explanation::new(Label::NonFinite, text)
        .with("row", first / evidence.width)
        .with("index", first % evidence.width)
        .with("nan", nan)
        .with("infinite", indices.len() - nan))
}

/// The device holds other bytes than the file, and they give the engine's rows.
pub(super) fn device_weight(evidence: &Evidence<'_>) -> Answer {
    let name = match source(evidence)? {
        Source::Embed => "token_embd.weight".to_owned(),
        Source::Norm { weight, .. } | Source::Product { weight, .. } => weight,
        _ => return Err(No::Idle),
    };
    let lacks = || No::Lacks(format!("tensor `{name}` as the device holds it"));
    let held = evidence.library.device_weight(&name).ok_or_else(lacks)?;
    let file = evidence.weight(&name)?;
    if held.kind != file.kind || held.bytes.len() != file.bytes.len() {
        return Err(No::Refuted);
    }
    let pairs = || held.bytes.iter().zip(&*file.bytes).enumerate();
    let differing: Vec<usize> =
        pairs().filter(|(_, (one, two))| one != two).map(|(at, _)| at).collect();
    let first = *differing.first().ok_or(No::Refuted)?;
    let candidate = match source(evidence)? {
        Source::Norm { stream, .. } => {
            let weight = ops::embed(held.matrix(), &[0]);
            ops::rms_norm(level(), &evidence.input(&stream)?, &weight, evidence.config.eps)
        }
        Source::Product { input, .. } => {
            let x = evidence.input(&input)?;
            ops::product(level(), evidence.activations, held.matrix(), &x)
        }
        _ => ops::embed(held.matrix(), &tokens(evidence)?),
    };
    if !evidence.equals(&candidate) {
        return Err(No::Refuted);
    }
    let bits: u32 = pairs().map(|(_, (one, two))| (one ^ two).count_ones()).sum();
    // Bytes with an order were loaded wrongly; the others were damaged.
    let (label, words, sources): (_, _, &[_]) = match held::how(&held, &file) {
        Some((label, words)) => (
            label,
            format!("; {words}"),
            &["engine/src/llama/weights.rs", "engine/src/device/buffer.rs"],
        ),
        None => (Label::MemoryCorruption, String::new(), &[]),
    };
    let text = format!(
        "the device holds {} other bytes of `{name}`, {bits} bits, first at byte {first} \
         (file 0x{:02x}, device 0x{:02x}){words}; with them the reference gives {}",
        differing.len(),
        file.bytes[first],
        held.bytes[first],
        evidence.all()
    );
    Ok(Explanation::new(label, text)
        .with("tensor", &name)
        .with("byte", first)
        .with("weight_row", first / file.row_bytes())
        .with("bits", bits)
        .looking_at(sources))
}
