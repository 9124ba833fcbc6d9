//! How far `exact` and `stock` are from `wide`: three times at most.

use reference::WeightType;

use crate::checks::distance::check;
use crate::tiny::{Random, Tiny};

#[test]
fn tiny_models_are_as_near_as_candle() {
    for kind in WeightType::ALL {
        let file = Tiny::new(kind).write();
        let mut random = Random(13);
        check(kind.name(), &file.0, &random.tokens(32), &random.tokens(4));
    }
}
