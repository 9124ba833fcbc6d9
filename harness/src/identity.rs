//! What a run was: model, sides, options. It stands first in every file a run writes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::sides::{SideIdentity, TapLevel};

/// Everything that two equal runs have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunIdentity {
    /// The version of lockstep.
    pub lockstep: &'static str,
    /// The model file.
    pub model: ModelIdentity,
    /// The engine: what ran, not what was asked for.
    pub engine: SideIdentity,
    /// The references, the judge first.
    pub references: Vec<SideIdentity>,
    /// What was asked for.
    pub options: OptionsIdentity,
}

/// A model file by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelIdentity {
    /// The name it was asked by, or the name of the file without its folder.
    pub name: String,
    /// Of the whole file.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// The options of a run, as far as they can change a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OptionsIdentity {
    /// The device that was asked for.
    pub device: String,
    /// Which reference judges.
    pub reference: String,
    /// Digits of an activation.
    pub activations: String,
    /// Type of the cache.
    pub kv: String,
    /// Who chooses the next token.
    pub drive: String,
    /// Tokens of one chunk.
    pub ubatch: usize,
    /// Positions of the cache.
    pub context_tokens: usize,
    /// What is watched.
    pub tap: TapLevel,
    /// Threads of each side.
    pub threads: usize,
    /// The most tokens to choose.
    pub max_tokens: usize,
    /// Whether the end-of-text token is passed.
    pub past_end: bool,
    /// Whether the engine's buffers have guard zones and are poisoned before they are written.
    pub checking: bool,
}

impl ModelIdentity {
    /// Reads the whole file once.
    pub fn of_file(name: String, path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
        let sha256 = hex(hasher.finalize());
        Ok(Self { name, sha256, bytes })
    }
}

/// Bytes as people write hashes: two digits each.
pub(crate) fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_all_of_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        let identity = ModelIdentity::of_file("abc".to_owned(), file.path()).unwrap();
        // The example of FIPS 180-2.
        assert_eq!(
            identity.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(identity.bytes, 3);
    }
}
