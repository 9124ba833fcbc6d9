//! Launchers of the tuned kernels: fast ways to what a plain kernel, or several, compute, bit for
//! bit. They are in the builds of GPUs and in the host's builds waves32 and waves64.

pub(super) mod chunk_sums;
pub(super) mod product_tiles;
#[cfg(test)]
mod tests;
