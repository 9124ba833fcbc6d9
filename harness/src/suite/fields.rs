//! The keys of one table of a suite, read by kind, with its place in every complaint.

use clap::ValueEnum;
use toml::{Table, Value};

use super::SuiteError;
use super::error::nearest;
use super::seed::Seed;

/// A table and its name.
pub(super) struct Keys<'a> {
    /// For people: the case, or the defaults.
    pub(super) place: String,
    /// The table.
    pub(super) table: &'a Table,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

impl<'a> Keys<'a> {
    /// Every key has to be one of these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), SuiteError> {
        let unknown = self.table.keys().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| {
            let (place, key) = (self.place.clone(), key.clone());
            Err(SuiteError::UnknownKey { place, known: nearest(&key, known), key })
        })
    }

    fn wrong(&self, key: &str, expected: &'static str, found: &Value) -> SuiteError {
        let (place, key) = (self.place.clone(), key.to_owned());
        SuiteError::WrongType { place, key, expected, found: kind(found) }
    }

    fn outside(&self, key: &str, value: impl ToString, expected: &str) -> SuiteError {
        let (place, key, expected) = (self.place.clone(), key.to_owned(), expected.to_owned());
        SuiteError::OutOfRange { place, key, value: value.to_string(), expected }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, SuiteError> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, "a string", other)),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, SuiteError> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    fn in_range(&self, key: &str, value: &Value, most: u32) -> Result<u32, SuiteError> {
        let Value::Integer(number) = value else {
            return Err(self.wrong(key, "a whole number", value));
        };
        match u32::try_from(*number) {
            Ok(count) if count >= 1 && count <= most => Ok(count),
            _ => Err(self.outside(key, number, &format!("a number from 1 to {most}"))),
        }
    }

    /// A count of at least one.
    pub(super) fn count(&self, key: &str, most: u32) -> Result<Option<usize>, SuiteError> {
        let value = self.table.get(key);
        let count = value.map(|value| self.in_range(key, value, most)).transpose()?;
        Ok(count.map(|count| count as usize))
    }

    /// Counts of at least one.
    pub(super) fn counts(&self, key: &str, most: u32) -> Result<Option<Vec<usize>>, SuiteError> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) if !values.is_empty() => {
                let count = |value| self.in_range(key, value, most).map(|count| count as usize);
                values.iter().map(count).collect::<Result<_, _>>().map(Some)
            }
            Some(Value::Array(_)) => Err(self.outside(key, "empty", "a list of numbers")),
            Some(other) => Err(self.wrong(key, "a list of whole numbers", other)),
        }
    }

    /// Token ids.
    pub(super) fn tokens(&self, key: &str) -> Result<Option<Vec<u32>>, SuiteError> {
        let token = |value: &Value| match value {
            Value::Integer(id) => {
                u32::try_from(*id).map_err(|_| self.outside(key, id, "token ids from 0 up"))
            }
            other => Err(self.wrong(key, "a list of token ids", other)),
        };
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::Array(ids)) if !ids.is_empty() => {
                ids.iter().map(token).collect::<Result<_, _>>().map(Some)
            }
            Some(Value::Array(_)) => Err(self.outside(key, "empty", "a list of token ids")),
            Some(other) => Err(self.wrong(key, "a list of token ids", other)),
        }
    }

    /// A list where one value is due as well.
    pub(super) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, SuiteError> {
        match self.table.get(key) {
            Some(Value::Array(values)) if values.is_empty() => {
                Err(self.outside(key, "empty", "one value, or a list of them"))
            }
            Some(Value::Array(values)) => Ok(Some(values)),
            _ => Ok(None),
        }
    }

    /// A seed: TOML's numbers have a sign, and half of all seeds are enough.
    pub(super) fn seed(&self, key: &str) -> Result<Option<Seed>, SuiteError> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::Integer(seed)) => match u64::try_from(*seed) {
                Ok(seed) => Ok(Some(Seed::Number(seed))),
                Err(_) => Err(self.outside(key, seed, "a number that is not negative")),
            },
            Some(Value::String(word)) if word == "date" => Ok(Some(Seed::Date)),
            Some(Value::String(word)) => Err(self.unknown(key, word.clone(), &["date"])),
            Some(other) => Err(self.wrong(key, "a whole number", other)),
        }
    }

    /// Minutes, with a fraction or without.
    pub(super) fn minutes(&self, key: &str) -> Result<Option<f64>, SuiteError> {
        let minutes = match self.table.get(key) {
            None => return Ok(None),
            Some(Value::Integer(minutes)) => *minutes as f64,
            Some(Value::Float(minutes)) => *minutes,
            Some(other) => return Err(self.wrong(key, "a number of minutes", other)),
        };
        if minutes > 0.0 && minutes <= 100_000.0 {
            Ok(Some(minutes))
        } else {
            Err(self.outside(key, minutes, "more than 0 minutes and at most 100000"))
        }
    }

    /// One of a few words.
    pub(super) fn word<T: ValueEnum>(&self, key: &str) -> Result<Option<T>, SuiteError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Ok(value) = T::from_str(&text, false) {
            return Ok(Some(value));
        }
        let values: Vec<_> = T::value_variants().iter().filter_map(T::to_possible_value).collect();
        let known: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
        Err(self.unknown(key, text, &known))
    }

    /// A word that is none of the known.
    pub(super) fn unknown(&self, key: &str, value: String, known: &[&str]) -> SuiteError {
        let (place, key) = (self.place.clone(), key.to_owned());
        SuiteError::UnknownWord { place, key, known: nearest(&value, known), value }
    }
}
