//! Where a fault has to show on a given model, from the shapes and types of its tensors; or why it
//! cannot show there.

use std::collections::BTreeMap;

use engine::gguf::{File, TensorType};
use engine::{Config, Error, Fault};

use super::cases::{Case, Due};

/// The matrices of a layer and the taps of their products, in the order of computation.
const PRODUCTS: [(&str, &str); 7] = [
    ("attn_q", "q"),
    ("attn_k", "k"),
    ("attn_v", "v"),
    ("attn_output", "wo"),
    ("ffn_gate", "gate"),
    ("ffn_up", "up"),
    ("ffn_down", "down"),
];

/// The epsilon that the fault of a default takes.
const EPSILON_DEFAULT: f32 = 1e-6;

/// What a model is to its faults.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its shape.
    pub config: Config,
    kinds: BTreeMap<String, TensorType>,
}

/// A product of the model: where its rows show, and the type of its matrix.
#[derive(Clone, Copy)]
struct Product {
    tap: &'static str,
    layer: usize,
    kind: TensorType,
}

impl Product {
    /// Values of a block and of a group in which it reads activations in fixed point (CONTRACT.md
    /// section 5); floats read them as they are.
    fn layout(self) -> Option<(u64, u64)> {
        let group = if self.kind == TensorType::Q2K { 16 } else { 32 };
        is_of_blocks(self.kind).then(|| (self.kind.block_values(), group))
    }

    fn due(self) -> Due {
        Due::Tap { tap: self.tap, layer: Some(self.layer), step: 0 }
    }
}

impl Facts {
    /// Of a file that the engine reads.
    pub fn of(file: &File) -> Result<Self, Error> {
        let config = Config::from_gguf(file)?;
        let kinds = file.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.kind));
        Ok(Self { config, kinds: kinds.collect() })
    }

    fn kind(&self, name: &str) -> TensorType {
        self.kinds.get(name).copied().unwrap_or(TensorType::F32)
    }

    fn table(&self) -> TensorType {
        self.kind("token_embd.weight")
    }

    fn products(&self) -> impl Iterator<Item = Product> {
        (0..self.config.layers).flat_map(move |layer| {
            PRODUCTS.map(|(stem, tap)| Product {
                tap,
                layer,
                kind: self.kind(&format!("blk.{layer}.{stem}.weight")),
            })
        })
    }

    /// The first tap that reads a tensor of these types.
    fn reader(&self, kinds: &[TensorType]) -> Option<Due> {
        if kinds.contains(&self.table()) {
            return Some(Due::Tap { tap: "embed", layer: None, step: 0 });
        }
        let inside = self.products().find(|product| kinds.contains(&product.kind));
        let readout = Due::Tap { tap: "logits", layer: None, step: 0 };
        let output = kinds.contains(&self.kind("output.weight")) && !self.config.tied;
        inside.map(Product::due).or_else(|| output.then_some(readout))
    }

    /// The first product of a tuned pass whose activations a launch of their own brings into fixed
    /// point: of neighbours that read one activation in several layouts all but the first layout,
    /// and what attention gave.
    fn quantised_alone(&self) -> Option<Product> {
        let all: Vec<Product> = self.products().collect();
        let (layers, _) = all.as_chunks::<7>();
        layers.iter().find_map(|[q, k, v, wo, gate, up, _]| {
            let later = |group: &[&Product]| {
                let first = group.iter().filter_map(|product| product.layout()).min();
                let other =
                    |product: &&&Product| product.layout().is_some() && product.layout() != first;
                group.iter().find(other).map(|product| **product)
            };
            let attended = wo.layout().map(|_| *wo);
            later(&[q, k, v]).or(attended).or_else(|| later(&[gate, up]))
        })
    }
}

fn is_of_blocks(kind: TensorType) -> bool {
    kind.block_values() > 1
}

fn tap(tap: &'static str, layer: usize, step: usize) -> Due {
    Due::Tap { tap, layer: Some(layer), step }
}

fn readout(tap: &'static str, step: usize) -> Due {
    Due::Tap { tap, layer: None, step }
}

/// A case as it stands on a model: the one that raises no alarm is due nowhere on any.
///
/// # Errors
/// Why its fault cannot show there, in words.
pub fn on(case: &Case, facts: &Facts, waves: bool) -> Result<Case, String> {
    let due = case.fault.map(|fault| due(fault, facts, waves)).transpose()?;
    Ok(Case { due, ..*case })
}

fn only_if(holds: bool, due: Due, otherwise: impl Into<String>) -> Result<Due, String> {
    if holds { Ok(due) } else { Err(otherwise.into()) }
}

