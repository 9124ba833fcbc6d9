//! What compilers made of the kernels, kept beside the builds of all profiles: kernels are compiled
//! the same for each, and that takes longer than all of the engine's Rust.

use std::path::{Path, PathBuf};

/// So many results of one name stay: other compilers', and the kernels of a few changes before.
const KEPT: usize = 6;

/// The folder of results, each under a hash of what went into it.
pub(crate) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// In cargo's target folder, which `OUT_DIR` is four folders below.
    pub(crate) fn new(out: &Path) -> Self {
        let target = out.ancestors().nth(4).expect("OUT_DIR is TARGET/PROFILE/build/NAME/out");
        Self { folder: target.join("kernels") }
    }

    /// Has `target` written: by `make`, or from what that wrote when `command` met the same `unit`
    /// before. A unit is compiled with what stands in its folder and in those below. What is wrong
    /// with this folder costs time and nothing else.
    ///
    /// # Errors
    /// Those of `make`, of which nothing is kept.
    pub(crate) fn write<E>(
        &self,
        (name, unit, command): (&str, &Path, &str),
        target: &Path,
        make: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{name}\0{:?}\0{command}\0", unit.file_name()).as_bytes());
        let folder = unit.parent().expect("a unit stands in a folder");
        for file in files_below(folder) {
            let name = file.strip_prefix(folder).expect("it was found there");
            let text = std::fs::read(&file).expect("kernel sources can be read");
            hasher.update(format!("{name:?}\0{}\0", text.len()).as_bytes()).update(&text);
        }
        let kept = self.folder.join(format!("{name}-{}", &hasher.finalize().to_hex()[..32]));
        if std::fs::copy(&kept, target).is_ok() {
            return Ok(());
        }
        make()?;
        self.keep(name, target, &kept);
        Ok(())
    }

    /// Under its name at once and whole: builds of two profiles may run at one time.
    fn keep(&self, name: &str, target: &Path, kept: &Path) {
        let part = kept.with_extension(format!("part{}", std::process::id()));
        let copied = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::copy(target, &part))
            .and_then(|_| std::fs::rename(&part, kept));
        if copied.is_err() {
            let _ = std::fs::remove_file(part);
            return;
        }
        let is_older = |path: &PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str()?.rsplit_once('-'));
            path != kept && file.is_some_and(|(stem, _)| stem == name)
        };
        let mut older = files_below(&self.folder);
        older.retain(is_older);
        older.sort_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
        for oldest in older.iter().rev().skip(KEPT - 1) {
            let _ = std::fs::remove_file(oldest);
        }
    }
}

/// In the order of their names; those that cannot be listed are left out.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) =
        entries.map(|entry| entry.path()).partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files.sort();
    files
}
