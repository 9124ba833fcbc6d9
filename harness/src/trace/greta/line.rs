//! One line of GRETA's: which kind it is, which rows it speaks of, what is wrong with it.

use serde::Serialize;

use super::{GretaError, repair};
use crate::compare::Phase;
use crate::event::RowFacts;
use crate::landscape::Logit;
use crate::number::{Hash, Number};
use crate::sides::Row;
use crate::trace::json::Value;
use crate::trace::parse::without_line;
use crate::trace::{Fields, Landscape, Record, TraceError};

use super::rules::Defect;

/// How many values its hash reads at most.
pub(super) const HASH_ELEMENTS: usize = 256;

/// The kinds of lines, in the order in which the reports brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// B3.6 to B3.10: hidden state and logits.
    ReadoutFirst,
    /// B3.11: with the indices that were used.
    ReadoutIndices,
    /// B3.12 and later: with the buffer that was read.
    ReadoutBuffers,
    /// The top of the logits.
    Landscape,
    /// One stage of the forward pass.
    Stage,
    /// The first values of one tensor.
    Metric,
}

impl Kind {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadoutFirst => "readout (B3.6 to B3.10)",
            Self::ReadoutIndices => "readout (B3.11)",
            Self::ReadoutBuffers => "readout (B3.12)",
            Self::Landscape => "landscape",
            Self::Stage => "stages",
            Self::Metric => "metrics",
        }
    }

    /// Whether a step has one line only.
    pub(super) fn one_line_a_step(self) -> bool {
        !matches!(self, Self::Stage | Self::Metric)
    }
}

/// A line that has been read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) line: usize,
    pub(super) kind: Kind,
    pub(super) prompt: Option<String>,
    pub(super) phase: Option<Phase>,
    pub(super) step: Option<usize>,
    pub(super) position: Option<usize>,
    pub(super) rows: Vec<Record>,
    pub(super) landscape: Option<Landscape>,
    pub(super) defects: Vec<Defect>,
}

impl Seen {
    fn new(line: usize, kind: Kind) -> Self {
        Self {
            line,
            kind,
            prompt: None,
            phase: None,
            step: None,
            position: None,
            rows: Vec::new(),
            landscape: None,
            defects: Vec::new(),
        }
    }

    /// Whether the line is about a weight: it has no row of a position.
    pub(super) fn is_weight(&self) -> bool {
        self.defects.contains(&Defect::Weight)
    }
}

/// Reads one line of a file.
pub(super) fn read(
    file: &str,
    line: usize,
    bytes: &[u8],
    layers_count: Option<usize>,
) -> Result<Seen, GretaError> {
    let failed = |source| GretaError::Line { file: file.to_owned(), source };
    let text = std::str::from_utf8(bytes)
        .map_err(|error| failed(TraceError::NotUtf8 { line, byte: error.valid_up_to() }))?;
    let (text, bare_count) = repair::non_finite(text);
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| failed(TraceError::NotJson { line, message: without_line(&error) }))?;
    let (mut fields, repeated) = Fields::lenient(line, value).map_err(failed)?;
    let Some(kind) = kind(&fields) else {
        let fields = fields.names(4);
        return Err(GretaError::UnknownLine { file: file.to_owned(), line, fields });
    };
    let mut seen = Seen::new(line, kind);
    seen.defects.extend((bare_count > 0).then_some(Defect::BareNonFinite));
    seen.defects.extend((repeated > 0).then_some(Defect::KeyTwice));
    let read = match kind {
        Kind::Landscape => landscape(&mut seen, &mut fields),
        Kind::Stage => stage(&mut seen, &mut fields),
        Kind::Metric => metric(&mut seen, &mut fields),
        _ => readout(&mut seen, &mut fields, layers_count),
    };
    read.map_err(failed)?;
    Ok(seen)
}

fn kind(fields: &Fields) -> Option<Kind> {
    Some(if fields.has("event") && fields.has("point") {
        Kind::Stage
    } else if fields.has("metric") && fields.has("data") {
        Kind::Metric
    } else if fields.has("entropy_topk") && fields.has("top5") {
        Kind::Landscape
    } else if !(fields.has("hidden_hash") && fields.has("logits_hash")) {
        return None;
    } else if fields.has("readout_buffer_kind") {
        Kind::ReadoutBuffers
    } else if fields.has("pos_id") {
        Kind::ReadoutIndices
    } else {
        Kind::ReadoutFirst
    })
}

