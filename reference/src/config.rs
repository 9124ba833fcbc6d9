//! The shape of a llama model, from its file's metadata; what the contract lacks is refused here.

use candle_core::quantized::gguf_file::Value;

use crate::Error;

/// What the metadata says about the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many blocks.
    pub layers: usize,
    /// Width of the stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Width between the feed-forward products.
    pub feed_forward: usize,
    /// How many tokens.
    pub vocabulary: usize,
    /// The epsilon of the norms.
    pub eps: f32,
    /// The base of the rotary frequencies.
    pub rope_base: f32,
    /// How many values of a head are rotated; even.
    pub rope_dimensions: usize,
    /// Whether the file has `rope_freqs.weight`.
    pub rope_factors: bool,
    /// How many positions the model was made for.
    pub context_length: usize,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

/// Keys that change the arithmetic, with the value under which they change nothing.
const NEUTRAL: [(&str, f64); 11] = [
    ("llama.expert_count", 0.0),
    ("llama.rope.scaling.factor", 1.0),
    ("llama.rope.scaling.attn_factor", 1.0),
    ("llama.rope.scale_linear", 1.0),
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.sliding_window", 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.final_logit_softcapping", 0.0),
    ("llama.logit_scale", 0.0),
    ("llama.residual_scale", 0.0),
];

#[expect(clippy::disallowed_types, reason = "candle's own type; nothing here walks through it")]
type Metadata = std::collections::HashMap<String, Value>;

impl Config {
    /// Reads the metadata. `vocabulary` is the row count of the embedding.
    pub(crate) fn read(
        metadata: &Metadata,
        vocabulary: usize,
        tied: bool,
        rope_factors: bool,
    ) -> Result<Self, Error> {
        let architecture = text(metadata, "general.architecture")?;
        if architecture != "llama" {
            return Err(Error::Architecture { architecture });
        }
        refuse_extensions(metadata)?;
        let hidden = required(metadata, "llama.embedding_length")?;
        let heads = required(metadata, "llama.attention.head_count")?;
        let kv_heads = count(metadata, "llama.attention.head_count_kv")?.unwrap_or(heads);
        let config = Self {
            layers: required(metadata, "llama.block_count")?,
            hidden,
            heads,
            kv_heads,
            head_size: head_size(metadata, hidden, heads)?,
            feed_forward: required(metadata, "llama.feed_forward_length")?,
            vocabulary,
            eps: number(metadata, "llama.attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| missing("llama.attention.layer_norm_rms_epsilon"))?,
            rope_base: number(metadata, "llama.rope.freq_base")?.unwrap_or(10_000.0),
            rope_dimensions: 0,
            rope_factors,
            context_length: required(metadata, "llama.context_length")?,
            tied,
        };
        config.with_rope(metadata)?.checked()
    }

    /// The width of the queries and of the attention's output.
    pub(crate) const fn query_width(&self) -> usize {
        self.heads * self.head_size
    }

    /// The width of the keys and of the values.
    pub(crate) const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_size
    }

    fn with_rope(mut self, metadata: &Metadata) -> Result<Self, Error> {
        let key = "llama.rope.dimension_count";
        self.rope_dimensions = count(metadata, key)?.unwrap_or(self.head_size);
        if !self.rope_dimensions.is_multiple_of(2) || self.rope_dimensions > self.head_size {
            return Err(Error::MetadataValue {
                key: key.into(),
                value: self.rope_dimensions.to_string(),
                expected: format!("an even number up to the head size {}", self.head_size),
            });
        }
        Ok(self)
    }

    fn checked(self) -> Result<Self, Error> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::MetadataValue {
                key: "llama.attention.head_count_kv".into(),
                value: self.kv_heads.to_string(),
                expected: format!("a divisor of the {} heads", self.heads),
            });
        }
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if !positive(self.rope_base) {
            return Err(Error::MetadataValue {
                key: "llama.rope.freq_base".into(),
                value: self.rope_base.to_string(),
                expected: "a positive number".into(),
            });
        }
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return Err(Error::MetadataValue {
                key: "llama.attention.layer_norm_rms_epsilon".into(),
                value: self.eps.to_string(),
                expected: "a number from 0".into(),
            });
        }
        Ok(self)
    }
}

fn head_size(metadata: &Metadata, hidden: usize, heads: usize) -> Result<usize, Error> {
    let key_length = count(metadata, "llama.attention.key_length")?;
    let head_size = match key_length {
        Some(length) => length,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(Error::MetadataValue {
                key: "llama.attention.head_count".into(),
                value: heads.to_string(),
                expected: format!("a divisor of the embedding length {hidden}"),
            });
        }
    };
    let value_length = count(metadata, "llama.attention.value_length")?.unwrap_or(head_size);
    if value_length != head_size {
        return Err(Error::MetadataValue {
            key: "llama.attention.value_length".into(),
            value: value_length.to_string(),
            expected: format!("the length of a key, {head_size}"),
        });
    }
    Ok(head_size)
}

fn refuse_extensions(metadata: &Metadata) -> Result<(), Error> {
    for (key, neutral) in NEUTRAL {
        if let Some(value) = metadata.get(key)
            && as_f64(value) != Some(neutral)
        {
            return Err(Error::Unsupported { feature: format!("`{key}`") });
        }
    }
    let scaling = "llama.rope.scaling.type";
    if let Some(value) = metadata.get(scaling)
        && !matches!(value, Value::String(kind) if kind == "none")
    {
        return Err(Error::Unsupported { feature: format!("`{scaling}`") });
    }
    let causal = "llama.attention.causal";
    if let Some(value) = metadata.get(causal)
        && !matches!(value, Value::Bool(true))
    {
        return Err(Error::Unsupported { feature: format!("`{causal}`") });
    }
    Ok(())
}

fn missing(key: &str) -> Error {
    Error::MetadataMissing { key: key.into() }
}

fn text(metadata: &Metadata, key: &str) -> Result<String, Error> {
    match metadata.get(key) {
        None => Err(missing(key)),
        Some(Value::String(value)) => Ok(value.clone()),
        Some(value) => Err(wrong(key, value, "a string")),
    }
}

fn required(metadata: &Metadata, key: &str) -> Result<usize, Error> {
    count(metadata, key)?.ok_or_else(|| missing(key))
}

/// A count from 1 to 2^32 - 1, in whichever integer type the file has it.
fn count(metadata: &Metadata, key: &str) -> Result<Option<usize>, Error> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    let number = match value {
        Value::I8(number) => u32::try_from(*number).ok(),
        Value::I16(number) => u32::try_from(*number).ok(),
        Value::I32(number) => u32::try_from(*number).ok(),
        Value::I64(number) => u32::try_from(*number).ok(),
        Value::Bool(_) => None,
        other => other.to_u64().ok().and_then(|number| u32::try_from(number).ok()),
    };
    match number {
        Some(number) if number > 0 => Ok(Some(number as usize)),
        _ => Err(wrong(key, value, "a positive 32-bit count")),
    }
}

fn number(metadata: &Metadata, key: &str) -> Result<Option<f32>, Error> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::F32(value)) => Ok(Some(*value)),
        Some(value) => Err(wrong(key, value, "an f32")),
    }
}

fn as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        Value::I32(number) => Some(f64::from(*number)),
        other => other.to_u64().ok().and_then(|number| u32::try_from(number).ok()).map(f64::from),
    }
}

fn wrong(key: &str, value: &Value, expected: &str) -> Error {
    Error::MetadataValue {
        key: key.into(),
        value: format!("{value:?}").chars().take(64).collect(),
        expected: expected.into(),
    }
}
