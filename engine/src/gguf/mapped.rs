//! A file mapped into memory; the engine's only `unsafe` outside device/.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process can change it")]

use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// The bytes of a file, or bytes that were in memory already.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    pub(super) fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        // SAFETY: the mapping is read-only and private to this value. A process that truncates
        // the file meanwhile ends this one with SIGBUS and one that writes to it changes numbers;
        // both are outside what a reader can prevent, and no Rust invariant rests on the bytes.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self::Mapped(map))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
