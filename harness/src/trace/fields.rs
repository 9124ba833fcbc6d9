//! The fields of one line, taken out one by one; what is left over in the end is an error.

use std::collections::BTreeSet;

use engine::gguf::Shown;

use super::TraceError;
use super::json::{Value, duplicate};
use crate::number::{Hash, Number};

/// The fields of an object that have not been taken yet.
pub(crate) struct Fields {
    line: usize,
    prefix: String,
    fields: Vec<(String, Value)>,
}

impl Fields {
    /// The fields of a line.
    pub(crate) fn of(line: usize, value: Value) -> Result<Self, TraceError> {
        Self::new(line, String::new(), value)
    }

    /// The fields of a line that is not ours: of a key that stands twice the first is kept, and how
    /// often that happens is told.
    pub(crate) fn lenient(line: usize, value: Value) -> Result<(Self, usize), TraceError> {
        let Value::Object(fields) = value else {
            let place = format!("line {line}");
            return Err(TraceError::NotAnObject { place, found: value.kind() });
        };
        let before = fields.len();
        let mut names = BTreeSet::new();
        let first = |(name, _): &(String, Value)| names.insert(name.clone());
        let fields: Vec<_> = fields.into_iter().filter(first).collect();
        let repeated = before - fields.len();
        Ok((Self { line, prefix: String::new(), fields }, repeated))
    }

    /// The first names that are left.
    pub(crate) fn names(&self, count: usize) -> String {
        let names = self.fields.iter().take(count).map(|(name, _)| format!("`{name}`"));
        let names: Vec<String> = names.collect();
        if names.is_empty() { "none".to_owned() } else { Shown(&names.join(", ")).to_string() }
    }

    fn new(line: usize, prefix: String, value: Value) -> Result<Self, TraceError> {
        let Value::Object(fields) = value else {
            let place = match prefix.strip_suffix('.') {
                Some(field) => format!("`{field}` in line {line}"),
                None => format!("line {line}"),
            };
            return Err(TraceError::NotAnObject { place, found: value.kind() });
        };
        if let Some(name) = duplicate(&fields) {
            return Err(TraceError::DuplicateField { line, field: format!("{prefix}{name}") });
        }
        Ok(Self { line, prefix, fields })
    }

