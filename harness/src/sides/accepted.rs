//! Nothing reaches candle's reader that the strict reader has not accepted.
//!
//! candle's reader divides by an alignment of 0 and takes tensors that overlap; which layers and
//! sizes a model claims is compared with its file here, before anybody allocates by them.

use std::path::Path;

use engine::Config;
use engine::gguf::File;

/// Reads the header of a file strictly, and compares its tensors with its metadata.
///
/// # Errors
/// The first defect.
pub fn accepted(path: &Path) -> Result<(), engine::Error> {
    Config::from_gguf(&File::open(path)?).map(drop)
}