fn phase(fields: &mut Fields) -> Result<Phase, TraceError> {
    let text = fields.text("phase")?;
    match text.as_str() {
        "prefill" | "prefill_last" => Ok(Phase::PrefillLast),
        "decode" | "decode0" => Ok(Phase::Decode),
        _ => Err(fields.outside("phase", text, "prefill, prefill_last, decode or decode0")),
    }
}

/// What all rows of a line have in common.
struct Common {
    line: usize,
    position: usize,
    step: usize,
    phase: Phase,
    token_id: Option<u32>,
}

/// The figures of one row under their prefix.
fn row(
    common: &Common,
    fields: &mut Fields,
    (prefix, tap, layer): (&str, &str, Option<usize>),
    elements_count: Option<usize>,
) -> Result<Record, TraceError> {
    Ok(Record {
        line: common.line,
        token_id: common.token_id,
        position: common.position,
        layer,
        tap: tap.to_owned(),
        step: common.step,
        phase: common.phase,
        hash: Some(Hash(fields.whole(&format!("{prefix}hash"))?)),
        elements_count,
        covered_count: None,
        min: fields.number(&format!("{prefix}min"), true)?,
        max: fields.number(&format!("{prefix}max"), true)?,
        mean: fields.number(&format!("{prefix}mean"), false)?,
        nan: None,
        inf: None,
        sample: None,
        row: None,
    })
}

/// `hidden` is the stream after the last layer, before its norm; `rms` is what comes out of that.
fn readout(
    seen: &mut Seen,
    fields: &mut Fields,
    layers_count: Option<usize>,
) -> Result<(), TraceError> {
    let first = seen.kind == Kind::ReadoutFirst;
    let common = Common {
        line: seen.line,
        position: fields.count(if first { "token_index" } else { "pos_id" })?,
        step: fields.count("step")?,
        phase: phase(fields)?,
        token_id: None,
    };
    let width = match fields.has("hidden_stride_bytes") {
        true => Some(fields.count("hidden_stride_bytes")? / 4),
        false => None,
    };
    let last = layers_count.and_then(|count| count.checked_sub(1));
    let vocabulary = fields.count("vocab")?;
    seen.rows.push(row(&common, fields, ("hidden_", "ffn_residual", last), width)?);
    if fields.has("rms_hash") {
        seen.rows.push(row(&common, fields, ("rms_", "final_norm", None), width)?);
    }
    seen.rows.push(row(&common, fields, ("logits_", "logits", None), Some(vocabulary))?);
    if fields.has("top1_id") {
        seen.landscape = Some(top_two(&common, fields)?);
    }
    let mismatch = matches!(fields.take("readout_mismatch"), Some(Value::Bool(true)));
    seen.defects.extend(mismatch.then_some(Defect::AlarmIgnored));
    seen.defects.extend([Defect::NoToken, Defect::PrefixHash, Defect::NotCounted]);
    (seen.step, seen.phase) = (Some(common.step), Some(common.phase));
    seen.position = Some(common.position);
    Ok(())
}

fn top_two(common: &Common, fields: &mut Fields) -> Result<Landscape, TraceError> {
    let mut logit = |place: &str| -> Result<Logit, TraceError> {
        let id = fields.token(&format!("{place}_id"))?;
        Ok(Logit { id, logit: fields.number(&format!("{place}_logit"), true)? })
    };
    let top = vec![logit("top1")?, logit("top2")?];
    Ok(Landscape {
        line: common.line,
        step: common.step,
        token_id: None,
        position: Some(common.position),
        top,
        gap: Some(fields.number("gap", true)?),
        entropy: Number::F64(f64::NAN),
    })
}

fn landscape(seen: &mut Seen, fields: &mut Fields) -> Result<(), TraceError> {
    let step = fields.count("step")?;
    let logit = |mut fields: Fields| -> Result<Logit, TraceError> {
        Ok(Logit { id: fields.token("id")?, logit: fields.number("logit", true)? })
    };
    seen.landscape = Some(Landscape {
        line: seen.line,
        step,
        token_id: None,
        position: None,
        top: fields.objects("top5")?.into_iter().map(logit).collect::<Result<_, _>>()?,
        gap: Some(fields.number("gap", true)?),
        entropy: fields.number("entropy_topk", false)?,
    });
    seen.step = Some(step);
    seen.defects.extend([Defect::NoToken, Defect::NoPosition]);
    Ok(())
}

