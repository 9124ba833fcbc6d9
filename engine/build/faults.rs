//! The build `faulty`: a copy of the kernels to which the edits of kernels/faults.toml are applied.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    fault: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    number: u32,
    what: String,
    edit: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    text: String,
    replacement: String,
}

/// The copy with every edit.
pub(crate) struct Planted {
    /// Its `faulty.cpp`, which is what has to be compiled.
    pub(crate) unit: PathBuf,
    /// The names of the files that differ from the sources, and where the copy has them.
    pub(crate) edited: BTreeMap<PathBuf, PathBuf>,
}

/// Writes the copy into `OUT_DIR`.
pub(crate) fn plant(out: &Path, files: &[PathBuf]) -> Planted {
    let text = std::fs::read_to_string("kernels/faults.toml").expect("kernels/faults.toml");
    let list: List = toml::from_str(&text).expect("kernels/faults.toml is a list of faults");
    let mut copy: BTreeMap<PathBuf, String> = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix("kernels").expect("the folder that was listed");
        let text = std::fs::read_to_string(file).expect("kernel sources can be read");
        copy.insert(name.to_path_buf(), text);
    }
    for fault in &list.fault {
        for edit in &fault.edit {
            let source = copy.get_mut(Path::new(&edit.file)).expect("a fault names a kernel file");
            let (number, what, count) =
                (fault.number, &fault.what, source.matches(&edit.text).count());
            assert_eq!(count, 1, "fault {number} ({what}): `{}` stands {count} times", edit.text);
            let asked = format!("lockstep_fault() == {number}");
            let conditional = fault.edit.iter().any(|edit| edit.replacement.contains(&asked));
            assert!(conditional, "fault {number} ({what}) is not conditional");
            *source = source.replace(&edit.text, edit.replacement.trim_start());
        }
    }
    let folder = out.join("faulty_sources");
    // A file that is gone from the sources is no part of the copy.
    let _ = std::fs::remove_dir_all(&folder);
    for (name, text) in &copy {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("OUT_DIR");
        std::fs::write(path, text).expect("OUT_DIR can be written");
    }
    let edits = list.fault.iter().flat_map(|fault| &fault.edit);
    let edited = edits.map(|edit| (PathBuf::from(&edit.file), folder.join(&edit.file))).collect();
    Planted { unit: folder.join("faulty.cpp"), edited }
}
