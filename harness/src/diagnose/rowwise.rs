//! Residuals, gates and norms: a term missing or doubled, another operand, another epsilon.

use reference::exact::ops;

use super::operation::{Named, Source, level, source};
use super::substitutes::substitutes;
use super::{Answer, Evidence, Explanation, Label, No};

/// Makes the rows of a hypothesis.
type Rows<'f> = &'f dyn Fn() -> Vec<f32>;

/// The sum of stream and branch in every wrong way.
pub(super) fn residual(evidence: &Evidence<'_>) -> Answer {
    let Source::Residual { stream, branch } = source(evidence)? else { return Err(No::Idle) };
    let (x, o) = (evidence.input_like(&stream)?, evidence.input_like(&branch)?);
    let explain = |label, what: String, extent: String| {
        Explanation::new(label, format!("got equals {what} exactly, {extent}"))
    };
    let sum = ops::add(&x, &o);
    let minus: Vec<f32> = o.iter().map(|value| -value).collect();
    let twice = |values: &[f32]| ops::add(values, values);
    let forms: [(Label, Rows<'_>, &Named, &str); 7] = [
        (Label::MissingTerm, &|| x.to_vec(), &branch, "the sum without"),
        (Label::MissingTerm, &|| o.to_vec(), &stream, "the sum without"),
        (Label::DoubleTerm, &|| ops::add(&sum, &o), &branch, "the sum with twice"),
        (Label::DoubleTerm, &|| ops::add(&x, &twice(&o)), &branch, "the sum with twice"),
        (Label::DoubleTerm, &|| ops::add(&sum, &x), &stream, "the sum with twice"),
        (Label::DoubleTerm, &|| ops::add(&twice(&x), &o), &stream, "the sum with twice"),
        (Label::Scaled, &|| ops::add(&x, &minus), &branch, "the sum with minus"),
    ];
    for (label, candidate, operand, words) in forms {
        if let Some(extent) = evidence.extent(&candidate()) {
            return Ok(explain(label, format!("{words} {operand}"), extent).with("term", operand));
        }
    }
    let part = |rows: &[f32], row: usize| -> Vec<f32> {
        rows[row * evidence.width..][..evidence.width].to_vec()
    };
    for (kept, replaced) in [(&x, &branch), (&o, &stream)] {
        for other in substitutes(evidence, replaced) {
            let row = |row: usize| ops::add(&part(kept, row), &part(&other.rows, row));
            if evidence.equals_rows(row) {
                let what = format!("the sum with {} for {replaced}", other.what);
                return Ok(explain(other.label, what, evidence.all())
                    .with("read", other.what)
                    .with("instead_of", replaced));
            }
        }
    }
    Err(No::Refuted)
}

/// The gate of the feed-forward part in every wrong way.
pub(super) fn swiglu(evidence: &Evidence<'_>) -> Answer {
    let Source::Swiglu { layer } = source(evidence)? else { return Err(No::Idle) };
    let named = |tap| Named { tap, layer: Some(layer) };
    let gate = evidence.input_like(&named("gate"))?;
    let up = evidence.input_like(&named("up"))?;
    let level = level();
    let each = |function: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
        gate.iter().zip(&*up).map(|(gate, up)| function(*gate, *up)).collect()
    };
    let powers = || {
        let minus: Vec<f32> = gate.iter().map(|gate| -gate).collect();
        ops::exp32(level, &minus)
    };
    let ones = vec![1.0; gate.len()];
    let sigmoid = || -> Vec<f32> {
        powers().iter().zip(&*up).map(|(power, up)| 1.0 / (1.0 + power) * up).collect()
    };
    let forms: [(Label, &str, Rows<'_>); 7] = [
        (Label::Activation, "gate times up, without silu", &|| each(&|gate, up| gate * up)),
        (Label::WrongInput, "silu of up times gate: the two are exchanged", &|| {
            ops::swiglu(level, &up, &gate)
        }),
        (Label::MissingTerm, "silu of gate, without up", &|| ops::swiglu(level, &gate, &ones)),
        (Label::MissingTerm, "up, without the gate", &|| up.to_vec()),
        (Label::Activation, "sigmoid of gate times up", &sigmoid),
        (Label::Activation, "relu of gate times up", &|| each(&|gate, up| gate.max(0.0) * up)),
        (Label::DoubleTerm, "silu of gate times up times up", &|| {
            let once = ops::swiglu(level, &gate, &up);
            once.iter().zip(&*up).map(|(once, up)| once * up).collect()
        }),
    ];
    for (label, what, candidate) in forms {
        if let Some(extent) = evidence.extent(&candidate()) {
            let text = format!("got equals {what}, exactly, {extent}");
            return Ok(Explanation::new(label, text).with("formula", what));
        }
    }
    for (tap, first) in [("gate", true), ("up", false)] {
        for other in substitutes(evidence, &named(tap)) {
            let (gate, up) = if first { (&other.rows, &up) } else { (&gate, &other.rows) };
            let part = |row: usize| row * evidence.width..(row + 1) * evidence.width;
            if evidence.equals_rows(|row| ops::swiglu(level, &gate[part(row)], &up[part(row)])) {
                let text = format!("with {} for `{tap}`, exactly, {}", other.what, evidence.all());
                return Ok(Explanation::new(other.label, text)
                    .with("read", other.what)
                    .with("instead_of", named(tap)));
            }
        }
    }
    Err(No::Refuted)
}

/// Epsilons that files, frameworks and typing errors have, the frequent ones first.
fn epsilons() -> Vec<f32> {
    let mut found = vec![0.0, 1e-5, 1e-6, 1e-8, 1e-12, f32::EPSILON];
    for exponent in 1..=12 {
        found.extend((1..=9).map(|digit| {
            // Read as a decimal, so that it is the f32 that a file or a source has.
            format!("{digit}e-{exponent}").parse::<f32>().unwrap_or_default()
        }));
    }
    found
}

/// Another epsilon. Those that give the same bits are named together.
pub(super) fn epsilon(evidence: &Evidence<'_>) -> Answer {
    let Source::Norm { stream, weight } = source(evidence)? else { return Err(No::Idle) };
    let (x, weight) = (evidence.input_like(&stream)?, evidence.vector(&weight)?);
    let width = evidence.width;
    let holds = |eps: &f32| {
        evidence
            .equals_rows(|row| ops::rms_norm(level(), &x[row * width..][..width], &weight, *eps))
    };
    let mut found: Vec<f32> = epsilons().into_iter().filter(holds).collect();
    if found.is_empty() && weight.len() == width {
        return beside_the_root(evidence, &x, &weight);
    }
    let first = *found.first().ok_or(No::Refuted)?;
    found.dedup();
    let mut text = format!(
        "the norm with epsilon {first:e} in the place of {:e}, exactly, {}",
        evidence.config.eps,
        evidence.all()
    );
    if found.len() > 1 {
        text.push_str(&format!("; {} others give the same bits", found.len() - 1));
    }
    Ok(Explanation::new(Label::WrongEpsilon, text)
        .with("epsilon", format!("{first:e}"))
        .with("instead_of", format!("{:e}", evidence.config.eps)))
}

/// Epsilon added to the root, not to the mean; the sums are those of CONTRACT.md, section 4.
fn beside_the_root(evidence: &Evidence<'_>, x: &[f32], weight: &[f32]) -> Answer {
    let (width, eps) = (evidence.width, evidence.config.eps);
    let row = |row: usize| -> Vec<f32> {
        let x = &x[row * width..][..width];
        let mut sums = [0.0_f32; 256];
        for (index, value) in x.iter().enumerate() {
            sums[index % 256] = value.mul_add(*value, sums[index % 256]);
        }
        let mut half = 128;
        while half > 0 {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
            half /= 2;
        }
        let scale = 1.0 / ((sums[0] / width as f32).sqrt() + eps);
        x.iter().zip(weight).map(|(x, weight)| (x * scale) * weight).collect()
    };
    if !evidence.equals_rows(row) {
        return Err(No::Refuted);
    }
    let text = format!(
        "the norm with epsilon {eps:e} added to the root, not to the mean, exactly, {}",
        evidence.all()
    );
    Ok(Explanation::new(Label::WrongEpsilon, text).with("epsilon", format!("{eps:e}")))
}

/// The weights of a norm missing, doubled, or another norm's; another input.
pub(super) fn norm(evidence: &Evidence<'_>) -> Answer {
    let Source::Norm { stream, weight: name } = source(evidence)? else { return Err(No::Idle) };
    let (x, weight) = (evidence.input_like(&stream)?, evidence.vector(&name)?);
    let (width, eps) = (evidence.width, evidence.config.eps);
    if weight.len() != width {
        return Err(No::Lacks(format!("`{name}` of {width} values")));
    }
    let holds = |x: &[f32], weight: &[f32]| {
        weight.len() == width
            && evidence
                .equals_rows(|row| ops::rms_norm(level(), &x[row * width..][..width], weight, eps))
    };
    let explain =
        |label, what: &str| Explanation::new(label, format!("{what}, exactly, {}", evidence.all()));
    if holds(&x, &vec![1.0; width]) {
        return Ok(explain(Label::MissingTerm, "the norm without its weights").with("term", name));
    }
    if evidence.equals(&x) {
        return Ok(explain(Label::MissingTerm, "the input as it was, without a norm"));
    }
    let plus_one: Vec<f32> = weight.iter().map(|weight| 1.0 + weight).collect();
    if holds(&x, &plus_one) {
        return Ok(
            explain(Label::Scaled, "the norm with 1 + w for its weights w").with("term", name)
        );
    }
    let scale = |(index, value): (usize, &f32)| value * weight[index % width];
    if evidence.equals(&evidence.expected.iter().enumerate().map(scale).collect::<Vec<_>>()) {
        return Ok(explain(Label::DoubleTerm, "the norm's weights twice").with("term", name));
    }
    for (label, other) in other_norms(evidence, &name) {
        if evidence.vector(&other).is_ok_and(|weight| holds(&x, &weight)) {
            let what = format!("with `{other}` in the place of `{name}`");
            return Ok(explain(label, &what).with("read", other).with("instead_of", name));
        }
    }
    for other in substitutes(evidence, &stream) {
        if holds(&other.rows, &weight) {
            let what = format!("the norm of {} in the place of {stream}", other.what);
            return Ok(explain(other.label, &what)
                .with("read", other.what)
                .with("instead_of", stream));
        }
    }
    Err(No::Refuted)
}

/// The names of the model's other norms, this layer's first.
fn other_norms(evidence: &Evidence<'_>, own: &str) -> Vec<(Label, String)> {
    let mut found = Vec::new();
    let mut layers: Vec<usize> = (0..evidence.config.layers).collect();
    layers.sort_by_key(|layer| Some(*layer) != evidence.layer);
    for layer in layers {
        for norm in ["attn_norm", "ffn_norm"] {
            let here = Some(layer) == evidence.layer || evidence.layer.is_none();
            let label = if here { Label::WrongMatrix } else { Label::WrongLayer };
            found.push((label, format!("blk.{layer}.{norm}.weight")));
        }
    }
    found.push((Label::WrongMatrix, "output_norm.weight".to_owned()));
    found.retain(|(_, name)| name != own);
    found
}
