//! The file of a recording: what the reference gave at each step, bit for bit, and a hash of it.
//!
//! The rows stand there whole, not their hashes: what diverges from a recording is shown with both
//! values, and the landscape, the next token and the canary come from it as from a live side.
//! **Invariant:** a file that is read is the one that was written, for the same model, prompt,
//! options and contract; anything else is an error before a side is loaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::hex;
use crate::report::files::write_bytes;

/// The number of this format.
const FORMAT: u32 = 1;
/// Length of the hash at the end.
const HASH_BYTES: usize = 32;
/// What both sides obey. Another text is another contract: what it changed cannot be told.
const CONTRACT: &str = include_str!("../../../CONTRACT.md");

/// Why a recording cannot stand in for the reference.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("cannot read the recording {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the recording {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was cut off or edited.
    #[error("the recording {} is damaged: its hash is not that of its contents", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// Its first line is none of ours.
    #[error("{} is no recording: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("the recording {} has format {actual}, this lockstep reads {FORMAT}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Its number.
        actual: u32,
    },
    /// It is of something else.
    #[error("the recording {} is of {what} {recorded}, this run has {asked}", path.display())]
    Other {
        /// Which.
        path: PathBuf,
        /// In what it differs.
        what: &'static str,
        /// What it was made with.
        recorded: String,
        /// What is due.
        asked: String,
    },
}

/// What the readouts of the reference depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingKey {
    /// Of the model file.
    pub model_sha256: String,
    /// Digits of an activation.
    pub activations: String,
    /// Type of the cache.
    pub kv: String,
    /// The most tokens to choose.
    pub max_tokens: usize,
    /// Whether the end-of-text token is passed.
    pub past_end: bool,
    /// The prompt.
    pub prompt_ids: Vec<u32>,
}

impl RecordingKey {
    /// The name of its file: two of the same name have the same key, format and contract, so that
    /// those of another contract are not found and stand in nobody's way.
    pub fn file_name(&self) -> String {
        self.name_under(CONTRACT)
    }

    fn name_under(&self, contract: &str) -> String {
        let contract = hex(Sha256::digest(contract));
        let text = serde_json::to_vec(&(FORMAT, contract, self)).expect("a key is plain data");
        let model = self.model_sha256.get(..8).unwrap_or_default();
        format!("{model}-{}.recording", &hex(Sha256::digest(text))[..16])
    }
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    contract_sha256: String,
    key: RecordingKey,
    build: String,
    hidden_count: usize,
    logits_count: usize,
    calls: Vec<Vec<u32>>,
}

/// What a reference gave at each step.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Who computed it.
    pub(super) build: String,
    /// Call after call.
    pub(super) entries: Vec<Entry>,
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What it appended.
    pub(super) tokens: Vec<u32>,
    /// The readout.
    pub(super) hidden: Vec<f32>,
    /// Its logits.
    pub(super) logits: Vec<f32>,
}

impl Recording {
    /// Reads a file and holds it to what is asked of it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(path: &Path, key: &RecordingKey) -> Result<Self, RecordingError> {
        let bytes = fs::read(path)
            .map_err(|source| RecordingError::Read { path: path.to_path_buf(), source })?;
        let damaged = || RecordingError::Damaged { path: path.to_path_buf() };
        let length = bytes.len().checked_sub(HASH_BYTES).ok_or_else(damaged)?;
        let (content, hash) = bytes.split_at(length);
        if Sha256::digest(content).as_slice() != hash {
            return Err(damaged());
        }
        let end = content.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let header: Header = serde_json::from_slice(&content[..end])
            .map_err(|source| RecordingError::Syntax { path: path.to_path_buf(), source })?;
        header.fits(path, key)?;
        let entries = header.entries(&content[end + 1..]).ok_or_else(damaged)?;
        Ok(Self { build: header.build, entries })
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.entries.len()
    }

    /// Writes it into a folder, whole or not at all; nothing if there is no step.
    ///
    /// # Errors
    /// [`RecordingError::Write`].
    pub fn write(
        &self,
        folder: &Path,
        key: RecordingKey,
    ) -> Result<Option<PathBuf>, RecordingError> {
        let name = key.file_name();
        let path = folder.join(&name);
        let Some(mut bytes) = self.bytes(key) else { return Ok(None) };
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        let write = || {
            fs::create_dir_all(folder)?;
            write_bytes(folder, &name, &bytes)
        };
        match write() {
            Ok(()) => Ok(Some(path)),
            Err(source) => Err(RecordingError::Write { path, source }),
        }
    }

    fn bytes(&self, key: RecordingKey) -> Option<Vec<u8>> {
        let first = self.entries.first()?;
        let header = Header {
            format: FORMAT,
            contract_sha256: hex(Sha256::digest(CONTRACT)),
            key,
            build: self.build.clone(),
            hidden_count: first.hidden.len(),
            logits_count: first.logits.len(),
            calls: self.entries.iter().map(|entry| entry.tokens.clone()).collect(),
        };
        let mut bytes = serde_json::to_vec(&header).expect("a header is plain data");
        bytes.push(b'\n');
        for entry in &self.entries {
            let values = entry.hidden.iter().chain(&entry.logits);
            bytes.extend(values.flat_map(|value| value.to_le_bytes()));
        }
        Some(bytes)
    }
}

