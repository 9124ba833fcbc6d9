//! One variant for each defect of a file.

use super::Shown;
use std::path::PathBuf;

/// Why a file is not a GGUF this reader accepts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another format.
    #[error("not a GGUF file: it starts with {found:02x?}, not `GGUF`")]
    Magic {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A version this reader does not know.
    #[error("GGUF version {version} is not supported: 2 and 3 are, little endian")]
    Version {
        /// The file's version.
        version: u32,
    },
    /// A file written for machines of the other byte order.
    #[error(
        "GGUF version {version} is {} in the other byte order: convert the model to little endian",
        version.swap_bytes()
    )]
    ByteOrder {
        /// The version as this machine reads it.
        version: u32,
    },
    /// The file ends inside a field.
    #[error("{field} at byte {offset} needs {needed} bytes, but the file ends at {end}")]
    Truncated {
        /// What was being read.
        field: String,
        /// Where it starts.
        offset: u64,
        /// Its size.
        needed: u64,
        /// Size of the file.
        end: u64,
    },
    /// A count that the rest of the file cannot hold.
    #[error("{field} is {count}, but the {remaining} bytes after it hold at most {most}")]
    Count {
        /// What is counted.
        field: String,
        /// The count.
        count: u64,
        /// Bytes that remain.
        remaining: u64,
        /// The largest count that could fit.
        most: u64,
    },
    /// Bytes that are not UTF-8 where text is due.
    #[error("{field} at byte {offset} is not UTF-8")]
    Utf8 {
        /// What was being read.
        field: String,
        /// Where its bytes start.
        offset: u64,
    },
    /// A key or a tensor name that is empty or longer than the format allows.
    #[error("{what} at byte {offset} has {length} bytes: 1 to {most} are allowed")]
    NameLength {
        /// What was being read.
        what: &'static str,
        /// Where its length stands.
        offset: u64,
        /// Its length.
        length: u64,
        /// The longest that is allowed.
        most: u64,
    },
    /// An array longer than any vocabulary.
    #[error("metadata `{}` has {count} elements: at most {most} are read", Shown(key))]
    ArrayLength {
        /// The key.
        key: String,
        /// Its elements.
        count: u64,
        /// The most that are read.
        most: u64,
    },
    /// An unknown metadata type.
    #[error("metadata `{}` has the unknown type {id}", Shown(key))]
    ValueType {
        /// The key.
        key: String,
        /// The type id.
        id: u32,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("metadata `{}` is a boolean of value {value}: 0 and 1 are allowed", Shown(key))]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        value: u8,
    },
    /// An array of arrays.
    #[error("metadata `{}` is an array of arrays, which no model file needs", Shown(key))]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A key twice.
    #[error("metadata `{}` stands twice in the file", Shown(key))]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// An alignment that is no alignment.
    #[error("general.alignment is {alignment}: a power of two from 8 to 65536 is needed")]
    Alignment {
        /// The file's value.
        alignment: u64,
    },
    /// A tensor name twice.
    #[error("tensor `{}` stands twice in the file", Shown(tensor))]
    DuplicateTensor {
        /// The name.
        tensor: String,
    },
    /// Too few or too many dimensions.
    #[error("tensor `{}` has {count} dimensions: 1 to 4 are allowed", Shown(tensor))]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// The count.
        count: u32,
    },
    /// A dimension of 0.
    #[error("tensor `{}` has a dimension of 0: {dimensions:?}", Shown(tensor))]
    ZeroDimension {
        /// The tensor.
        tensor: String,
        /// All dimensions.
        dimensions: Vec<u64>,
    },
    /// More values than 64 bits count.
    #[error("tensor `{}` of {dimensions:?} has more bytes than 64 bits count", Shown(tensor))]
    SizeOverflow {
        /// The tensor.
        tensor: String,
        /// All dimensions.
        dimensions: Vec<u64>,
    },
    /// A type this engine does not compute.
    #[error("tensor `{}` has type {id} ({name}), which is not supported", Shown(tensor))]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type id.
        id: u32,
        /// Its name elsewhere.
        name: &'static str,
    },
    /// A row that is no whole number of blocks.
    #[error(
        "tensor `{}` has rows of {width} values, {kind} needs a multiple of {block}",
        Shown(tensor)
    )]
    Block {
        /// The tensor.
        tensor: String,
        /// Its first dimension.
        width: u64,
        /// Its type.
        kind: &'static str,
        /// Values in a block.
        block: u64,
    },
    /// An offset that is not where the tensor before it ends, rounded up to the alignment.
    #[error(
        "tensor `{}` is at offset {offset}, the tensors before it end at {expected}",
        Shown(tensor)
    )]
    Offset {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The running aligned sum.
        expected: u64,
    },
    /// Data beyond the end of the file.
    #[error(
        "tensor `{}` needs {needed} bytes at offset {offset}, but the file ends at {end}",
        Shown(tensor)
    )]
    TensorBytes {
        /// The tensor.
        tensor: String,
        /// Its size.
        needed: u64,
        /// Its offset in the file.
        offset: u64,
        /// Size of the file.
        end: u64,
    },
    /// Bytes after the last tensor.
    #[error("{count} bytes follow the last tensor, which ends at {end}: at most padding may")]
    Trailing {
        /// How many.
        count: u64,
        /// Where the last tensor ends.
        end: u64,
    },
    /// A key that is needed and absent.
    #[error("metadata `{}` is missing", Shown(key))]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key of another type.
    #[error("metadata `{}` is {actual}, {expected} is needed", Shown(key))]
    KeyType {
        /// The key.
        key: String,
        /// The type that is needed.
        expected: &'static str,
        /// The type in the file.
        actual: &'static str,
    },
    /// A tensor that is needed and absent.
    #[error("tensor `{}` is missing", Shown(tensor))]
    MissingTensor {
        /// The name.
        tensor: String,
    },
}
