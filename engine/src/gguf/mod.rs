//! A strict reader for GGUF files, over a memory-mapped file.
//!
//! Invariant: every count, length and offset is compared with the bytes that remain before it is
//! used; a [`File`] that exists has tensors inside the file, in order, without overlap.

mod cursor;
mod error;
mod mapped;
mod parse;
mod shown;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use error::Error;
pub use shown::Shown;
pub use types::TensorType;
pub use value::Value;

use mapped::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: TensorType,
    /// Dimensions in the file's order: the first is contiguous.
    pub dimensions: Vec<u64>,
    /// First byte in the file.
    pub offset_bytes: u64,
    /// Size of its data.
    pub size_bytes: u64,
}

/// A GGUF file, checked.
#[derive(Debug)]
pub struct File {
    bytes: Bytes,
    version: u32,
    alignment: u64,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    /// Index in `tensors` by name.
    by_name: BTreeMap<String, usize>,
}

macro_rules! accessors {
    ($($optional:ident, $required:ident, $variant:ident, $name:literal,
       $out:ty, $value:ident => $convert:expr;)*) => {$(
        #[doc = concat!("The ", $name, " under `key`, or `None` when the key is absent.")]
        ///
        /// # Errors
        /// [`Error::KeyType`] when the key has another type.
        pub fn $optional(&self, key: &str) -> Result<Option<$out>, Error> {
            match self.metadata.get(key) {
                None => Ok(None),
                Some(Value::$variant($value)) => Ok(Some($convert)),
                Some(other) => Err(Error::KeyType {
                    key: key.to_owned(),
                    expected: $name,
                    actual: other.type_name(),
                }),
            }
        }

        #[doc = concat!("The ", $name, " under `key`.")]
        ///
        /// # Errors
        /// [`Error::MissingKey`], or [`Error::KeyType`] when the key has another type.
        pub fn $required(&self, key: &str) -> Result<$out, Error> {
            self.$optional(key)?.ok_or_else(|| Error::MissingKey { key: key.to_owned() })
        }
    )*};
}

impl File {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// [`Error::Open`], or the first defect.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = Bytes::map(path);
        Self::new(bytes.map_err(|source| Error::Open { path: path.to_owned(), source })?)
    }

    /// Checks a file that is in memory.
    ///
    /// # Errors
    /// The first defect.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Self, Error> {
        let header = parse::parse(bytes.as_slice())?;
        let names = header.tensors.iter().enumerate();
        let by_name = names.map(|(index, tensor)| (tensor.name.clone(), index)).collect();
        Ok(Self {
            bytes,
            version: header.version,
            alignment: header.alignment,
            metadata: header.metadata,
            tensors: header.tensors,
            by_name,
        })
    }

    /// The format's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    /// All metadata.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, Error> {
        let missing = || Error::MissingTensor { tensor: name.to_owned() };
        self.find_tensor(name).ok_or_else(missing)
    }

    /// The tensor of a name, if it is there.
    pub fn find_tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|index| &self.tensors[*index])
    }

    /// A tensor's data.
    ///
    /// # Panics
    /// When `tensor` is from another, larger file.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let offset = usize::try_from(tensor.offset_bytes).expect("a mapped offset fits usize");
        let size = usize::try_from(tensor.size_bytes).expect("a mapped size fits usize");
        &self.bytes.as_slice()[offset..offset + size]
    }

    accessors! {
        optional_u32, required_u32, U32, "uint32", u32, value => *value;
        optional_f32, required_f32, F32, "float32", f32, value => *value;
        optional_bool, required_bool, Bool, "bool", bool, value => *value;
        optional_str, required_str, Str, "string", &str, value => value;
        optional_strings, required_strings, Strings, "array of string", &[String], value => value;
        optional_i32s, required_i32s, I32s, "array of int32", &[i32], value => value;
        optional_f32s, required_f32s, F32s, "array of float32", &[f32], value => value;
    }
}
