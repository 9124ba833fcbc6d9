//! Header, metadata and tensor table of a file, every defect refused by name.

use super::cursor::Cursor;
use super::types::foreign_name;
use super::value::{ARRAY_ID, STRING_ID, scalar_type};
use super::{Error, Shown, TensorInfo, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a file says before its data.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
}

/// Smallest possible entries: a key of no bytes with a one-byte value; a tensor of no name.
const ENTRY_BYTES_SMALLEST: u64 = 8 + 4 + 1;
const TENSOR_BYTES_SMALLEST: u64 = 8 + 4 + 8 + 4 + 8;
const ALIGNMENT_DEFAULT: u64 = 32;
/// The longest names that the format allows.
const KEY_BYTES_MOST: u64 = 65535;
const TENSOR_NAME_BYTES_MOST: u64 = 64;
/// Four times the largest vocabulary known: whoever reads the file after this reader keeps each
/// element as a value of its own.
const ELEMENTS_MOST: u64 = 1 << 20;

/// Parses everything before the data and compares the data with the file's size.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Error> {
    let mut cursor = Cursor::new(bytes);
    let magic = &bytes[..bytes.len().min(4)];
    if magic != b"GGUF" {
        return Err(Error::Magic { found: magic.to_vec() });
    }
    cursor.take(4, "magic")?;
    let version = cursor.u32("version")?;
    if (1..=3).contains(&version.swap_bytes()) {
        return Err(Error::ByteOrder { version });
    }
    if !(2..=3).contains(&version) {
        return Err(Error::Version { version });
    }
    let tensor_count = cursor.u64("tensor count")?;
    let entry_count = cursor.count(ENTRY_BYTES_SMALLEST, "metadata count")?;
    let (remaining, most) = (cursor.remaining(), cursor.remaining() / TENSOR_BYTES_SMALLEST);
    if tensor_count > most {
        let field = "tensor count".to_owned();
        return Err(Error::Count { field, count: tensor_count, remaining, most });
    }
    let metadata = metadata(&mut cursor, entry_count)?;
    let alignment = alignment(&metadata)?;
    let mut tensors = tensors(&mut cursor, tensor_count)?;
    place(&mut tensors, cursor.offset(), alignment, bytes.len() as u64)?;
    Ok(Header { version, alignment, metadata, tensors })
}

