//! The faults of the matrix that are planted here: on what, where each has to show, and why.

use engine::Fault;
use fixtures::{GgmlDType, Mix, Recipe};

/// The file that shows a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fixture {
    /// The embedded model.
    Tiny,
    /// Two layers in F32.
    Floats,
}

impl Fixture {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Floats => "floats",
        }
    }

    /// The file.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Tiny => fixtures::TINY.to_vec(),
            Self::Floats => {
                let recipe = Recipe { mix: Mix::All(GgmlDType::F32), ..Recipe::small() };
                let mut file = std::io::Cursor::new(Vec::new());
                recipe.write(&mut file).expect("a recipe of ours is written into memory");
                file.into_inner()
            }
        }
    }
}

/// Where a fault has to show first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At a tap.
    Tap {
        /// Its name.
        tap: &'static str,
        /// Its layer.
        layer: Option<usize>,
        /// The step, 0 is the prompt.
        step: usize,
    },
    /// The engine refuses, by the name of the kernel.
    Refused {
        /// Which.
        kernel: &'static str,
    },
}

/// One fault with what shows it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The fault; none is the run that must not alarm.
    pub fault: Option<Fault>,
    /// What it is, in words.
    pub what: &'static str,
    /// The model.
    pub fixture: Fixture,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of a pass.
    pub ubatch: usize,
    /// Whether the cache is f16.
    pub half: bool,
    /// Where it has to show; nowhere for the run that must not alarm.
    pub due: Option<Due>,
    /// The causes that are right.
    pub labels: &'static [&'static str],
}

const fn tap(tap: &'static str, layer: usize, step: usize) -> Option<Due> {
    Some(Due::Tap { tap, layer: Some(layer), step })
}

const fn readout(tap: &'static str, step: usize) -> Option<Due> {
    Some(Due::Tap { tap, layer: None, step })
}

const fn refused(kernel: &'static str) -> Option<Due> {
    Some(Due::Refused { kernel })
}

/// A case on the embedded model with a short prompt.
const fn case(
    fault: Fault,
    what: &'static str,
    due: Option<Due>,
    labels: &'static [&'static str],
) -> Case {
    let (fixture, prompt_tokens, ubatch) = (Fixture::Tiny, 6, 512);
    Case { fault: Some(fault), what, fixture, prompt_tokens, ubatch, half: false, due, labels }
}

const fn floats(case: Case) -> Case {
    Case { fixture: Fixture::Floats, ..case }
}

/// More rows than a matrix core's tile path begins with.
const fn long(case: Case) -> Case {
    Case { prompt_tokens: 40, ..case }
}

const BOUNDS: &[&str] = &["out-of-bounds"];
const TRANSPOSED: &[&str] = &["transposed"];
const DEQUANTISATION: &[&str] = &["dequantisation"];
const NOT_FINITE: &[&str] = &["non-finite"];

/// All of them, in the order of the matrix, after the run that must not alarm.
pub const CASES: [Case; 23] = [
    Case { fault: None, ..case(Fault::WeightBit, "nothing: no alarm is due", None, &[]) },
    floats(case(
        Fault::EmbeddingTransposed,
        "token table read as [hidden][vocabulary]",
        readout("embed", 0),
        TRANSPOSED,
    )),
    case(Fault::KeyRowsOfQueries, "attn_k with the queries' rows", refused("product"), BOUNDS),
    floats(case(
        Fault::KvWeightsTransposed,
        "attn_k, attn_v transposed at load",
        tap("k", 0, 0),
        TRANSPOSED,
    )),
    case(
        Fault::MinimaFromScales,
        "Q4_K minima from scales[6..]",
        readout("embed", 0),
        DEQUANTISATION,
    ),
    case(Fault::LinearQ6K, "Q6_K unpacked linearly", tap("v", 2, 0), DEQUANTISATION),
    long(case(
        Fault::TileTransposed,
        "16x16 tiles stored transposed, rows > 32",
        tap("q", 0, 0),
        TRANSPOSED,
    )),
    long(case(
        Fault::OperandTransposed,
        "16x16 tiles read transposed, rows > 32",
        tap("q", 0, 0),
        &["contraction index"],
    )),
    case(
        Fault::CacheOfLayerZero,
        "decode reads the cache of layer 0",
        tap("attn_out", 1, 1),
        &["wrong layer"],
    ),
    case(
        Fault::OneKeyLess,
        "decode attends to pos keys",
        tap("attn_out", 0, 1),
        &["off by one (length)"],
    ),
    case(
        Fault::RotaryHalves,
        "half-split rotary pairs",
        tap("q_rope", 0, 0),
        &["rotary convention"],
    ),
    case(Fault::ScaledTwice, "queries scaled twice", tap("q", 0, 0), &["scaled"]),
    // Outputs are poisoned before each step, so what is not written is not what was there before.
    case(
        Fault::StaleLogits,
        "replays leave the logits unwritten",
        readout("logits", 2),
        &["uninitialised"],
    ),
    case(Fault::CacheHeadsOfQueries, "KV written with n_heads", refused("kv_write"), BOUNDS),
    case(
        Fault::LaunchSkipped,
        "attention is not launched",
        tap("attn_out", 0, 0),
        &["not written"],
    ),
    case(Fault::NanLogit, "one logit is NaN", readout("logits", 0), NOT_FINITE),
    case(Fault::NanLogits, "all logits are NaN", readout("logits", 0), NOT_FINITE),
    case(
        Fault::EpsilonDefault,
        "epsilon at another default",
        tap("attn_norm", 0, 0),
        &["wrong epsilon", "scaled"],
    ),
    Case {
        half: true,
        ..case(Fault::Truncation, "f32 to f16 by truncation", tap("keys", 0, 0), &["rounding"])
    },
    Case {
        prompt_tokens: 70,
        ubatch: 64,
        ..case(
            Fault::ChunkForgets,
            "second chunk ignores the cache",
            tap("attn_out", 0, 0),
            &["missing context"],
        )
    },
    case(Fault::BlockAsF16, "quantised attn_v taken for f16", refused("product_f16"), BOUNDS),
    case(Fault::ReadoutOfRowZero, "readout of row 0", readout("final_norm", 0), &["wrong row"]),
    case(Fault::WeightBit, "one bit of a weight flips", tap("up", 3, 0), &["memory corruption"]),
];
