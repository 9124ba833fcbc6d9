//! The folder of a run: lines that are there after a kill, and a verdict that is whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::page::{self, PageError};
use super::record::{IdentityLine, LandscapeLine, ReadoutLine, VerdictFile};
use super::taps::{Names, OutcomesLine};
use crate::event::{Display, Event, Start, Step};

const VERDICT: &str = "verdict.json";
/// What surrounds the first element that differs.
const DIVERGENCE: &str = "divergence.json";
/// What a search said of a divergence.
pub const FINDING: &str = "finding.json";
/// The page.
pub const REPORT: &str = "report.html";

/// The files of a run before this one, which must not stand beside the lines of this one.
const ENDS: [&str; 9] = [
    VERDICT,
    DIVERGENCE,
    FINDING,
    REPORT,
    "junit.xml",
    "summary.md",
    "suite.json",
    "witness.json",
    "witness.bin",
];

/// Why a folder cannot take a run's files.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error("cannot create the folder {}: {source}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing can be written there.
    #[error("cannot write into {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder that has been tried out. Dropped before the first event, it leaves nothing behind.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    created: Vec<PathBuf>,
    search: Option<String>,
}

impl Folder {
    /// Creates the folder where there is none, and writes a file there once.
    pub fn prepare(path: &Path) -> Result<Self, FolderError> {
        let missing = path.ancestors().take_while(|folder| {
            !folder.as_os_str().is_empty() && fs::symlink_metadata(folder).is_err()
        });
        let created = missing.map(Path::to_path_buf).collect();
        let folder = Self { path: path.to_path_buf(), created, search: None };
        fs::create_dir_all(path)
            .map_err(|source| FolderError::Create { path: path.to_path_buf(), source })?;
        tempfile::NamedTempFile::new_in(path)
            .and_then(|mut file| file.write_all(b"lockstep"))
            .map_err(|source| FolderError::Write { path: path.to_path_buf(), source })?;
        Ok(folder)
    }

    /// With the command that searches the run whose files these will be.
    pub fn with_search(mut self, command: String) -> Self {
        self.search = Some(command);
        self
    }

    /// Removes what says how an earlier command ended: whoever is killed from here on, or finds no
    /// device, leaves no answer of another.
    pub fn clear(&self) -> io::Result<()> {
        for name in ENDS {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Innermost first; only folders made by `prepare`, and only while they are empty.
        for folder in &self.created {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Writes the files of a run.
pub struct FilesDisplay {
    folder: Folder,
    readout: Lines,
    prefill_decode: Lines,
    landscape: Lines,
    taps: Lines,
    names: Names,
    start: Option<Start>,
}

impl FilesDisplay {
    /// Begins the files in a folder; what says how an earlier run ended goes.
    pub fn new(folder: Folder) -> io::Result<Self> {
        folder.clear()?;
        let lines = |name: &str| Lines::create(&folder.path.join(name));
        Ok(Self {
            readout: lines("readout.jsonl")?,
            prefill_decode: lines("prefill_decode.jsonl")?,
            landscape: lines("landscape.jsonl")?,
            taps: lines("taps.jsonl")?,
            names: Names::default(),
            start: None,
            folder,
        })
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        for side in &step.sides {
            self.readout.write(&ReadoutLine::of_step(step, side))?;
            self.landscape.write(&LandscapeLine::of(step, side))?;
            if step.step == 0 {
                self.prefill_decode.write(&ReadoutLine::of_baseline(step, side))?;
            }
        }
        if let Some(names) = self.names.line(step) {
            self.taps.write(&names)?;
        }
        self.taps.write(&OutcomesLine::of(step))?;
        match &step.neighbourhood {
            Some(shown) => write_bytes(&self.folder.path, DIVERGENCE, &serde_json::to_vec(shown)?),
            None => Ok(()),
        }
    }

    /// The page is made from the files, as `lockstep report` makes it, and says what they say.
    fn end(&self, verdict: &VerdictFile<'_>) -> io::Result<()> {
        write_whole(&self.folder, VERDICT, verdict)?;
        write_report(&self.folder).map_err(io::Error::other)
    }
}

/// Writes a file that is whole or absent, over one of the same name.
pub fn write_whole(folder: &Folder, name: &str, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    write_text(&folder.path, name, &(text + "\n"))
}

/// Writes the page of a folder from the files that are there.
pub fn write_report(folder: &Folder) -> Result<(), PageError> {
    let page = page::of_folder(&folder.path)?;
    let path = || folder.path.join(REPORT);
    write_bytes(&folder.path, REPORT, page.as_bytes())
        .map_err(|source| PageError::Write { path: path(), source })
}

/// Writes a text that is whole or absent, over one of the same name.
pub fn write_text(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    write_bytes(folder, name, text.as_bytes())
}

/// Writes bytes that are whole or absent.
pub fn write_bytes(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let file = file.persist(folder.join(name)).map_err(|error| error.error)?;
    readable(&file)
}

/// Temporary files are private; a verdict is for everybody who may read the lines.
#[cfg(unix)]
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> io::Result<()> {
    Ok(())
}

impl Display for FilesDisplay {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Started(start) => {
                self.start = Some(start.clone());
                let line = IdentityLine { identity: &start.identity };
                self.readout.write(&line)?;
                self.prefill_decode.write(&line)?;
                self.landscape.write(&line)?;
                self.taps.write(&line)
            }
            Event::Step(step) => self.step(step),
            Event::Chunking(chunking) => {
                self.prefill_decode.write(&ReadoutLine::of_chunking(chunking))
            }
            Event::Progress(_) => Ok(()),
            Event::Finished(outcome) => match self.start.take() {
                Some(start) => {
                    let search = self.folder.search.as_deref();
                    self.end(&VerdictFile::of(&start, outcome).with_search(search))
                }
                None => Ok(()),
            },
        }
    }
}

/// A file of JSON lines; each stands on the disk before the next is made.
pub struct Lines {
    file: File,
}

impl Lines {
    /// Begins a file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)? })
    }

    /// Begins a file whose first lines are there all at once, in place of one of the same name.
    pub fn begin_whole<L: Serialize>(
        folder: &Path,
        name: &str,
        lines: impl IntoIterator<Item = L>,
    ) -> io::Result<Self> {
        let mut text = String::new();
        for line in lines {
            text += &serde_json::to_string(&line)?;
            text.push('\n');
        }
        write_text(folder, name, &text)?;
        Ok(Self { file: File::options().append(true).open(folder.join(name))? })
    }

    /// One line.
    pub fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        // One call a line: a killed run ends with a whole line.
        self.file.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_only_tried_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("one/two");
        drop(Folder::prepare(&path).unwrap());
        assert!(!root.path().join("one").exists());
    }

    #[test]
    fn a_folder_that_was_there_stays() {
        let root = tempfile::tempdir().unwrap();
        drop(Folder::prepare(root.path()).unwrap());
        assert!(root.path().exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::prepare(&file.path().join("out")).unwrap_err();
        assert!(matches!(error, FolderError::Create { .. }), "{error}");
    }

    #[test]
    fn a_verdict_of_an_earlier_run_goes() {
        let root = tempfile::tempdir().unwrap();
        for name in [VERDICT, "junit.xml", "summary.md"] {
            fs::write(root.path().join(name), "{}").unwrap();
        }
        let files = FilesDisplay::new(Folder::prepare(root.path()).unwrap()).unwrap();
        let left = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
        assert!(left.iter().all(|name| name.ends_with(".jsonl")), "{left:?}");
        drop(files);
    }
}
