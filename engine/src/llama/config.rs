//! The shape of a model as its metadata gives it; whatever this engine does not compute is refused.

use super::shapes::{self, Shapes};
use crate::gguf::{File, Shown, Value};
use crate::kernels::HEAD_SIZE_LARGEST;

/// Sizes and constants of a llama model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Layers.
    pub layers: usize,
    /// Values in the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values in a head.
    pub head_size: usize,
    /// Values between the feed-forward matrices.
    pub feed_forward: usize,
    /// Token ids.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Leading values of a head that rotate.
    pub rope_dimensions: usize,
    /// Whether the output projection is the token table.
    pub tied: bool,
}

/// Why a valid GGUF file is not a model this engine computes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Another architecture.
    #[error("architecture `{}` is not supported: only `llama` is", Shown(architecture))]
    Architecture {
        /// The file's word.
        architecture: String,
    },
    /// A feature that would change the result.
    #[error("metadata `{key}` = {value} is not supported: this engine does not compute it")]
    Feature {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A number outside what makes sense.
    #[error("metadata `{key}` is {value}: {allowed}")]
    Value {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        allowed: &'static str,
    },
    /// A tensor of the wrong shape.
    #[error("tensor `{tensor}` has dimensions {actual:?}, the metadata asks for {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Dimensions in the file.
        actual: Vec<u64>,
        /// Dimensions that fit.
        expected: Vec<u64>,
    },
    /// A token table that is no matrix.
    #[error("tensor `token_embd.weight` has dimensions {actual:?}: [{hidden}, vocabulary] is due")]
    Table {
        /// Dimensions in the file.
        actual: Vec<u64>,
        /// Values in the residual stream.
        hidden: usize,
    },
    /// More token ids than are served.
    #[error("tensor `token_embd.weight` has {rows} rows: 1 to 16777215 is served")]
    Vocabulary {
        /// Its rows.
        rows: u64,
    },
    /// A type that this tensor cannot have.
    #[error("tensor `{tensor}` has type {actual}, F32 is needed here")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        actual: &'static str,
    },
    /// A weight that is NaN or infinite, or a block's scale: it would spread over a whole row.
    #[error("tensor `{tensor}` has {value} as {field} {index}: weights are finite")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// `value`, `scale of block` or `minimum of block`.
        field: &'static str,
        /// What stands there.
        value: f32,
        /// Which value or block of the tensor, counted from its start.
        index: u64,
    },
    /// A divisor of the rotary frequencies that is no positive number.
    #[error("tensor `rope_freqs.weight` has {value} at {index}: divisors are positive")]
    RopeFactor {
        /// Its place.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A tensor nobody would read: ignoring it would be a silent wrong answer.
    #[error("tensor `{}` is not part of a llama model as this engine computes it", Shown(tensor))]
    Unexpected {
        /// The tensor.
        tensor: String,
    },
}

/// Keys that change the arithmetic, with the value under which they change nothing.
const NEUTRAL: [(&str, f64); 12] = [
    ("llama.expert_count", 0.0),
    ("llama.rope.scaling.factor", 1.0),
    ("llama.rope.scaling.attn_factor", 1.0),
    ("llama.rope.scale_linear", 1.0),
    ("llama.attention.clamp_kqv", 0.0),
    ("llama.attention.max_alibi_bias", 0.0),
    ("llama.attention.scale", 0.0),
    ("llama.attention.sliding_window", 0.0),
    ("llama.attn_logit_softcapping", 0.0),
    ("llama.final_logit_softcapping", 0.0),
    ("llama.logit_scale", 0.0),
    ("llama.residual_scale", 0.0),
];

/// Sizes are u32 in kernels; below this limit products of two stay within u64.
const SIZE_LIMIT: usize = 1 << 24;

