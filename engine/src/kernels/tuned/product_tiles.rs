//! `product_tiles`: what `product` computes, for many rows, on the integer matrix cores.

use crate::device::{Device, DeviceError, Kernel, View};
use crate::gguf::TensorType;
use crate::kernels::product::{Run, load_named};
use crate::kernels::{Kernels, Product, of_type};
use crate::options::Activations;

/// Outputs and rows of one block of threads; `TILES_OUTPUTS`, and `TILES_SUBTILES` times
/// `TILE_COLUMNS`, in `product_tiles.hip`.
const RUN: Run = Run { outputs: 128, rows: 64 };

macro_rules! names {
    ($suffix:literal) => {
        [
            concat!("product_tiles_", $suffix, "_i8"),
            concat!("product_tiles_", $suffix, "_i16"),
            concat!("product_tiles_", $suffix, "_i24"),
        ]
    };
}

/// Type, then the kernels for one, two and three digits.
const NAMES: [(TensorType, [&str; 3]); 10] = [
    (TensorType::Q4_0, names!("q4_0")),
    (TensorType::Q4_1, names!("q4_1")),
    (TensorType::Q5_0, names!("q5_0")),
    (TensorType::Q5_1, names!("q5_1")),
    (TensorType::Q8_0, names!("q8_0")),
    (TensorType::Q2K, names!("q2_k")),
    (TensorType::Q3K, names!("q3_k")),
    (TensorType::Q4K, names!("q4_k")),
    (TensorType::Q5K, names!("q5_k")),
    (TensorType::Q6K, names!("q6_k")),
];

/// The kernels, or none where the build has no lanes.
pub(in crate::kernels) fn load(
    device: &Device,
    activations: Activations,
) -> Result<Vec<(TensorType, Kernel)>, DeviceError> {
    if device.describe().wave_lanes > 1 {
        load_named(device, activations, &NAMES)
    } else {
        Ok(Vec::new())
    }
}

impl Kernels {
    /// `out[rows][outputs]`, the bits of [`Kernels::product`]. Only on devices whose waves have
    /// more than one lane.
    ///
    /// # Errors
    /// [`DeviceError`] when a view is too short for the shape.
    pub fn product_tiles(&self, input: Product<'_>, out: View<'_, f32>) -> Result<(), DeviceError> {
        self.launch_product(of_type(&self.product_tiles, input.kind), input, out, RUN)
    }
}
