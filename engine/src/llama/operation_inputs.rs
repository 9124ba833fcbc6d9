//! What an operation reads when it runs alone, by names that both kinds of device understand.

use crate::error::Error;
use std::collections::BTreeMap;

/// The inputs of one operation for all rows of a pass.
///
/// Names are those of taps (CONTRACT.md section 12), and `stream`, what a norm reads; `before` and
/// `branch`, whose sum that is; `keys` and `values`, as they go into the cache, of all positions up
/// to the last row's. A device that runs waves does several operations in one launch and reads what
/// the first of them reads; names that are not needed are not looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationInputs {
    /// The position of row 0.
    pub first_position: usize,
    /// The tokens of the rows; there are as many rows as tokens.
    pub tokens: Vec<u32>,
    /// Rows one after another, by name.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

impl OperationInputs {
    /// The tensor of a name, which has to have so many values.
    pub(super) fn tensor(
        &self,
        operation: &str,
        name: &str,
        count: usize,
    ) -> Result<&[f32], Error> {
        let refuse = |reason| Error::Operation { operation: operation.to_owned(), reason };
        let Some(values) = self.tensors.get(name) else {
            return Err(refuse(format!("its input `{name}` is missing")));
        };
        if values.len() == count {
            return Ok(values);
        }
        let actual = values.len();
        Err(refuse(format!("its input `{name}` has {actual} values, {count} are needed")))
    }
}
