//! Results of compilers that stay for later builds: what has to be compiled again, and what not.

#[path = "../build/kept.rs"]
mod kept;

use kept::Kept;
use std::cell::Cell;

/// A folder with a unit, a header below it, and what stands for cargo's own folders.
struct Folder {
    root: tempfile::TempDir,
    /// What the next compilation writes.
    count: Cell<u32>,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { root: tempfile::tempdir().expect("a folder"), count: Cell::new(0) };
        folder.source("unit.cpp", "int unit;");
        folder.source("below/header.h", "int header;");
        folder
    }

    fn source(&self, name: &str, text: &str) {
        let path = self.root.path().join("sources").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a source");
    }

    /// What is at `target` after a build in `profile`: the number of the compilation.
    fn build(&self, profile: &str, name: &str, command: &str) -> String {
        let out = self.root.path().join("target").join(profile).join("build/engine-0/out");
        std::fs::create_dir_all(&out).expect("a folder");
        let unit = self.root.path().join("sources/unit.cpp");
        let target = out.join("unit.o");
        let made = Kept::new(&out).write((name, &unit, command), &target, || {
            self.count.set(self.count.get() + 1);
            std::fs::write(&target, self.count.get().to_string())
        });
        made.expect("written");
        std::fs::read_to_string(target).expect("read")
    }
}

#[test]
fn another_profile_takes_what_is_there() {
    let folder = Folder::new();
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "1");
    assert_eq!(folder.build("release", "waves", "c++ -O3"), "1");
}

#[test]
fn whatever_goes_into_a_compilation_has_it_made_again() {
    let folder = Folder::new();
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "1");
    assert_eq!(folder.build("debug", "waves", "c++ -O2"), "2", "a flag");
    assert_eq!(folder.build("debug", "other", "c++ -O3"), "3", "a name");
    folder.source("below/header.h", "int another;");
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "4", "a header's text");
    folder.source("below/second.h", "");
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "5", "a file more");
    folder.source("below/header.h", "int header;");
    std::fs::remove_file(folder.root.path().join("sources/below/second.h")).expect("removed");
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "1", "as it was at first");
}

#[test]
fn of_what_fails_nothing_stays() {
    let folder = Folder::new();
    let out = folder.root.path().join("target/debug/build/engine-0/out");
    std::fs::create_dir_all(&out).expect("a folder");
    let unit = folder.root.path().join("sources/unit.cpp");
    let target = out.join("unit.o");
    let failed = Kept::new(&out).write(("waves", &unit, "c++ -O3"), &target, || {
        std::fs::write(&target, "half of it").expect("written");
        Err("the compiler's own words")
    });
    assert_eq!(failed, Err("the compiler's own words"));
    assert_eq!(folder.build("debug", "waves", "c++ -O3"), "1");
}

#[test]
fn results_do_not_pile_up() {
    let folder = Folder::new();
    assert_eq!(folder.build("debug", "waves_of_another_name", "c++"), "1");
    for number in 2..=20 {
        assert_eq!(folder.build("debug", "waves", &number.to_string()), number.to_string());
    }
    let files = std::fs::read_dir(folder.root.path().join("target/kernels")).expect("listed");
    assert_eq!(files.count(), 7, "six of one name and one of another");
    assert_eq!(folder.build("debug", "waves", "20"), "20", "the last one is there");
    assert_eq!(folder.build("debug", "waves_of_another_name", "c++"), "1");
}
