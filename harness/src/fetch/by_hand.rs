//! Models that nobody may hand on: their owner brings the file, and the cache keeps its hash.
//!
//! Where the catalogue has no hash, because every conversion is another file, the first one that is
//! brought decides: its hash is written down beside it, and holds from then on.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use engine::gguf;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{Cached, Damage, Entry, FetchError, Fetched};
use crate::sides::chain;

/// Where the hash is written down.
fn record(folder: &Path, entry: &Entry) -> PathBuf {
    folder.join(format!("{}.sha256", entry.file))
}

/// The entry with the hash that is written down in the cache, where the catalogue has none; nothing
/// where there is none either.
///
/// # Errors
/// [`FetchError::Cache`] when there is one that cannot be read.
pub fn known(name: &str, entry: &Entry, cache: &Path) -> Result<Option<Entry>, FetchError> {
    if !entry.sha256.is_empty() {
        return Ok(Some(entry.clone()));
    }
    let folder = cache.join(name);
    let path = record(&folder, entry);
    let failed = |source| FetchError::Cache { path: path.clone(), source };
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(failed)?,
    };
    let mut words = text.split_whitespace();
    let sha256 = words.next().unwrap_or_default().to_owned();
    let size_bytes = words.next().and_then(|size| size.parse().ok()).unwrap_or_default();
    Ok(Some(Entry { size_bytes, sha256, ..entry.clone() }))
}

/// Why nothing can be done about a model that is not whole until its owner brings it.
pub(super) fn missing(name: &str, entry: &Entry, found: Cached) -> FetchError {
    let name = name.to_owned();
    match found {
        Cached::Damaged(_, damage) => FetchError::Spoilt { name, damage },
        Cached::Whole(_) | Cached::Missing => {
            let (licence, file) = (entry.licence.clone(), entry.file.clone());
            FetchError::ByHand { name, licence, file }
        }
    }
}

/// Takes a file that its owner has brought: copies it into the cache, when its hash is the one that
/// is due, or when none is due yet and the strict reader accepts it.
///
/// # Errors
/// [`FetchError::Damaged`] or [`FetchError::Another`] for another file than the one that is due,
/// [`FetchError::NoModel`] for what is none; the cache stays as it was.
pub fn take(name: &str, entry: &Entry, cache: &Path, from: &Path) -> Result<Fetched, FetchError> {
    let folder = cache.join(name);
    let failed = |source| FetchError::Cache { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    // Two at once: the second waits, and is then held to what the first has brought.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let brought = |source| FetchError::Cache { path: from.to_owned(), source };
    let mut source = File::open(from).map_err(brought)?;
    let mut part = NamedTempFile::new_in(&folder).map_err(failed)?;
    let (mut digest, mut size_bytes) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer).map_err(brought)?;
        if count == 0 {
            break;
        }
        size_bytes += count as u64;
        digest.update(&buffer[..count]);
        part.write_all(&buffer[..count]).map_err(failed)?;
    }
    let actual = format!("{:x}", digest.finalize());
    let due = known(name, entry, cache)?;
    match &due {
        Some(due) if due.sha256 != actual => {
            let damage = Damage::Hash { expected: due.sha256.clone(), actual };
            return Err(match entry.sha256.is_empty() {
                true => FetchError::Another { damage, record: record(&folder, entry) },
                false => FetchError::Damaged { damage },
            });
        }
        Some(_) => {}
        // Whatever is accepted now is the only file that is accepted later.
        None => {
            gguf::File::open(part.path()).map_err(|error| FetchError::NoModel {
                file: from.to_owned(),
                message: chain(&error),
            })?;
        }
    }
    let path = folder.join(&entry.file);
    keep(part, &path).map_err(failed)?;
    if due.is_none() {
        // After the model: a hash without its file would refuse every other one.
        let mut part = NamedTempFile::new_in(&folder).map_err(failed)?;
        writeln!(part, "{actual} {size_bytes}").map_err(failed)?;
        keep(part, &record(&folder, entry)).map_err(failed)?;
    }
    Ok(Fetched::New(path))
}

/// Gives a written file its name, whole or not at all.
fn keep(part: NamedTempFile, path: &Path) -> io::Result<()> {
    part.as_file().sync_all()?;
    part.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::super::{Cached, fetch, look_up};
    use super::*;
    use tempfile::TempDir;

    fn entry() -> Entry {
        Entry {
            description: String::new(),
            licence: "a licence to accept".to_owned(),
            file: "model.gguf".to_owned(),
            size_bytes: 0,
            sha256: String::new(),
            package: String::new(),
            package_version: String::new(),
            member: String::new(),
        }
    }

    #[test]
    fn the_first_file_decides_and_no_other_follows() {
        let (cache, brought) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (entry, cache) = (entry(), cache.path());
        let file = |name: &str, content: &[u8]| {
            let path = brought.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let mut other = fixtures::TINY.to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(look_up("m", &entry, cache).unwrap(), Cached::Missing);
        let error = fetch("m", &entry, cache, &|_, _| panic!("a download"), &mut drop).unwrap_err();
        assert!(matches!(error, FetchError::ByHand { .. }), "{error}");
        let path = cache.join("m").join("model.gguf");
        let page = take("m", &entry, cache, &file("page", b"<html>404 Not Found</html>"));
        let error = page.unwrap_err();
        assert!(error.to_string().contains("page is no model: "), "{error}");
        assert_eq!(look_up("m", &entry, cache).unwrap(), Cached::Missing);
        let first = file("first", fixtures::TINY);
        assert_eq!(take("m", &entry, cache, &first).unwrap(), Fetched::New(path.clone()));
        assert_eq!(look_up("m", &entry, cache).unwrap(), Cached::Whole(path.clone()));
        let again = fetch("m", &entry, cache, &|_, _| panic!("a download"), &mut drop).unwrap();
        assert_eq!(again, Fetched::AlreadyThere(path.clone()));
        let error = take("m", &entry, cache, &file("second", &other)).unwrap_err();
        assert!(error.hint().contains("model.gguf.sha256"), "{error}: {}", error.hint());
        assert_eq!(fs::read(&path).unwrap(), fixtures::TINY);
        fs::write(&path, &other).unwrap();
        let damaged = look_up("m", &entry, cache).unwrap();
        assert!(matches!(damaged, Cached::Damaged(_, Damage::Hash { .. })), "{damaged:?}");
        // Nothing is replaced before it is brought again, and nobody says so.
        let mut watch = |event| panic!("{event:?}");
        let error =
            fetch("m", &entry, cache, &|_, _| panic!("a download"), &mut watch).unwrap_err();
        assert!(error.to_string().contains("model m in the cache is damaged"), "{error}");
        assert!(error.hint().contains("`lockstep fetch m --from FILE`"), "{}", error.hint());
        assert_eq!(take("m", &entry, cache, &first).unwrap(), Fetched::New(path.clone()));
        assert_eq!(look_up("m", &entry, cache).unwrap(), Cached::Whole(path));
    }

    #[test]
    fn a_hash_of_the_catalogue_holds_for_what_is_brought() {
        let (cache, brought) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = brought.path().join("other");
        fs::write(&path, "weights").unwrap();
        let due = Entry { sha256: "ab".repeat(32), size_bytes: 7, ..entry() };
        let error = take("m", &due, cache.path(), &path).unwrap_err();
        assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
        assert_eq!(look_up("m", &due, cache.path()).unwrap(), Cached::Missing);
    }
}