/// Where a fault is due, on plain kernels or on those of waves.
///
/// # Errors
/// Why it does not apply, in words.
pub fn due(fault: Fault, facts: &Facts, waves: bool) -> Result<Due, String> {
    let config = &facts.config;
    let grouped = config.heads != config.kv_heads;
    let ungrouped = || format!("{} heads of queries and as many of keys", config.heads);
    match fault {
        Fault::EmbeddingTransposed | Fault::KvWeightsTransposed => transposed(fault, facts),
        Fault::MinimaFromScales | Fault::LinearQ6K => of_a_type(fault, facts, waves),
        Fault::TileTransposed | Fault::OperandTransposed | Fault::ScaledTwice => {
            in_products(fault, facts, waves)
        }
        Fault::KeyRowsOfQueries => {
            only_if(grouped, Due::Refused { kernel: "product" }, ungrouped())
        }
        Fault::CacheHeadsOfQueries => {
            let kernel = if waves { "rope_kv_write" } else { "kv_write" };
            only_if(grouped, Due::Refused { kernel }, ungrouped())
        }
        Fault::CacheOfLayerZero => {
            only_if(config.layers > 1, tap("attn_out", 1, 1), "there is one layer only")
        }
        Fault::RotaryHalves => only_if(
            config.rope_dimensions == config.head_size,
            tap("q_rope", 0, 0),
            "a part of each head rotates only",
        ),
        Fault::EpsilonDefault => {
            let otherwise = config.epsilon.to_bits() != EPSILON_DEFAULT.to_bits();
            only_if(otherwise, tap("attn_norm", 0, 0), "epsilon is that default")
        }
        Fault::BlockAsF16 => {
            let kind = facts.kind("blk.0.attn_v.weight");
            let due = Due::Refused { kernel: "product_f16" };
            let words = || format!("attn_v of layer 0 is {}, not of blocks", kind.name());
            only_if(is_of_blocks(kind), due, words())
        }
        Fault::WeightBit => Ok(tap("up", config.layers - 1, 0)),
        Fault::OneKeyLess => Ok(tap("attn_out", 0, 1)),
        Fault::LaunchSkipped | Fault::ChunkForgets => Ok(tap("attn_out", 0, 0)),
        Fault::Truncation => Ok(tap("keys", 0, 0)),
        Fault::StaleLogits => Ok(readout("logits", 2)),
        Fault::NanLogit | Fault::NanLogits => Ok(readout("logits", 0)),
        Fault::ReadoutOfRowZero => Ok(readout("final_norm", 0)),
    }
}

/// A tensor read across: block by block, so one block a row is the same either way.
fn transposed(fault: Fault, facts: &Facts) -> Result<Due, String> {
    let (kind, due, tensor) = match fault {
        Fault::EmbeddingTransposed => (facts.table(), readout("embed", 0), "the token table"),
        _ => (facts.kind("blk.0.attn_k.weight"), tap("k", 0, 0), "attn_k"),
    };
    let several = facts.config.hidden as u64 > kind.block_values();
    only_if(several, due, format!("a row of {tensor} is one block of {}", kind.name()))
}

/// A block of one type that is unpacked wrong.
fn of_a_type(fault: Fault, facts: &Facts, waves: bool) -> Result<Due, String> {
    let (kinds, words): (&[TensorType], _) = match fault {
        Fault::LinearQ6K => (&[TensorType::Q6K], "Q6_K"),
        _ => (&[TensorType::Q4K, TensorType::Q5K], "Q4_K or Q5_K"),
    };
    let due = facts.reader(kinds).ok_or_else(|| format!("no tensor is of {words}"))?;
    let words = "not on this device: its products unpack blocks with code of their own";
    only_if(!waves || fault.is_on_waves(facts.table()), due, words)
}

/// A product, or how its activations come into fixed point.
fn in_products(fault: Fault, facts: &Facts, waves: bool) -> Result<Due, String> {
    if fault == Fault::ScaledTwice && waves {
        // Where the tuned kernels have the scale in hand.
        return Ok(tap("q_rope", 0, 0));
    }
    let product = match fault {
        Fault::OperandTransposed if waves => facts.quantised_alone(),
        Fault::ScaledTwice => {
            let config = &facts.config;
            let square = config.heads * config.head_size == config.hidden;
            facts.products().find(|product| {
                square && product.layout().is_some() && matches!(product.tap, "q" | "wo")
            })
        }
        _ => facts.products().find(|product| product.layout().is_some()),
    };
    product.map(Product::due).ok_or_else(|| match fault {
        Fault::ScaledTwice => "no matrix of blocks is as high as it is wide".to_owned(),
        _ => "no matrix is of blocks".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::subject::Subject;
    use super::*;

    #[test]
    fn the_rule_says_of_the_fixtures_what_was_written_down_for_them() {
        for case in CASES {
            let facts = Subject::fixture(case.fixture).unwrap().facts;
            let found = on(&case, &facts, false).map(|case| case.due);
            assert_eq!(found, Ok(case.due), "{}", case.what);
        }
    }

    #[test]
    fn what_cannot_show_is_said_with_the_reason() {
        let mut facts = Subject::fixture(super::super::cases::Fixture::Floats).unwrap().facts;
        let why = |facts: &Facts, fault| due(fault, facts, false).unwrap_err();
        assert_eq!(why(&facts, Fault::LinearQ6K), "no tensor is of Q6_K");
        assert_eq!(why(&facts, Fault::TileTransposed), "no matrix is of blocks");
        assert_eq!(why(&facts, Fault::BlockAsF16), "attn_v of layer 0 is F32, not of blocks");
        facts.config.kv_heads = facts.config.heads;
        assert!(why(&facts, Fault::KeyRowsOfQueries).ends_with("as many of keys"));
        facts.config.epsilon = EPSILON_DEFAULT;
        assert_eq!(why(&facts, Fault::EpsilonDefault), "epsilon is that default");
    }
}