impl Config {
    /// Reads the metadata of a file, and compares every tensor's shape with it.
    ///
    /// Whoever hands the file to another reader does so after this: each tensor that the metadata
    /// implies is there, has its shape and lies in the file, and there is no other.
    ///
    /// # Errors
    /// A missing key, one of the wrong type, a value this engine does not compute, or a tensor
    /// that is missing, of another shape or not part of a llama model.
    pub fn from_gguf(file: &File) -> Result<Self, crate::Error> {
        let architecture = file.required_str("general.architecture")?;
        if architecture != "llama" {
            let architecture = architecture.to_owned();
            return Err(ConfigError::Architecture { architecture }.into());
        }
        refuse_features(file)?;
        let size = |key: &str| positive(file, key);
        let layers = size("llama.block_count")?;
        let hidden = size("llama.embedding_length")?;
        let heads = size("llama.attention.head_count")?;
        let optional = |key: &str, default: usize| {
            file.optional_u32(key).map(|value| value.map_or(default, |value| value as usize))
        };
        let kv_heads = optional("llama.attention.head_count_kv", heads)?;
        let key_length = file.optional_u32("llama.attention.key_length")?;
        let head_size = match key_length {
            Some(length) => length as usize,
            None => whole_heads(hidden, heads)?,
        };
        let value_length = optional("llama.attention.value_length", head_size)?;
        let rope_dimensions = optional("llama.rope.dimension_count", head_size)?;
        let config = Self {
            layers,
            hidden,
            heads,
            kv_heads,
            head_size,
            feed_forward: size("llama.feed_forward_length")?,
            vocabulary: shapes::vocabulary(file, hidden)?,
            context_length: size("llama.context_length")?,
            epsilon: file.required_f32("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: file.optional_f32("llama.rope.freq_base")?.unwrap_or(10000.0),
            rope_dimensions,
            tied: file.find_tensor("output.weight").is_none(),
        };
        config.check(value_length)?;
        Shapes::check(file, &config)?;
        Ok(config)
    }

    fn check(&self, value_length: usize) -> Result<(), ConfigError> {
        let wrong = |holds: bool, key: &str, value: String, allowed| {
            let key = format!("llama.{key}");
            if holds { Ok(()) } else { Err(ConfigError::Value { key, value, allowed }) }
        };
        let Self { heads, kv_heads, head_size, rope_dimensions, .. } = *self;
        wrong(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "attention.head_count_kv",
            kv_heads.to_string(),
            "a divisor of attention.head_count is needed",
        )?;
        let served =
            head_size > 0 && head_size.is_multiple_of(2) && head_size <= HEAD_SIZE_LARGEST as usize;
        let allowed = "an even head size of at most 256 is served";
        wrong(served, "attention.key_length", head_size.to_string(), allowed)?;
        let allowed = "all heads together may have at most 16777215 values";
        wrong(heads * head_size < SIZE_LIMIT, "attention.head_count", heads.to_string(), allowed)?;
        let allowed = "it must equal attention.key_length";
        let equal = value_length == head_size;
        wrong(equal, "attention.value_length", value_length.to_string(), allowed)?;
        let allowed = "an even number from 2 to the head size is needed";
        let fits = rope_dimensions.is_multiple_of(2) && (2..=head_size).contains(&rope_dimensions);
        wrong(fits, "rope.dimension_count", rope_dimensions.to_string(), allowed)?;
        let allowed = "a positive finite number is needed";
        let usable = |value: f32| value > 0.0 && value.is_finite();
        let key = "attention.layer_norm_rms_epsilon";
        wrong(usable(self.epsilon), key, self.epsilon.to_string(), allowed)?;
        wrong(usable(self.rope_base), "rope.freq_base", self.rope_base.to_string(), allowed)
    }
}

/// The head size of a file that does not say it.
fn whole_heads(hidden: usize, heads: usize) -> Result<usize, ConfigError> {
    if hidden.is_multiple_of(heads) {
        return Ok(hidden / heads);
    }
    let allowed = "a divisor of embedding_length is needed where attention.key_length is absent";
    let key = "llama.attention.head_count".to_owned();
    Err(ConfigError::Value { key, value: heads.to_string(), allowed })
}

/// Refuses what would change the result and is not computed here.
fn refuse_features(file: &File) -> Result<(), ConfigError> {
    let refuse = |key: &str, value: &Value| {
        Err(ConfigError::Feature { key: key.to_owned(), value: value.to_string() })
    };
    for (key, neutral) in NEUTRAL {
        if let Some(value) = file.metadata().get(key)
            && number(value) != Some(neutral)
        {
            return refuse(key, value);
        }
    }
    let key = "llama.rope.scaling.type";
    if let Some(value) = file.metadata().get(key)
        && !matches!(value, Value::Str(kind) if kind == "none")
    {
        return refuse(key, value);
    }
    let key = "llama.attention.causal";
    if let Some(value) = file.metadata().get(key)
        && *value != Value::Bool(true)
    {
        return refuse(key, value);
    }
    Ok(())
}

fn number(value: &Value) -> Option<f64> {
    Some(match value {
        Value::U32(value) => f64::from(*value),
        Value::I32(value) => f64::from(*value),
        Value::F32(value) => f64::from(*value),
        _ => return None,
    })
}

fn positive(file: &File, key: &str) -> Result<usize, crate::Error> {
    let value = file.required_u32(key)?;
    if (1..SIZE_LIMIT).contains(&(value as usize)) {
        return Ok(value as usize);
    }
    let allowed = "1 to 16777215 is served";
    Err(ConfigError::Value { key: key.to_owned(), value: value.to_string(), allowed }.into())
}
