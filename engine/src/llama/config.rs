//! The shape of a model as its metadata gives it; whatever this engine does not compute is refused.

use crate::gguf::File;
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
    #[error("architecture `{architecture}` is not supported: only `llama` is")]
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
    /// A type that this tensor cannot have.
    #[error("tensor `{tensor}` has type {actual}, F32 is needed here")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        actual: &'static str,
    },
    /// A tensor nobody would read: ignoring it would be a silent wrong answer.
    #[error("tensor `{tensor}` is not part of a llama model as this engine computes it")]
    Unexpected {
        /// The tensor.
        tensor: String,
    },
}

impl Config {
    /// Reads the metadata of a file.
    ///
    /// # Errors
    /// A missing key, one of the wrong type, or a value this engine does not compute.
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
        let head_size = optional("llama.attention.key_length", hidden / heads)?;
        let value_length = optional("llama.attention.value_length", head_size)?;
        let rope_dimensions = optional("llama.rope.dimension_count", head_size)?;
        let table = file.tensor("token_embd.weight")?;
        let vocabulary = table.dimensions.get(1).copied().unwrap_or(0) as usize;
        let config = Self {
            layers,
            hidden,
            heads,
            kv_heads,
            head_size,
            feed_forward: size("llama.feed_forward_length")?,
            vocabulary,
            context_length: size("llama.context_length")?,
            epsilon: file.required_f32("llama.attention.layer_norm_rms_epsilon")?,
            rope_base: file.optional_f32("llama.rope.freq_base")?.unwrap_or(10000.0),
            rope_dimensions,
            tied: file.find_tensor("output.weight").is_none(),
        };
        config.check(value_length)?;
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
        let allowed = "it must equal attention.key_length";
        let equal = value_length == head_size;
        wrong(equal, "attention.value_length", value_length.to_string(), allowed)?;
        let allowed = "an even number of at most the head size is needed";
        let fits = rope_dimensions.is_multiple_of(2) && rope_dimensions <= head_size;
        wrong(fits, "rope.dimension_count", rope_dimensions.to_string(), allowed)?;
        let allowed = "a positive finite number is needed";
        let usable = |value: f32| value > 0.0 && value.is_finite();
        let key = "attention.layer_norm_rms_epsilon";
        wrong(usable(self.epsilon), key, self.epsilon.to_string(), allowed)?;
        wrong(usable(self.rope_base), "rope.freq_base", self.rope_base.to_string(), allowed)
    }
}

/// Refuses what would change the result and is not computed here.
fn refuse_features(file: &File) -> Result<(), crate::Error> {
    let refuse =
        |key: &str, value: String| Err(ConfigError::Feature { key: key.to_owned(), value }.into());
    for key in ["llama.expert_count", "llama.attention.sliding_window"] {
        if let Some(value) = file.optional_u32(key)?.filter(|value| *value != 0) {
            return refuse(key, value.to_string());
        }
    }
    if let Some(kind) = file.optional_str("llama.rope.scaling.type")?
        && kind != "none"
    {
        return refuse("llama.rope.scaling.type", kind.to_owned());
    }
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        if let Some(value) = file.optional_f32(key)?.filter(|value| *value != 1.0) {
            return refuse(key, value.to_string());
        }
    }
    for key in ["llama.attention.clamp_kqv", "llama.logit_scale", "llama.attention.scale"] {
        if let Some(value) = file.metadata().get(key) {
            return refuse(key, format!("{value:?}"));
        }
    }
    Ok(())
}

fn positive(file: &File, key: &str) -> Result<usize, crate::Error> {
    let value = file.required_u32(key)?;
    // Sizes are u32 in kernels; what is left of the range keeps products of two within u64.
    if (1..1 << 24).contains(&value) {
        return Ok(value as usize);
    }
    let allowed = "1 to 16777215 is served";
    Err(ConfigError::Value { key: key.to_owned(), value: value.to_string(), allowed }.into())
}
