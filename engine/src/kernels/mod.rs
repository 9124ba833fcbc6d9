//! Launchers: one file an operation, beside the kernel of the same stem in engine/kernels.
//!
//! A launcher says how far its kernel reaches into every argument, as a function of the shape;
//! the device asserts that before the launch. Shapes are in the comments as `[rows][width]`.

mod attention;
mod embed;
mod kv_write;
mod product;
mod product_float;
mod quantise;
mod residual;
mod rms_norm;
mod rope;
mod swiglu;
mod tuned;

pub use attention::Attention;
pub use embed::Embed;
pub use kv_write::KvWrite;
pub use product::Product;
pub use product_float::ProductFloat;
pub use quantise::{FixedPoint, Quantise};
pub use rms_norm::RmsNorm;
pub use rope::Rope;
pub use tuned::{
    Branch, Chunks, Gated, HashTensor, NormQuantise, ProductWave, RopeKvWrite, Rotated, RowDigest,
    SwigluQuantise, WaveMatrix, arrivals_count, chunks_count, gate_arrivals_count, split_chunks,
    split_values,
};

pub(crate) use attention::HEAD_SIZE_LARGEST;
pub(crate) use kv_write::KEY_TILE;
pub(crate) use product::activation_group;
pub(crate) use tuned::{HASH_TENSORS, WAVE_MATRICES};

use crate::device::{Access, Device, DeviceError, Grid, Kernel, Pool, View};
use crate::gguf::TensorType;
use crate::options::{Activations, KvType};

/// Where a pass stands in its sequence. Kernels read it from the device, so that a captured launch
/// can be replayed at another position.
#[derive(Clone, Copy, Debug)]
pub struct Position<'a> {
    /// `[1]`: the position of row 0.
    pub first: View<'a, u32>,
    /// The largest value that `first` will have when the launch, or a replay of it, runs: what the
    /// extents are compared with.
    pub largest: u32,
}

impl Position<'_> {
    fn access(&self) -> Access {
        Access::read("position", self.first, 1)
    }
}

/// Every kernel a forward pass launches, found once at load.
#[derive(Debug)]
pub struct Kernels {
    device: Device,
    activations: Activations,
    kv: KvType,
    multiprocessors: u32,
    pool: Option<Pool>,
    attention: Kernel,
    embed: Vec<(TensorType, Kernel)>,
    kv_write: Kernel,
    product: Vec<(TensorType, Kernel)>,
    product_float: Vec<(TensorType, Kernel)>,
    quantise: Kernel,
    residual: Kernel,
    rms_norm: Kernel,
    rope: Kernel,
    swiglu: Kernel,
    /// Where the device runs waves.
    tuned: Option<tuned::Tuned>,
}

impl Kernels {
    /// Finds all kernels in the device's build.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`] when the build lacks one, or has it with other arguments.
    pub fn load(
        device: &Device,
        activations: Activations,
        kv: KvType,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            device: device.clone(),
            activations,
            kv,
            multiprocessors: device.attributes().multiprocessors,
            pool: device.attributes().pool,
            attention: attention::load(device, kv)?,
            embed: embed::load(device)?,
            kv_write: kv_write::load(device, kv)?,
            product: product::load(device, activations)?,
            product_float: product_float::load(device)?,
            quantise: quantise::load(device)?,
            residual: residual::load(device)?,
            rms_norm: rms_norm::load(device)?,
            rope: rope::load(device)?,
            swiglu: swiglu::load(device)?,
            tuned: if device.describe().wave_lanes > 1 {
                Some(tuned::Tuned::load(device, activations, kv)?)
            } else {
                None
            },
        })
    }

    /// The device the kernels were found on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Multiprocessors of the device.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// Digits of an activation in the products of this set.
    pub fn activations(&self) -> Activations {
        self.activations
    }
}

/// Values in an activation block of a quantised type, or `None` for a float type.
pub fn activation_block(kind: TensorType) -> Option<u32> {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => None,
        TensorType::Q4_0
        | TensorType::Q4_1
        | TensorType::Q5_0
        | TensorType::Q5_1
        | TensorType::Q8_0 => Some(32),
        TensorType::Q2K | TensorType::Q3K | TensorType::Q4K | TensorType::Q5K | TensorType::Q6K => {
            Some(256)
        }
    }
}

/// The kernel of a type; every type is in the list by construction.
fn of_type(kernels: &[(TensorType, Kernel)], kind: TensorType) -> &Kernel {
    let found = kernels.iter().find(|(candidate, _)| *candidate == kind);
    &found.unwrap_or_else(|| panic!("no kernel for {}", kind.name())).1
}

/// A grid of `x` by `y` blocks, refused when it is empty or too large for a launch.
fn grid(kernel: &Kernel, x: u64, y: u64) -> Result<Grid, DeviceError> {
    let shape = |what, value| DeviceError::Shape {
        kernel: kernel.name().to_owned(),
        what,
        value,
        allowed: "1 to 2147483647 are served",
    };
    let served =
        |value: u64| u32::try_from(value).ok().filter(|value| (1..1 << 31).contains(value));
    Ok(Grid {
        x: served(x).ok_or_else(|| shape("grid x", x))?,
        y: served(y).ok_or_else(|| shape("grid y", y))?,
    })
}

/// Refuses a quantity that the kernel does not serve.
fn require(
    kernel: &Kernel,
    holds: bool,
    what: &'static str,
    value: u32,
    allowed: &'static str,
) -> Result<(), DeviceError> {
    if holds {
        return Ok(());
    }
    let kernel = kernel.name().to_owned();
    Err(DeviceError::Shape { kernel, what, value: u64::from(value), allowed })
}
