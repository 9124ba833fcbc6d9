//! What is asked of every model, the small ones made here and the real one.

pub(crate) mod distance;
pub(crate) mod quantized_llama;
pub(crate) mod splits;
