//! What a caller chooses: mode, digits of the activations, cache, split, threads.

/// Which arithmetic the forward pass runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The arithmetic contract, bit for bit.
    #[default]
    Exact,
    /// candle's own float operations on dequantised weights.
    Stock,
    /// Dequantised weights, every operation in f64.
    Wide,
}

impl Mode {
    /// The word for it on a command line and in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Stock => "stock",
            Self::Wide => "wide",
        }
    }
}

/// The fixed point of the activations in products with quantised weights (contract, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Activations {
    /// Three signed base-256 digits.
    #[default]
    I24,
    /// Two digits.
    I16,
    /// One digit.
    I8,
}

impl Activations {
    /// The number of digits D.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::I24 => 3,
            Self::I16 => 2,
            Self::I8 => 1,
        }
    }

    /// The largest magnitude M of the fixed point.
    #[must_use]
    pub const fn magnitude_max(self) -> i32 {
        match self {
            Self::I24 => 127 * 65536 + 127 * 256 + 127,
            Self::I16 => 127 * 256 + 127,
            Self::I8 => 127,
        }
    }

    /// The word for it on a command line and in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I24 => "i24",
            Self::I16 => "i16",
            Self::I8 => "i8",
        }
    }
}

/// How keys and values are kept (contract, section 9). Only `exact` rounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum KvType {
    /// As computed.
    #[default]
    F32,
    /// Narrowed to f16, widened when read.
    F16,
}

impl KvType {
    /// The word for it on a command line and in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// How to load and run a [`Reference`](crate::Reference).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which arithmetic.
    pub mode: Mode,
    /// The digits of the activations; `exact` only.
    pub activations: Activations,
    /// The type of the cache; `exact` only.
    pub kv: KvType,
    /// How many positions fit; 0 takes the context length of the file.
    pub context_tokens: usize,
    /// How many tokens one chunk of a prefill has at most.
    pub ubatch: usize,
    /// How many threads the pool has.
    pub threads: usize,
    /// Whether vector instructions may be used; the bits are the same without.
    pub simd: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            activations: Activations::default(),
            kv: KvType::default(),
            context_tokens: 0,
            ubatch: 512,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            simd: true,
        }
    }
}
