//! The rules of the house that a compiler does not know; each failure says where and what to do.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[path = "support/tree.rs"]
mod tree;

use std::fs;

use tree::{ends, files, read, root, sources};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 2_000_000;

/// The only places that may say `unsafe`.
const UNSAFE: [&str; 2] = ["engine/src/device/", "engine/src/gguf/mapped.rs"];

/// Fails with every finding at once.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn a_file_says_what_it_is_and_stays_short() {
    let mut findings = Vec::new();
    for (name, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//") {
            findings.push(format!("{name}: the first line is no sentence about the file"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{name}: {lines} lines, {FILE_LINES_MAX} are enough: split it"));
        }
        for (index, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                findings.push(format!("{name}:{}: {columns} columns", index + 1));
            }
        }
    }
    none(findings);
}

/// Where functions begin and end, by the indentation that the formatter gives.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let begins = |line: &&str| {
        let words = line.split("//").next().unwrap_or_default();
        words.split('(').next().is_some_and(|head| {
            head.split_whitespace().any(|word| word == "fn") && !head.contains('"')
        })
    };
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        // A declaration in a trait has no body.
        let body = lines[start..].iter().find(|line| line.ends_with('{') || line.ends_with(';'));
        if body.is_none_or(|line| line.ends_with(';')) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indentation(line)));
        if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
            found.push((start + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_fit_on_a_page() {
    let example =
        ["fn one() {", "    two();", "}", "trait A {", "    fn none();", "    fn three() {"]
            .into_iter()
            .chain(["        4", "    }", "}"]);
    let example: Vec<&str> = example.collect();
    assert_eq!(functions(&example.join("\n")), [(1, 3), (6, 3)]);
    let mut findings = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name.ends_with(".rs")) {
        for (line, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                findings.push(format!("{name}:{line}: a function of {length} lines"));
            }
        }
    }
    none(findings);
}

#[test]
fn unsafe_code_stands_in_its_rooms_only() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for (name, text) in sources() {
        if !name.ends_with(".rs") || name == "harness/tests/house.rs" {
            continue;
        }
        let allowed = UNSAFE.iter().any(|room| name.starts_with(room));
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("unsafe ") && !code.contains("unsafe_") {
                seen += 1;
                if !allowed {
                    findings.push(format!("{name}:{}: unsafe code", index + 1));
                }
            }
        }
    }
    none(findings);
    assert!(seen > 0, "the search itself finds nothing");
    for package in ["reference", "harness", "fixtures"] {
        let library = read(&format!("{package}/src/lib.rs"));
        assert!(library.contains("#![forbid(unsafe_code)]"), "{package} does not forbid unsafe");
    }
}

/// What reaches a runtime's copies, on any backend.
const COPIES: [&str; 4] = [".copy_in(", ".copy_out(", ".copy_within(", "emcpy"];

#[test]
fn no_copy_passes_the_gate_by() {
    let (mut findings, mut in_gate) = (Vec::new(), 0);
    for (name, text) in sources() {
        let backend = ["host.rs", "cuda/", "hip/", "probe/tests.rs", "backend.rs"]
            .iter()
            .any(|room| name.starts_with(&format!("engine/src/device/{room}")));
        if !name.starts_with("engine/src/") || backend {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !COPIES.iter().any(|copy| code.contains(copy)) {
                continue;
            }
            if name == "engine/src/device/copy.rs" {
                in_gate += 1;
            } else {
                findings.push(format!("{name}:{}: a copy beside the gate", index + 1));
            }
        }
    }
    none(findings);
    assert_eq!(in_gate, 3, "to the device, to the host, within the device: each in one place");
}

/// The names a package depends on, in whatever table.
fn dependencies(package: &str) -> Vec<String> {
    let manifest: toml::Table = read(&format!("{package}/Cargo.toml")).parse().unwrap();
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let names = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
    names.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn engine_and_reference_share_no_code() {
    let members = ["engine", "reference", "harness", "fixtures"];
    for package in ["engine", "reference"] {
        let shared: Vec<String> = dependencies(package)
            .into_iter()
            .filter(|name| members.contains(&name.as_str()) && name != "fixtures")
            .collect();
        assert!(shared.is_empty(), "{package} depends on {shared:?}: they never see each other");
    }
    let manifest: toml::Table = read("engine/Cargo.toml").parse().unwrap();
    let engine = manifest["dependencies"].as_table().unwrap();
    assert!(!engine.keys().any(|name| name.starts_with("candle")), "the engine has no candle");
    let harness = dependencies("harness");
    assert!(harness.contains(&"engine".to_owned()) && harness.contains(&"reference".to_owned()));
    let mut findings = Vec::new();
    for (name, text) in sources() {
        let other = match name.split('/').next() {
            Some("engine") => "reference",
            Some("reference") => "engine",
            _ => continue,
        };
        for needle in [format!("../{other}/"), format!("use {other}::"), format!("{other}::gguf")] {
            if text.contains(&needle) {
                findings.push(format!("{name}: `{needle}` reaches into the other side"));
            }
        }
    }
    none(findings);
}

/// candle's reader is not for files that nobody has looked at.
#[test]
fn nothing_reaches_candle_that_was_not_accepted() {
    let mut seen = 0;
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("harness/src/")) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for reader in ["Reference::load(", "Content::read("] {
            if let Some(at) = code.find(reader) {
                seen += 1;
                let before = code[..at].contains("accepted(path)");
                assert!(before, "{name}: `{reader}…)` before the strict reader: sides/accepted.rs");
            }
        }
    }
    assert!(seen >= 2, "the search itself finds {seen} readers only");
}

