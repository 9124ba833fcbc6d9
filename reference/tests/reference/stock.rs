//! `stock` against candle-transformers' `quantized_llama`, bit for bit.

use reference::WeightType;

use crate::checks::quantized_llama::{check, in_child};
use crate::tiny::{Random, Tiny};

#[test]
fn tiny_models_agree_with_quantized_llama() {
    in_child("stock::tiny_models_agree_with_quantized_llama", || {
        for kind in WeightType::ALL {
            let mut random = Random(12);
            let tied = kind.block_values() == 32;
            let file = Tiny { tied, ..Tiny::new(kind) }.write();
            check(&file.0, &random.tokens(20), &random.tokens(4));
        }
    });
}
