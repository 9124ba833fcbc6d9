//! Metadata values, by their type in the file.

use super::Shown;
use std::fmt::{self, Display};

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `uint8`.
    U8(u8),
    /// `int8`.
    I8(i8),
    /// `uint16`.
    U16(u16),
    /// `int16`.
    I16(i16),
    /// `uint32`.
    U32(u32),
    /// `int32`.
    I32(i32),
    /// `float32`.
    F32(f32),
    /// `bool`.
    Bool(bool),
    /// `string`.
    Str(String),
    /// `uint64`.
    U64(u64),
    /// `int64`.
    I64(i64),
    /// `float64`.
    F64(f64),
    /// `array` of strings.
    Strings(Vec<String>),
    /// `array` of `int32`.
    I32s(Vec<i32>),
    /// `array` of `float32`.
    F32s(Vec<f32>),
    /// `array` of another type: its type and length are kept, its bytes stay in the file.
    Array {
        /// Element type.
        element: &'static str,
        /// Number of elements.
        count: u64,
    },
}

impl Value {
    /// The type's name in the format's specification.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "uint8",
            Self::I8(_) => "int8",
            Self::U16(_) => "uint16",
            Self::I16(_) => "int16",
            Self::U32(_) => "uint32",
            Self::I32(_) => "int32",
            Self::F32(_) => "float32",
            Self::Bool(_) => "bool",
            Self::Str(_) => "string",
            Self::U64(_) => "uint64",
            Self::I64(_) => "int64",
            Self::F64(_) => "float64",
            Self::Strings(_) => "array of string",
            Self::I32s(_) => "array of int32",
            Self::F32s(_) => "array of float32",
            Self::Array { .. } => "array",
        }
    }
}

/// What a message can say of a value: never an array's elements.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(value) => value.fmt(f),
            Self::I8(value) => value.fmt(f),
            Self::U16(value) => value.fmt(f),
            Self::I16(value) => value.fmt(f),
            Self::U32(value) => value.fmt(f),
            Self::I32(value) => value.fmt(f),
            Self::F32(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Str(text) => write!(f, "`{}`", Shown(text)),
            Self::U64(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Strings(values) => write!(f, "{} strings", values.len()),
            Self::I32s(values) => write!(f, "{} int32", values.len()),
            Self::F32s(values) => write!(f, "{} float32", values.len()),
            Self::Array { element, count } => write!(f, "{count} {element}"),
        }
    }
}

/// Name and size of the fixed-size element types, by id.
pub(super) fn scalar_type(id: u32) -> Option<(&'static str, u64)> {
    Some(match id {
        0 => ("uint8", 1),
        1 => ("int8", 1),
        2 => ("uint16", 2),
        3 => ("int16", 2),
        4 => ("uint32", 4),
        5 => ("int32", 4),
        6 => ("float32", 4),
        7 => ("bool", 1),
        10 => ("uint64", 8),
        11 => ("int64", 8),
        12 => ("float64", 8),
        _ => return None,
    })
}

/// Ids of the types that are not scalars.
pub(super) const STRING_ID: u32 = 8;
pub(super) const ARRAY_ID: u32 = 9;