impl Header {
    fn fits(&self, path: &Path, asked: &RecordingKey) -> Result<(), RecordingError> {
        let path = || path.to_path_buf();
        if self.format != FORMAT {
            return Err(RecordingError::Format { path: path(), actual: self.format });
        }
        let (key, contract) = (&self.key, hex(Sha256::digest(CONTRACT)));
        let ids = |ids: &[u32]| ids.len().to_string();
        for (what, recorded, asked) in [
            ("the contract with sha256", &self.contract_sha256, &contract),
            ("the model with sha256", &key.model_sha256, &asked.model_sha256),
            ("activations", &key.activations, &asked.activations),
            ("cache", &key.kv, &asked.kv),
            ("at most so many steps:", &key.max_tokens.to_string(), &asked.max_tokens.to_string()),
            ("past_end", &key.past_end.to_string(), &asked.past_end.to_string()),
            ("a prompt of so many tokens:", &ids(&key.prompt_ids), &ids(&asked.prompt_ids)),
        ] {
            if recorded != asked {
                let (recorded, asked) = (short(recorded), short(asked));
                return Err(RecordingError::Other { path: path(), what, recorded, asked });
            }
        }
        let (recorded, asked) = (&key.prompt_ids, &asked.prompt_ids);
        if let Some(at) = recorded.iter().zip(asked).position(|(one, two)| one != two) {
            let what = "a prompt with token";
            let (recorded, asked) = (format!("{} at place {at}", recorded[at]), asked[at]);
            return Err(RecordingError::Other {
                path: path(),
                what,
                recorded,
                asked: asked.to_string(),
            });
        }
        Ok(())
    }

    /// The rows, if there are exactly as many bytes as the counts say.
    fn entries(&self, bytes: &[u8]) -> Option<Vec<Entry>> {
        let row_bytes = self.hidden_count.checked_add(self.logits_count)?.checked_mul(4)?;
        if self.calls.len().checked_mul(row_bytes)? != bytes.len() || row_bytes == 0 {
            return None;
        }
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (words, _) = bytes.as_chunks::<4>();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        };
        let entry = |(tokens, bytes): (&Vec<u32>, &[u8])| {
            let (hidden, logits) = bytes.split_at(self.hidden_count * 4);
            let (hidden, logits) = (floats(hidden), floats(logits));
            Entry { tokens: tokens.clone(), hidden, logits }
        };
        Some(self.calls.iter().zip(bytes.chunks_exact(row_bytes)).map(entry).collect())
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(16) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_contract_has_other_recordings() {
        let key = RecordingKey {
            model_sha256: "0123456789".to_owned(),
            activations: "i24".to_owned(),
            kv: "f32".to_owned(),
            max_tokens: 1,
            past_end: false,
            prompt_ids: vec![1],
        };
        assert_eq!(key.file_name(), key.name_under(CONTRACT));
        assert_ne!(key.file_name(), key.name_under("another"));
    }
}