    /// Takes a field out, null where it is null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.remove(index).1)
    }

    /// Whether a field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    fn require(&mut self, name: &str) -> Result<Value, TraceError> {
        let missing = TraceError::MissingField { line: self.line, field: self.name(name) };
        self.take(name).ok_or(missing)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn wrong(&self, name: &str, expected: &'static str, found: &Value) -> TraceError {
        let (line, field) = (self.line, self.name(name));
        TraceError::WrongType { line, field, expected, found: found.kind() }
    }

    /// A value that is of the right kind and cannot be.
    pub(crate) fn outside(
        &self,
        name: &str,
        value: impl ToString,
        expected: &'static str,
    ) -> TraceError {
        let (line, field) = (self.line, self.name(name));
        TraceError::OutOfRange { line, field, value: value.to_string(), expected }
    }

    /// Ends the reading: every field has to have been taken.
    pub(crate) fn finish(self) -> Result<(), TraceError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(TraceError::UnknownField { line: self.line, field: self.name(name) })
            }
        }
    }

    /// A field that has to be there and may be null.
    fn nullable<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Self, Value) -> Result<T, TraceError>,
    ) -> Result<Option<T>, TraceError> {
        match self.require(name)? {
            Value::Null => Ok(None),
            value => read(self, value).map(Some),
        }
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, TraceError> {
        let value = self.require(name)?;
        self.as_text(name, value)
    }

    fn as_text(&self, name: &str, value: Value) -> Result<String, TraceError> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong(name, "a string", &other)),
        }
    }

    /// A string, or null.
    pub(crate) fn text_or_null(&mut self, name: &str) -> Result<Option<String>, TraceError> {
        self.nullable(name, |fields, value| fields.as_text(name, value))
    }

    /// A whole number.
    pub(crate) fn whole(&mut self, name: &str) -> Result<u64, TraceError> {
        let value = self.require(name)?;
        self.as_whole(name, &value)
    }

    fn as_whole(&self, name: &str, value: &Value) -> Result<u64, TraceError> {
        match value {
            Value::Whole(value) => Ok(*value),
            other => Err(self.wrong(name, "a whole number", other)),
        }
    }

    /// A count or an index.
    pub(crate) fn count(&mut self, name: &str) -> Result<usize, TraceError> {
        let value = self.require(name)?;
        self.as_count(name, &value)
    }

    /// Nothing that is counted here is beyond 2^40, so that sums of two counts fit everywhere.
    fn as_count(&self, name: &str, value: &Value) -> Result<usize, TraceError> {
        let whole = self.as_whole(name, value)?;
        match usize::try_from(whole) {
            Ok(count) if whole <= 1 << 40 => Ok(count),
            _ => Err(self.outside(name, whole, "at most 2^40")),
        }
    }

    /// A count or an index, or null.
    pub(crate) fn count_or_null(&mut self, name: &str) -> Result<Option<usize>, TraceError> {
        self.nullable(name, |fields, value| fields.as_count(name, &value))
    }

    /// A token id.
    fn as_token(&self, name: &str, value: &Value) -> Result<u32, TraceError> {
        let whole = self.as_whole(name, value)?;
        u32::try_from(whole).map_err(|_| self.outside(name, whole, "a token id below 2^32"))
    }

    /// A token id.
    pub(crate) fn token(&mut self, name: &str) -> Result<u32, TraceError> {
        let value = self.require(name)?;
        self.as_token(name, &value)
    }

    /// A token id, or null.
    pub(crate) fn token_or_null(&mut self, name: &str) -> Result<Option<u32>, TraceError> {
        self.nullable(name, |fields, value| fields.as_token(name, &value))
    }

    /// Token ids, or null.
    pub(crate) fn tokens_or_null(&mut self, name: &str) -> Result<Option<Vec<u32>>, TraceError> {
        self.nullable(name, |fields, value| match value {
            Value::List(values) => {
                values.iter().map(|value| fields.as_token(name, value)).collect()
            }
            other => Err(fields.wrong(name, "a list of token ids", &other)),
        })
    }

    /// A hash in sixteen hexadecimal digits, or null.
    pub(crate) fn hash_or_null(&mut self, name: &str) -> Result<Option<Hash>, TraceError> {
        self.nullable(name, |fields, value| {
            let text = fields.as_text(name, value)?;
            let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let word = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
            word.map(Hash)
                .ok_or_else(|| fields.outside(name, text, "a hash of 16 hexadecimal digits"))
        })
    }

    /// A number, NaN and infinities by their names.
    fn as_number(&self, name: &str, value: &Value, narrow: bool) -> Result<Number, TraceError> {
        let wide = match value {
            Value::Text(text) => match text.as_str() {
                "NaN" => f64::NAN,
                "inf" => f64::INFINITY,
                "-inf" => f64::NEG_INFINITY,
                _ => return Err(self.outside(name, text, "a number, NaN, inf or -inf")),
            },
            other => match other.to_f64() {
                Some(value) => value,
                None => return Err(self.wrong(name, "a number", other)),
            },
        };
        if !narrow {
            return Ok(Number::F64(wide));
        }
        let value = wide as f32;
        if wide.is_finite() && !value.is_finite() {
            return Err(self.outside(name, wide, "a value of f32"));
        }
        // Both kinds of NaN are written with one name.
        Ok(Number::F32(if wide.is_nan() { f32::NAN } else { value }))
    }

    /// A number in f32 or f64.
    pub(crate) fn number(&mut self, name: &str, narrow: bool) -> Result<Number, TraceError> {
        let value = self.require(name)?;
        self.as_number(name, &value, narrow)
    }

    /// A number, or null.
    pub(crate) fn number_or_null(
        &mut self,
        name: &str,
        narrow: bool,
    ) -> Result<Option<Number>, TraceError> {
        self.nullable(name, |fields, value| fields.as_number(name, &value, narrow))
    }

    /// Numbers, where the field is there.
    pub(crate) fn numbers_if_there(
        &mut self,
        name: &str,
        narrow: bool,
    ) -> Result<Option<Vec<Number>>, TraceError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::List(values)) => {
                let numbers = values.iter().map(|value| self.as_number(name, value, narrow));
                numbers.collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(self.wrong(name, "a list of numbers", &other)),
        }
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Self, TraceError> {
        let value = self.require(name)?;
        Self::new(self.line, format!("{}.", self.name(name)), value)
    }

    /// An object, or null.
    pub(crate) fn object_or_null(&mut self, name: &str) -> Result<Option<Self>, TraceError> {
        self.nullable(name, |fields, value| {
            Self::new(fields.line, format!("{}.", fields.name(name)), value)
        })
    }

    /// Objects in a list.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Self>, TraceError> {
        match self.require(name)? {
            Value::List(values) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| {
                    Self::new(self.line, format!("{}[{index}].", self.name(name)), value)
                })
                .collect(),
            other => Err(self.wrong(name, "a list", &other)),
        }
    }
}