fn metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>, Error> {
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.name("metadata key", KEY_BYTES_MOST)?;
        let id = cursor.u32("metadata type")?;
        let value = value(cursor, &key, id)?;
        if metadata.contains_key(&key) {
            return Err(Error::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn value(cursor: &mut Cursor<'_>, key: &str, id: u32) -> Result<Value, Error> {
    let field = || format!("metadata `{}`", Shown(key));
    Ok(match id {
        0 => Value::U8(u8::from_le_bytes(cursor.array(&field())?)),
        1 => Value::I8(i8::from_le_bytes(cursor.array(&field())?)),
        2 => Value::U16(u16::from_le_bytes(cursor.array(&field())?)),
        3 => Value::I16(i16::from_le_bytes(cursor.array(&field())?)),
        4 => Value::U32(u32::from_le_bytes(cursor.array(&field())?)),
        5 => Value::I32(i32::from_le_bytes(cursor.array(&field())?)),
        6 => Value::F32(f32::from_le_bytes(cursor.array(&field())?)),
        7 => Value::Bool(boolean(key, u8::from_le_bytes(cursor.array(&field())?))?),
        STRING_ID => Value::Str(cursor.string(&field())?),
        ARRAY_ID => array(cursor, key)?,
        10 => Value::U64(u64::from_le_bytes(cursor.array(&field())?)),
        11 => Value::I64(i64::from_le_bytes(cursor.array(&field())?)),
        12 => Value::F64(f64::from_le_bytes(cursor.array(&field())?)),
        _ => {
            return Err(Error::ValueType { key: key.to_owned(), id });
        }
    })
}

fn boolean(key: &str, value: u8) -> Result<bool, Error> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(Error::Bool { key: key.to_owned(), value }),
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, Error> {
    let field = format!("metadata `{}`", Shown(key));
    let length = format!("the length of {field}");
    let id = cursor.u32(&field)?;
    if id == ARRAY_ID {
        return Err(Error::NestedArray { key: key.to_owned() });
    }
    if id == STRING_ID {
        // A string of no bytes still has its length. The vector grows as strings are read, so
        // that a large count over empty strings allocates no more than the file's own size.
        let count = elements(cursor.count(8, &length)?, key)?;
        let strings: Result<Vec<String>, Error> =
            (0..count).map(|_| cursor.string(&field)).collect();
        return Ok(Value::Strings(strings?));
    }
    let Some((element, size)) = scalar_type(id) else {
        return Err(Error::ValueType { key: key.to_owned(), id });
    };
    let count = elements(cursor.count(size, &length)?, key)?;
    let bytes = cursor.take(count * size, &field)?;
    let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    Ok(match element {
        "int32" => Value::I32s(words().map(i32::from_le_bytes).collect()),
        "float32" => Value::F32s(words().map(f32::from_le_bytes).collect()),
        "bool" => {
            bytes.iter().try_for_each(|value| boolean(key, *value).map(drop))?;
            Value::Array { element, count }
        }
        _ => Value::Array { element, count },
    })
}

fn elements(count: u64, key: &str) -> Result<u64, Error> {
    if count <= ELEMENTS_MOST {
        return Ok(count);
    }
    Err(Error::ArrayLength { key: key.to_owned(), count, most: ELEMENTS_MOST })
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, Error> {
    let key = "general.alignment";
    let alignment = match metadata.get(key) {
        None => return Ok(ALIGNMENT_DEFAULT),
        Some(Value::U32(value)) => u64::from(*value),
        Some(other) => {
            let (key, actual) = (key.to_owned(), other.type_name());
            return Err(Error::KeyType { key, expected: "uint32", actual });
        }
    };
    if alignment.is_power_of_two() && (8..=65536).contains(&alignment) {
        return Ok(alignment);
    }
    Err(Error::Alignment { alignment })
}

/// The table with offsets as in the file, relative to the data.
fn tensors(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<TensorInfo>, Error> {
    let mut names = BTreeSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let tensor = tensor(cursor)?;
        if !names.insert(tensor.name.clone()) {
            return Err(Error::DuplicateTensor { tensor: tensor.name });
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn tensor(cursor: &mut Cursor<'_>) -> Result<TensorInfo, Error> {
    let name = cursor.name("tensor name", TENSOR_NAME_BYTES_MOST)?;
    let field = format!("tensor `{}`", Shown(&name));
    let count = cursor.u32(&field)?;
    if !(1..=4).contains(&count) {
        return Err(Error::Dimensions { tensor: name, count });
    }
    let mut dimensions = Vec::with_capacity(4);
    for _ in 0..count {
        dimensions.push(cursor.u64(&field)?);
    }
    let id = cursor.u32(&field)?;
    let offset_bytes = cursor.u64(&field)?;
    if dimensions.contains(&0) {
        return Err(Error::ZeroDimension { tensor: name, dimensions });
    }
    let Some(kind) = TensorType::from_id(id) else {
        return Err(Error::TensorType { tensor: name, id, name: foreign_name(id) });
    };
    let (width, block) = (dimensions[0], kind.block_values());
    if !width.is_multiple_of(block) {
        return Err(Error::Block { tensor: name, width, kind: kind.name(), block });
    }
    let row_bytes = (width / block).checked_mul(kind.block_bytes());
    let size = dimensions[1..]
        .iter()
        .try_fold(row_bytes, |size, dimension| size.map(|size| size.checked_mul(*dimension)));
    let Some(Some(size_bytes)) = size else {
        return Err(Error::SizeOverflow { tensor: name, dimensions });
    };
    Ok(TensorInfo { name, kind, dimensions, offset_bytes, size_bytes })
}

/// Turns offsets into file offsets after comparing each with the running aligned sum.
fn place(
    tensors: &mut [TensorInfo],
    header_end: u64,
    alignment: u64,
    file_end: u64,
) -> Result<(), Error> {
    // Sums of sizes cannot overflow: each tensor is compared with the end of the file first.
    let data = header_end.next_multiple_of(alignment);
    let mut expected = 0_u64;
    let mut last_end = header_end;
    for tensor in tensors {
        if tensor.offset_bytes != expected {
            let (tensor, offset) = (tensor.name.clone(), tensor.offset_bytes);
            return Err(Error::Offset { tensor, offset, expected });
        }
        let offset = data + expected;
        let end = offset.checked_add(tensor.size_bytes).filter(|end| *end <= file_end);
        let Some(end) = end else {
            let (tensor, needed) = (tensor.name.clone(), tensor.size_bytes);
            return Err(Error::TensorBytes { tensor, needed, offset, end: file_end });
        };
        tensor.offset_bytes = offset;
        last_end = end;
        expected = (end - data).next_multiple_of(alignment);
    }
    let padding_end = last_end.next_multiple_of(alignment);
    if file_end > padding_end {
        return Err(Error::Trailing { count: file_end - last_end, end: last_end });
    }
    Ok(())
}