#[test]
fn an_operation_has_one_name_everywhere() {
    let is_plain = |name: &String| name.ends_with(".hip") && !name.contains("/tuned/");
    let stems: Vec<String> = files().into_iter().filter(is_plain).map(|name| stem(&name)).collect();
    assert!(stems.len() >= 10, "{stems:?}");
    let reference = read("reference/src/exact/mod.rs");
    for stem in &stems {
        // No operation of a model: what looks at the zones between buffers.
        if stem == "guards" {
            assert!(read("engine/src/device/guards.rs").contains("\"guards\""));
            continue;
        }
        // The probe is none either: a device runs it before it is handed out, and what is due
        // stands beside it, so that the engine needs no other side to refuse a device.
        if stem == "probe" {
            assert!(root().join("engine/src/device/probe/operation.rs").is_file());
            assert!(read("engine/kernels/probe.hip").contains("CONTRACT.md section 14"));
            continue;
        }
        let launcher = format!("engine/src/kernels/{stem}.rs");
        assert!(root().join(&launcher).is_file(), "{launcher} is missing");
        // An addition and a copy have no file of their own on candle's side.
        if !matches!(stem.as_str(), "residual" | "kv_write") {
            let twin = format!("reference/src/exact/{stem}.rs");
            assert!(root().join(&twin).is_file(), "{twin} is missing");
            assert!(reference.contains(&format!("mod {stem};")), "{twin} is not compiled");
        }
        let kernel = read(&format!("engine/kernels/{stem}.hip"));
        assert!(kernel.contains("CONTRACT.md section"), "{stem}.hip names no section");
    }
}

/// A tuned kernel is no operation: it says which plain ones it replaces, and a test beside its
/// launcher holds it to them.
#[test]
fn a_tuned_kernel_names_what_it_replaces() {
    let is_tuned = |name: &&String| name.ends_with(".hip") && name.contains("/tuned/");
    let all = files();
    let tuned: Vec<&String> = all.iter().filter(is_tuned).collect();
    assert!(tuned.len() >= 8, "{tuned:?}");
    let launchers = all.iter().filter(|name| name.starts_with("engine/src/kernels/tuned/"));
    let tests: String =
        launchers.filter(|name| name.ends_with("tests.rs")).map(|n| read(n)).collect();
    for name in tuned {
        let (stem, text) = (stem(name), read(name));
        let header: String = text.lines().take_while(|line| line.starts_with("//")).collect();
        assert!(header.to_lowercase().contains("replaces"), "{name} does not say what it replaces");
        let launcher = format!("engine/src/kernels/tuned/{stem}.rs");
        assert!(root().join(&launcher).is_file(), "{launcher} is missing");
        // Chunks that are stored are added up by the product in tiles.
        let tested = if stem == "chunk_sums" { "product_tiles_split" } else { &stem };
        assert!(tests.contains(tested), "no test beside the launcher speaks of {tested}");
        assert!(read("engine/kernels/tuned/all.h").contains(&format!("\"{stem}.hip\"")), "{name}");
    }
}

/// The name of a file without its folder and ending.
fn stem(name: &str) -> String {
    name.rsplit('/').next().unwrap().trim_end_matches(".hip").to_owned()
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"];
    let mut findings = Vec::new();
    for (name, text) in sources().into_iter().filter(|(name, _)| name != "harness/tests/house.rs") {
        for (index, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
            if line.contains("#[ignore]") {
                findings.push(format!("{name}:{}: an ignored test says why", index + 1));
            }
        }
    }
    none(findings);
}

