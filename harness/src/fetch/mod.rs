//! Brings a model of the catalogue into the user's cache, and never lets a damaged file be used.
//!
//! **Invariant:** a file under its final name was complete and had its hash when it got that name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fixtures::Entry;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};
use zip::ZipArchive;
use zip::result::ZipError;

mod by_hand;
mod pip;
#[cfg(test)]
mod tests;

pub use by_hand::{known, take};
pub use pip::pip;

/// Why a model is not in the cache afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such name in the catalogue.
    #[error("there is no model `{name}` in the catalogue")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// No environment variable says where the cache is.
    #[error("no folder for the cache: neither LOCKSTEP_CACHE, XDG_CACHE_HOME nor HOME is set")]
    NoCache,
    /// The cache cannot be written or read.
    #[error("cannot use {}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody may hand this model on.
    #[error("model {name} cannot be downloaded here: {licence}")]
    ByHand {
        /// The model.
        name: String,
        /// What is to be accepted first.
        licence: String,
        /// What the file is called.
        file: String,
    },
    /// A file in the cache that is not the one its owner brought.
    #[error("model {name} in the cache is damaged: {damage}")]
    Spoilt {
        /// The model.
        name: String,
        /// In what it differs.
        damage: Damage,
    },
    /// What its owner brought is no model at all.
    #[error("{} is no model: {message}", file.display())]
    NoModel {
        /// The file.
        file: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// What its owner brought is another file than the one before.
    #[error("this is another file than the one that was brought first: {damage}")]
    Another {
        /// In what it differs.
        damage: Damage,
        /// Where the hash that is due stands.
        record: PathBuf,
    },
    /// No Python with pip.
    #[error("no pip: tried {tried}")]
    NoPip {
        /// The commands.
        tried: String,
    },
    /// pip could not bring the package.
    #[error("pip could not download {package} {version}: {message}")]
    Download {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// pip's own last words.
        message: String,
    },
    /// The package has not the file that the catalogue names.
    #[error("{package} does not hold `{member}`: {source}")]
    Package {
        /// The package's file.
        package: String,
        /// What was looked for.
        member: String,
        /// What the archive's reader said.
        source: ZipError,
    },
    /// What came is not what the catalogue promises.
    #[error("what came is not the model: {damage}")]
    Damaged {
        /// In what.
        damage: Damage,
    },
}

impl FetchError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { known, .. } => format!("these can be fetched: {}", known.join(", ")),
            Self::NoCache | Self::Cache { .. } => {
                "give --cache, or set LOCKSTEP_CACHE to a folder that can be written to".to_owned()
            }
            Self::ByHand { name, file, .. } => format!(
                "get {file} from where you accepted its licence, then \
                 `lockstep fetch {name} --from {file}`"
            ),
            Self::Spoilt { name, .. } => format!("`lockstep fetch {name} --from FILE` replaces it"),
            Self::NoModel { .. } => {
                "bring the GGUF file itself, not a page or an archive around it".to_owned()
            }
            Self::Another { record, .. } => format!(
                "the hash that is due stands in {}: bring that file, or remove the record if \
                 another one is to hold from now on",
                record.display()
            ),
            Self::NoPip { .. } => {
                "install Python 3 with pip (Debian: apt-get install python3-pip)".to_owned()
            }
            Self::Download { .. } => {
                "check the network and pip's own settings, then try again".to_owned()
            }
            Self::Package { .. } | Self::Damaged { .. } => {
                "try again; if it stays, fixtures/models.toml names another file".to_owned()
            }
        }
    }
}

/// How a file differs from the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Cut off, or longer.
    Size {
        /// In the catalogue.
        expected: u64,
        /// On the disk.
        actual: u64,
    },
    /// Other bytes.
    Hash {
        /// In the catalogue.
        expected: String,
        /// On the disk.
        actual: String,
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size { expected, actual } => {
                write!(f, "{actual} bytes where {expected} are due")
            }
            Self::Hash { expected, actual } => {
                write!(f, "its SHA-256 is {actual}, {expected} is due")
            }
        }
    }
}

/// A file of the catalogue, as the cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Complete, with its hash.
    Whole(PathBuf),
    /// Not there.
    Missing,
    /// There, but not what it should be.
    Damaged(PathBuf, Damage),
}

/// What a fetch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A file was there and is not used.
    Replacing(PathBuf, Damage),
    /// pip is at work.
    Downloading,
    /// The file is taken out of the package.
    Unpacking,
}

/// What a fetch ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It was there.
    AlreadyThere(PathBuf),
    /// It is there now.
    New(PathBuf),
}

/// Downloads the package of an entry into a folder and says which file came.
pub type Download<'a> = &'a dyn Fn(&Entry, &Path) -> Result<PathBuf, FetchError>;