fn stage(seen: &mut Seen, fields: &mut Fields) -> Result<(), TraceError> {
    let point = fields.text("point")?;
    if fields.has("prompt_id") {
        seen.prompt = Some(fields.text("prompt_id")?);
    }
    let common = Common {
        line: seen.line,
        position: fields.count("pos_id")?,
        step: fields.count("step")?,
        phase: phase(fields)?,
        token_id: if fields.has("token_id") { Some(fields.token("token_id")?) } else { None },
    };
    (seen.step, seen.phase) = (Some(common.step), Some(common.phase));
    let injected =
        matches!(fields.take("route"), Some(Value::Text(route)) if route.contains("INJECT"));
    seen.defects.extend(injected.then_some(Defect::InputOverridden));
    // The table of embeddings itself, hashed at every step: no row of a position.
    if point == "embd_w_hash" {
        seen.defects.extend([Defect::Weight, Defect::PrefixHash]);
        return Ok(());
    }
    seen.position = Some(common.position);
    seen.defects.extend(common.token_id.is_none().then_some(Defect::NoToken));
    if point == "logits" {
        let vocabulary = fields.count("vocab")?;
        seen.rows.push(row(&common, fields, ("", "logits", None), Some(vocabulary))?);
        seen.landscape = Some(top_two(&common, fields)?);
        seen.defects.extend([Defect::PrefixHash, Defect::NotCounted]);
        return Ok(());
    }
    let (tap, layer) = match point.as_str() {
        "embed_out" => ("embed", None),
        other => (other, Some(fields.count("layer")?)),
    };
    let (width, covered) = (fields.count("stride_elems")?, fields.count("sample_n")?);
    let mut record = row(&common, fields, ("", tap, layer), Some(width))?;
    (record.nan, record.inf) = (fields.count_or_null("nan")?, fields.count_or_null("inf")?);
    record.sample = fields.numbers_if_there("sample", true)?;
    if covered < width {
        record.covered_count = Some(covered);
        seen.defects.extend([Defect::PartFigures]);
    }
    seen.defects.extend((width > HASH_ELEMENTS).then_some(Defect::PrefixHash));
    seen.rows.push(record);
    Ok(())
}

fn metric(seen: &mut Seen, fields: &mut Fields) -> Result<(), TraceError> {
    let name = fields.text("metric")?;
    seen.prompt = if fields.has("prompt") { Some(fields.text("prompt")?) } else { None };
    seen.phase = Some(phase(fields)?);
    for (field, wanted) in [("src_reason", "OVERRIDE"), ("route", "INJECT")] {
        let overridden = matches!(fields.take(field), Some(Value::Text(t)) if t.contains(wanted));
        seen.defects.extend(overridden.then_some(Defect::InputOverridden));
    }
    seen.step = if fields.has("step") { Some(fields.count("step")?) } else { None };
    if name == "rms_weight" {
        seen.defects.extend([Defect::Weight, Defect::PartFigures]);
        return Ok(());
    }
    let layer = fields.count("layer")?;
    let position = fields.count("pos_id")?;
    seen.position = Some(position);
    let Some(sample) = fields.numbers_if_there("data", true)? else { return Ok(()) };
    let from_embedding =
        matches!(fields.take("src_enum"), Some(Value::Text(from)) if from == "EMBEDDING_OUT");
    let (tap, layer) = match name.as_str() {
        "norm_out" => ("attn_norm", Some(layer)),
        "rms_in" if from_embedding => ("embed", None),
        other => (other, Some(layer)),
    };
    let values = sample.iter().map(|number| number.to_f64() as f32).collect();
    let facts = RowFacts::of(&Row::F32(values), None, None);
    seen.rows.push(Record {
        line: seen.line,
        token_id: None,
        position,
        layer,
        tap: tap.to_owned(),
        step: seen.step.unwrap_or(0),
        phase: seen.phase.unwrap_or(Phase::Decode),
        hash: None,
        elements_count: None,
        covered_count: Some(sample.len()),
        min: facts.min,
        max: facts.max,
        mean: facts.mean,
        nan: Some(facts.nan_count),
        inf: Some(facts.infinite_count),
        sample: Some(sample),
        row: None,
    });
    seen.defects.extend([Defect::NoToken, Defect::PartFigures]);
    Ok(())
}
