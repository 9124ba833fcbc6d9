//! The weights that a device holds, read back and compared with the file, byte by byte.
//!
//! Matrices and norms are stored as they stand in the file, so the file's bytes are what is due.

use super::engine::Engine;
use super::weights::Weights;
use crate::Error;
use crate::device::Buffer;
use crate::gguf::{File, TensorInfo};

/// What is read back at once; tests go through several pieces with tensors of some kilobytes.
const PIECE_BYTES: u64 = if cfg!(test) { 1000 } else { 4 << 20 };

/// A tensor's name and BLAKE3 of its bytes, taken from the file when it was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    name: String,
    hash: blake3::Hash,
}

impl Sum {
    pub(super) fn of(file: &File, tensor: &TensorInfo) -> Self {
        Self { name: tensor.name.clone(), hash: blake3::hash(file.bytes(tensor)) }
    }
}

/// What was read back from the device and is the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedWeights {
    /// Tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// BLAKE3, in hexadecimal, over name and hash of each tensor as the device holds it.
    pub hash: String,
}

impl Engine {
    /// Reads every weight back from the device and compares it with `file`, the file that was
    /// loaded.
    ///
    /// # Errors
    /// [`Error::Weight`] with the first bad tensor, block and byte, [`Error::FileChanged`] where
    /// the device is right and the file is not what it was.
    pub fn verify_weights(&self, file: &File) -> Result<VerifiedWeights, Error> {
        let mut verified = VerifiedWeights { tensors: 0, bytes: 0, hash: String::new() };
        let mut all = blake3::Hasher::new();
        for (sum, buffer) in self.weights.sums.iter().zip(self.weights.buffers()) {
            assert_eq!(sum.name, buffer.name(), "hashes stand in the order of the upload");
            let found = compare(file, sum, buffer)?;
            all.update(sum.name.as_bytes()).update(found.as_bytes());
            verified.tensors += 1;
            verified.bytes += buffer.bytes();
        }
        assert_eq!(verified.tensors, self.weights.buffers().count(), "every weight has a hash");
        verified.hash = all.finalize().to_hex().to_string();
        Ok(verified)
    }

    /// Flips one bit of a weight on the device, as failing memory would: a fault to be found.
    ///
    /// # Errors
    /// A byte outside the tensor, or a device that refuses.
    ///
    /// # Panics
    /// When no weight has that name.
    #[doc(hidden)]
    pub fn flip_weight_bit(&self, tensor: &str, byte: u64, bit: u32) -> Result<(), Error> {
        let mut buffers = self.weights.buffers();
        let buffer = buffers.find(|buffer| buffer.name() == tensor).expect("a weight's name");
        let place = buffer.view::<u8>(byte, 1)?;
        let mut value = [0];
        place.read(&mut value)?;
        place.write(&[value[0] ^ (1 << bit)])?;
        Ok(())
    }
}

impl Weights {
    /// Every buffer in the order of its upload.
    pub(super) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        let layers = self.layers.iter().flat_map(|layer| {
            let matrices = layer.matrices().map(|matrix| &matrix.buffer).into_iter();
            matrices.chain([&layer.attn_norm, &layer.ffn_norm])
        });
        std::iter::once(&self.token_embd.buffer)
            .chain(layers)
            .chain(std::iter::once(&self.output_norm))
            .chain(self.output.as_ref().map(|matrix| &matrix.buffer))
    }
}

/// Compares one tensor and gives the hash of what the device holds.
fn compare(file: &File, sum: &Sum, buffer: &Buffer) -> Result<blake3::Hash, Error> {
    let tensor = file.tensor(&sum.name)?;
    let due = file.bytes(tensor);
    if due.len() as u64 != buffer.bytes() {
        return Err(Error::FileChanged { tensor: sum.name.clone() });
    }
    let mut hasher = blake3::Hasher::new();
    let mut first = None;
    let mut piece = Vec::new();
    for (index, due) in due.chunks(PIECE_BYTES as usize).enumerate() {
        let start = index as u64 * PIECE_BYTES;
        piece.resize(due.len(), 0);
        buffer.view::<u8>(start, due.len() as u64)?.read(&mut piece)?;
        hasher.update(&piece);
        if first.is_none() && piece != due {
            let differs = piece.iter().zip(due).position(|(device, file)| device != file);
            let at = differs.expect("the pieces differ");
            first = Some((start + at as u64, piece[at], due[at]));
        }
    }
    let found = hasher.finalize();
    let Some((byte, device, file)) = first else {
        // Equal to the file now, so only a file that changed in the meantime has another hash.
        return Ok(found);
    };
    let name = sum.name.clone();
    if found == sum.hash {
        return Err(Error::FileChanged { tensor: name });
    }
    let block = byte / tensor.kind.block_bytes();
    Err(Error::Weight { tensor: name, kind: tensor.kind.name(), block, byte, device, file })
}
