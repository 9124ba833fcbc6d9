//! The witness of a divergence: one operation with everything it needs to run again.
//!
//! **Invariant:** a witness that is read is whole: every tensor has its length, and the file beside
//! it the hash that is written down.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::examine::Examination;
use super::{Finding, search::Block};
use crate::identity::{RunIdentity, hex};
use crate::sides::SideIdentity;
use crate::sides::question::OperationInputs;

/// The number of this format.
const FORMAT: u32 = 1;
/// The most values of a tensor that stand in the witness itself.
const HERE_VALUES_MAX: usize = 2048;

/// Why a witness cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It cannot be read.
    #[error("cannot read the witness {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the witness {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no witness.
    #[error("{} is no witness: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("the witness has format {actual}, this lockstep reads format {FORMAT}")]
    Format {
        /// Its number.
        actual: u32,
    },
    /// The file beside it is another.
    #[error("the file {} is not the one that the witness was written with", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// A tensor is not as long as it says.
    #[error("tensor `{name}` of the witness has not the {count} values that it should have")]
    Tensor {
        /// Its name.
        name: String,
        /// How many it should have.
        count: usize,
    },
    /// A word of an option that there is not.
    #[error("the witness says {option} `{value}`, which there is not")]
    Option {
        /// Which option.
        option: &'static str,
        /// Its word.
        value: String,
    },
}

/// What a witness's operation was run with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessOptions {
    /// The model as it was asked for; nothing is the embedded one.
    pub model: Option<String>,
    /// The word for the device.
    pub device: String,
    /// The word for the digits.
    pub activations: String,
    /// The word for the cache.
    pub kv: String,
    /// Positions of the cache.
    pub context_tokens: usize,
    /// Rows of a pass.
    pub ubatch: usize,
    /// A fault that was planted on purpose.
    pub plant: Option<String>,
}

/// A side by its three words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSide {
    /// The program.
    pub implementation: String,
    /// Where it ran.
    pub device: String,
    /// What was built.
    pub build: String,
}

impl WitnessSide {
    /// The same words.
    pub fn of(side: &SideIdentity) -> Self {
        let SideIdentity { implementation, device, build } = side.clone();
        Self { implementation, device, build }
    }
}

/// The model file by its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessModel {
    /// What it was called.
    pub name: String,
    /// Of the whole file.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Which operation, on which rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessPlace {
    /// Its tap.
    pub tap: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// The step of the run.
    pub step: usize,
    /// Prompt or decode.
    pub phase: String,
    /// The position of row 0.
    pub first_position: usize,
    /// The token of each row.
    pub tokens: Vec<u32>,
    /// Values in a row.
    pub width: usize,
}

/// Values as the bytes of their bits, lowest byte first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset_bytes: Option<usize>,
}

/// The file beside a witness that has its large tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary {
    file: String,
    bytes: usize,
    sha256: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessFile {
    format: u32,
    lockstep: String,
    summary: String,
    model: WitnessModel,
    engine: WitnessSide,
    reference: WitnessSide,
    options: WitnessOptions,
    place: WitnessPlace,
    binary: Option<Binary>,
    inputs: BTreeMap<String, Tensor>,
    expected: Tensor,
    actual: Tensor,
    finding: serde_json::Value,
}

/// One operation, with everything it needs to run again.
#[derive(Clone, Debug)]
pub struct Witness {
    /// What was found, in one sentence.
    pub summary: String,
    /// The model.
    pub model: WitnessModel,
    /// The engine that diverged.
    pub engine: WitnessSide,
    /// The reference it was compared with.
    pub reference: WitnessSide,
    /// What both were loaded with.
    pub options: WitnessOptions,
    /// Which operation.
    pub place: WitnessPlace,
    /// What it reads.
    pub inputs: OperationInputs,
    /// The reference's rows.
    pub expected: Vec<f32>,
    /// The engine's.
    pub actual: Vec<f32>,
    /// Everything that was said.
    pub finding: serde_json::Value,
}

impl Witness {
    /// What an examination showed, as a witness.
    pub fn new(
        examination: &Examination,
        finding: &Finding,
        identity: &RunIdentity,
        options: WitnessOptions,
    ) -> Self {
        let Block { tap, layer, first_position, tokens, width, expected, actual } =
            examination.found.block.clone();
        let phase = examination.found.phase.word().to_owned();
        let (step, tap) = (examination.found.step, tap.into_owned());
        Self {
            summary: finding.divergence.to_string(),
            model: WitnessModel {
                name: identity.model.name.clone(),
                sha256: identity.model.sha256.clone(),
                bytes: identity.model.bytes,
            },
            engine: WitnessSide::of(&identity.engine),
            reference: WitnessSide::of(&identity.references[0]),
            options,
            place: WitnessPlace { tap, layer, step, phase, first_position, tokens, width },
            inputs: (*examination.inputs).clone(),
            expected,
            actual,
            finding: serde_json::to_value(finding).expect("a finding is plain data"),
        }
    }

