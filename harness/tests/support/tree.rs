//! The files of the project, for the rules of the house.

use std::fs;
use std::path::{Path, PathBuf};

/// What a build or a run leaves behind belongs to whoever ran it.
const LEFT_BEHIND: [&str; 7] =
    ["target", "out", ".git", "fuzz/target", "fuzz/corpus", "fuzz/artifacts", "fuzz/coverage"];

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files below the root, with slashes, without what is built or hidden.
pub(crate) fn files() -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            if LEFT_BEHIND.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() { walk(root, &path, found) } else { found.push(name) }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    found.sort();
    assert!(found.len() > 100, "the walk found {} files only", found.len());
    found
}

/// The text of a file.
pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether a name ends with one of these.
pub(crate) fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Name and text of everything that is compiled.
pub(crate) fn sources() -> Vec<(String, String)> {
    let sources = files().into_iter().filter(|name| ends(name, &[".rs", ".hip", ".h", ".cpp"]));
    sources.map(|name| (read(&name), name)).map(|(text, name)| (name, text)).collect()
}
