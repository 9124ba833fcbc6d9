//! Reads fields off a byte slice, each compared with what remains before it is touched.

use super::Error;

/// A position in the file.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset as u64
    }

    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.offset) as u64
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64, field: &str) -> Result<&'a [u8], Error> {
        let truncated = || Error::Truncated {
            field: field.to_owned(),
            offset: self.offset as u64,
            needed: count,
            end: self.bytes.len() as u64,
        };
        let count = usize::try_from(count).map_err(|_| truncated())?;
        let end = self.offset.checked_add(count).ok_or_else(truncated)?;
        let taken = self.bytes.get(self.offset..end).ok_or_else(truncated)?;
        self.offset = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], Error> {
        let taken = self.take(N as u64, field)?;
        Ok(taken.try_into().expect("take gives as many bytes as it was asked for"))
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count of things of at least `smallest` bytes each, compared with the bytes that remain.
    pub(super) fn count(&mut self, smallest: u64, field: &str) -> Result<u64, Error> {
        let count = self.u64(field)?;
        let remaining = self.remaining();
        let most = remaining / smallest;
        if count <= most {
            return Ok(count);
        }
        Err(Error::Count { field: field.to_owned(), count, remaining, most })
    }

    /// A string that names something, of at most `most` bytes.
    pub(super) fn name(&mut self, what: &'static str, most: u64) -> Result<String, Error> {
        let offset = self.offset();
        let name = self.string(what)?;
        let length = name.len() as u64;
        if (1..=most).contains(&length) {
            return Ok(name);
        }
        Err(Error::NameLength { what, offset, length, most })
    }

    pub(super) fn string(&mut self, field: &str) -> Result<String, Error> {
        let count = self.u64(field)?;
        let (offset, remaining) = (self.offset(), self.remaining());
        if count > remaining {
            let field = format!("the length of {field}");
            return Err(Error::Count { field, count, remaining, most: remaining });
        }
        let bytes = self.take(count, field)?;
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| Error::Utf8 { field: field.to_owned(), offset })?;
        Ok(text.to_owned())
    }
}