    /// Writes the witness, and its large tensors beside it.
    pub fn write(&self, path: &Path) -> Result<(), WitnessError> {
        let mut large = Vec::new();
        let mut put = |values: &[f32]| tensor(values, &mut large);
        let inputs = self.inputs.tensors.iter().map(|(name, rows)| (name.clone(), put(rows)));
        let inputs = inputs.collect();
        let (expected, actual) = (put(&self.expected), put(&self.actual));
        let write = |path: &Path, bytes: &[u8]| {
            let failed = |source| WitnessError::Write { path: path.to_path_buf(), source };
            fs::write(path, bytes).map_err(failed)
        };
        let beside = path.with_extension("bin");
        let binary = if large.is_empty() {
            None
        } else {
            write(&beside, &large)?;
            let name = beside.file_name().unwrap_or_default().to_string_lossy();
            Some(Binary { file: name.into_owned(), bytes: large.len(), sha256: sha256(&large) })
        };
        let file = WitnessFile {
            format: FORMAT,
            lockstep: env!("CARGO_PKG_VERSION").to_owned(),
            summary: self.summary.clone(),
            model: self.model.clone(),
            engine: self.engine.clone(),
            reference: self.reference.clone(),
            options: self.options.clone(),
            place: self.place.clone(),
            binary,
            inputs,
            expected,
            actual,
            finding: self.finding.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&file).expect("a witness is plain data");
        text.push(b'\n');
        write(path, &text)
    }

    /// Reads a witness and the file beside it.
    pub fn read(path: &Path) -> Result<Self, WitnessError> {
        let read = |path: &Path| {
            let failed = |source| WitnessError::Read { path: path.to_path_buf(), source };
            fs::read(path).map_err(failed)
        };
        let syntax = |source| WitnessError::Syntax { path: path.to_path_buf(), source };
        let file: WitnessFile = serde_json::from_slice(&read(path)?).map_err(syntax)?;
        if file.format != FORMAT {
            return Err(WitnessError::Format { actual: file.format });
        }
        let large = match &file.binary {
            None => Vec::new(),
            Some(binary) => {
                // A name, never a path: a witness reads nothing outside of its own folder.
                let name = Path::new(&binary.file).file_name().unwrap_or_default();
                let beside = path.with_file_name(name);
                let bytes = read(&beside)?;
                if bytes.len() != binary.bytes || sha256(&bytes) != binary.sha256 {
                    return Err(WitnessError::Damaged { path: beside });
                }
                bytes
            }
        };
        let values = |name: &str, tensor: &Tensor| tensor.values(name, &large);
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &file.inputs {
            tensors.insert(name.clone(), values(name, tensor)?);
        }
        let (expected, actual) =
            (values("expected", &file.expected)?, values("actual", &file.actual)?);
        let rows = file.place.tokens.len().checked_mul(file.place.width);
        if rows != Some(expected.len()) || rows != Some(actual.len()) {
            let count = rows.unwrap_or(usize::MAX);
            return Err(WitnessError::Tensor { name: "expected".to_owned(), count });
        }
        Ok(Self {
            summary: file.summary,
            model: file.model,
            engine: file.engine,
            reference: file.reference,
            options: file.options,
            inputs: OperationInputs {
                first_position: file.place.first_position,
                tokens: file.place.tokens.clone(),
                tensors,
            },
            place: file.place,
            expected,
            actual,
            finding: file.finding,
        })
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

fn tensor(values: &[f32], large: &mut Vec<u8>) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_bits().to_le_bytes());
    let count = values.len();
    if count <= HERE_VALUES_MAX {
        return Tensor { count, hex: Some(hex(bytes)), offset_bytes: None };
    }
    let offset_bytes = Some(large.len());
    large.extend(bytes);
    Tensor { count, hex: None, offset_bytes }
}

impl Tensor {
    fn values(&self, name: &str, large: &[u8]) -> Result<Vec<f32>, WitnessError> {
        let count = self.count;
        let wrong = || WitnessError::Tensor { name: name.to_owned(), count };
        let bytes = match (&self.hex, self.offset_bytes) {
            (Some(hex), None) => from_hex(hex).ok_or_else(wrong)?,
            (None, Some(offset)) => {
                let end = count.checked_mul(4).and_then(|bytes| bytes.checked_add(offset));
                let end = end.ok_or_else(wrong)?;
                large.get(offset..end).ok_or_else(wrong)?.to_vec()
            }
            _ => return Err(wrong()),
        };
        let (words, rest) = bytes.as_chunks::<4>();
        if words.len() != count || !rest.is_empty() {
            return Err(wrong());
        }
        Ok(words.iter().map(|word| f32::from_bits(u32::from_le_bytes(*word))).collect())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
