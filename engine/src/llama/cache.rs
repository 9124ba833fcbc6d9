//! The KV cache of every layer, f32 or f16, keys in tiles of 64 positions.

use super::Config;
use crate::device::{Buffer, Device, DeviceError};
use crate::kernels::KEY_TILE;
use crate::options::KvType;

/// Keys and values of all layers.
#[derive(Debug)]
pub(super) struct Cache {
    layers: Vec<(Buffer, Buffer)>,
    /// Positions allocated: the context rounded up to whole tiles.
    pub(super) positions: u32,
}

impl Cache {
    pub(super) fn allocate(
        device: &Device,
        config: &Config,
        kv: KvType,
        context_tokens: usize,
    ) -> Result<Self, DeviceError> {
        let tile = KEY_TILE as usize;
        let positions = context_tokens.div_ceil(tile) * tile;
        let values = positions as u64 * (config.kv_heads * config.head_size) as u64;
        let bytes = values * kv.element_bytes() as u64;
        let buffer =
            |what: &str, layer| device.allocate::<u8>(&format!("cache.{layer}.{what}"), bytes);
        let layers = (0..config.layers)
            .map(|layer| Ok((buffer("keys", layer)?, buffer("values", layer)?)))
            .collect::<Result<_, DeviceError>>()?;
        let positions = u32::try_from(positions).expect("the context was compared with 2^31");
        Ok(Self { layers, positions })
    }

    /// Poisons all of it: what no pass has written reads as NaN.
    pub(super) fn poison(&self) -> Result<(), DeviceError> {
        let mut buffers = self.layers.iter().flat_map(|(keys, values)| [keys, values]);
        buffers.try_for_each(|buffer| buffer.all::<u8>().poison())
    }

    /// As much as one layer has, for an operation that runs alone.
    pub(super) fn scratch(
        &self,
        device: &Device,
        layer: usize,
    ) -> Result<(Buffer, Buffer), DeviceError> {
        let (keys, values) = self.layer(layer);
        let same = |name, buffer: &Buffer| device.allocate::<u8>(name, buffer.bytes());
        Ok((same("scratch.keys", keys)?, same("scratch.values", values)?))
    }

    /// Puts other memory in the place of a layer's; gives what was there.
    pub(super) fn exchange(&mut self, layer: usize, other: (Buffer, Buffer)) -> (Buffer, Buffer) {
        std::mem::replace(&mut self.layers[layer], other)
    }

    /// Keys and values of one layer.
    pub(super) fn layer(&self, layer: usize) -> (&Buffer, &Buffer) {
        let (keys, values) = &self.layers[layer];
        (keys, values)
    }
}