/// Where a small number may decide, and why that is no tolerance between sides.
const LIMITS: [(&str, &str); 10] = [
    ("harness/src/compare/limits.rs", "the table"),
    ("reference/src/bounds.rs", "the derivations"),
    (
        "harness/src/compare/triangle/tests.rs",
        "tests of the distances themselves, on numbers made up",
    ),
    ("harness/src/compare/familiar.rs", "a test against a sum done by hand"),
    ("harness/tests/fixtures.rs", "a padded model against its original, and a planted difference"),
    ("fixtures/src/generate.rs", "mean and deviation of a draw"),
    ("harness/src/landscape.rs", "a test of the entropy of one certain token"),
    ("harness/src/bench/table.rs", "a test of medians of seconds"),
    ("engine/src/device/probe/tests.rs", "a test of the probe's constants against f64"),
    ("fixtures/src/random.rs", "standard errors of a draw"),
];

/// The number that something is required to be below, where it lies between 0 and 1.
fn small_limit(line: &str) -> Option<f64> {
    let code = line.split("//").next().unwrap_or_default();
    if code.contains("max_ulps") || code.contains("max_relative") {
        return Some(f64::EPSILON);
    }
    code.split('<').skip(1).find_map(|rest| {
        let rest = rest.trim_start_matches('=').trim_start();
        let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | '-' | '_');
        let text: String = rest.chars().take_while(|c| number(*c)).filter(|c| *c != '_').collect();
        text.parse().ok().filter(|value| *value > 0.0 && *value < 1.0)
    })
}

#[test]
fn no_tolerance_stands_outside_the_table() {
    assert_eq!(small_limit("if (a - b).abs() <= 1e-6 {"), Some(1e-6));
    assert_eq!(small_limit("assert!(cosine < 0.999_f64);"), Some(0.999));
    assert_eq!(small_limit("if x < 0.0 || x < limit || x << 0 > 1 {"), None);
    let mut findings = Vec::new();
    let mut used = 0;
    for (name, text) in sources().into_iter().filter(|(name, _)| name != "harness/tests/house.rs") {
        let allowed = LIMITS.iter().any(|(file, _)| *file == name);
        for (index, line) in text.lines().enumerate() {
            if let Some(limit) = small_limit(line) {
                used += usize::from(allowed);
                if !allowed {
                    let line = index + 1;
                    findings
                        .push(format!("{name}:{line}: {limit} decides: derive it in limits.rs"));
                }
            }
        }
    }
    none(findings);
    assert!(used >= 5, "the search itself finds {used} limits only");
}

#[test]
fn files_are_small_and_no_snapshot_waits() {
    let mut findings = Vec::new();
    for name in files() {
        let bytes = fs::metadata(root().join(&name)).unwrap().len();
        if bytes > FILE_BYTES_MAX {
            findings.push(format!("{name}: {bytes} bytes, at most {FILE_BYTES_MAX} are kept"));
        }
        if ends(&name, &[".snap.new", ".pending-snap"]) {
            findings.push(format!("{name}: review it with `cargo insta review`"));
        }
    }
    none(findings);
}

#[test]
fn the_documents_are_there_and_true() {
    let architecture = read("ARCHITECTURE.md");
    let lines = architecture.lines().count();
    assert!(lines <= 150, "ARCHITECTURE.md has {lines} lines, 150 are read");
    assert!(architecture.contains("**Invariant:**"));
    assert!(read("CHANGELOG.md").contains("### Numerics"));
    let readme = read("README.md");
    for command in ["cargo run --release -- run", "cargo test"] {
        assert!(readme.contains(command), "README.md does not say `{command}`");
    }
    for name in ["CONTRACT.md", "CONTRIBUTING.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
    let planted = read("harness/planted.toml").matches("[[edit]]").count();
    let claim = format!("**{planted} of {planted} turned red**");
    assert!(read("CONTRACT.md").contains(&claim), "CONTRACT.md does not say {claim}");
    // Paths in backticks exist.
    let mut findings = Vec::new();
    let folders =
        ["engine/", "reference/", "harness/", "fixtures/", "snapshots/", "ci/", "docs/", "fuzz/"];
    let pages: Vec<String> = files().into_iter().filter(|name| name.ends_with(".md")).collect();
    assert!(pages.len() >= 10, "{pages:?}");
    for name in pages {
        let text = read(&name);
        for (index, piece) in text.split('`').enumerate() {
            let path = index % 2 == 1 && folders.iter().any(|folder| piece.starts_with(folder));
            let pattern = piece.contains([' ', '*']) || piece.contains("NAME");
            if path && !pattern && !root().join(piece).exists() {
                findings.push(format!("{name}: `{piece}` does not exist"));
            }
        }
    }
    none(findings);
}

/// Elsewhere the variables of the job that runs the tests would reach it.
#[test]
fn the_binary_is_started_in_one_place() {
    let start = concat!("Command::new(env!(", "\"CARGO_BIN_EXE_lockstep");
    let elsewhere = sources().into_iter().filter(|(name, text)| {
        name.as_str() != "harness/tests/support/mod.rs" && text.contains(start)
    });
    none(elsewhere.map(|(name, _)| format!("{name}: `support::command` starts it")).collect());
}