/// The entry of a name.
///
/// # Errors
/// [`FetchError::Unknown`], with the names that exist.
pub fn entry(name: &str) -> Result<Entry, FetchError> {
    let mut all = fixtures::catalogue();
    all.remove(name).ok_or_else(|| FetchError::Unknown {
        name: name.to_owned(),
        known: all.into_keys().collect(),
    })
}

/// The folder of models.
///
/// # Errors
/// [`FetchError::NoCache`] when the environment names no folder.
pub fn cache_folder() -> Result<PathBuf, FetchError> {
    fixtures::cache_folder().ok_or(FetchError::NoCache)
}

/// Looks a model up in the cache, and reads it whole to check it.
///
/// # Errors
/// [`FetchError::Cache`] when a file is there but cannot be read.
pub fn look_up(name: &str, entry: &Entry, cache: &Path) -> Result<Cached, FetchError> {
    let Some(entry) = &known(name, entry, cache)? else { return Ok(Cached::Missing) };
    let path = cache.join(name).join(&entry.file);
    let failed = |source| FetchError::Cache { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cached::Missing),
        file => file.map_err(failed)?,
    };
    let actual = file.metadata().map_err(failed)?.len();
    if actual != entry.size_bytes {
        let expected = entry.size_bytes;
        return Ok(Cached::Damaged(path, Damage::Size { expected, actual }));
    }
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest).map_err(failed)?;
    Ok(match check(entry, actual, digest) {
        Ok(()) => Cached::Whole(path),
        Err(damage) => Cached::Damaged(path, damage),
    })
}

/// Brings a model into the cache, unless it is there and whole.
///
/// # Errors
/// A [`FetchError`]; the cache then has the file that it had before, or none.
pub fn fetch(
    name: &str,
    entry: &Entry,
    cache: &Path,
    download: Download<'_>,
    watch: &mut dyn FnMut(Event),
) -> Result<Fetched, FetchError> {
    let folder = cache.join(name);
    let path = folder.join(&entry.file);
    let failed = |source| FetchError::Cache { path: folder.clone(), source };
    fs::create_dir_all(&folder).map_err(failed)?;
    // Two at once: the second waits, and then finds the file.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    match look_up(name, entry, cache)? {
        Cached::Whole(path) => return Ok(Fetched::AlreadyThere(path)),
        found if entry.package.is_empty() => return Err(by_hand::missing(name, entry, found)),
        Cached::Damaged(path, damage) => watch(Event::Replacing(path, damage)),
        Cached::Missing => {}
    }
    sweep(&folder).map_err(failed)?;
    let temporary = TempDir::with_prefix_in(TEMPORARY, &folder).map_err(failed)?;
    watch(Event::Downloading);
    let package = download(entry, temporary.path())?;
    watch(Event::Unpacking);
    let part = NamedTempFile::new_in(temporary.path()).map_err(failed)?;
    unpack(entry, &package, part.as_file()).map_err(|failure| match failure {
        Unpacking::Disk(source) => failed(source),
        Unpacking::Said(error) => error,
    })?;
    part.as_file().sync_all().map_err(failed)?;
    part.persist(&path).map_err(|error| failed(error.error))?;
    Ok(Fetched::New(path))
}

/// How temporary folders begin.
const TEMPORARY: &str = "download-";

/// Removes what a killed fetch left.
fn sweep(folder: &Path) -> io::Result<()> {
    for found in fs::read_dir(folder)? {
        let found = found?;
        if found.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_dir_all(found.path())?;
        }
    }
    Ok(())
}

enum Unpacking {
    Disk(io::Error),
    Said(FetchError),
}

fn unpack(entry: &Entry, package: &Path, mut out: &File) -> Result<(), Unpacking> {
    let mut archive = File::open(package).map_err(Unpacking::Disk)?;
    let refused = |source| {
        let package = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let member = entry.member.clone();
        Unpacking::Said(FetchError::Package { package, member, source })
    };
    let mut archive = ZipArchive::new(&mut archive).map_err(refused)?;
    let mut member = archive.by_name(&entry.member).map_err(refused)?;
    let (mut digest, mut size_bytes) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = member.read(&mut buffer).map_err(|error| refused(ZipError::Io(error)))?;
        size_bytes += count as u64;
        // Whatever the archive says of itself: not more than the catalogue's size is written.
        if count == 0 || size_bytes > entry.size_bytes {
            break;
        }
        digest.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(Unpacking::Disk)?;
    }
    check(entry, size_bytes, digest)
        .map_err(|damage| Unpacking::Said(FetchError::Damaged { damage }))
}

fn check(entry: &Entry, size_bytes: u64, digest: Sha256) -> Result<(), Damage> {
    if size_bytes != entry.size_bytes {
        return Err(Damage::Size { expected: entry.size_bytes, actual: size_bytes });
    }
    let actual = format!("{:x}", digest.finalize());
    if actual == entry.sha256 {
        return Ok(());
    }
    Err(Damage::Hash { expected: entry.sha256.clone(), actual })
}
