//! The kernels' sources, for the compilers that come with a runtime: NVRTC and hiprtc.
//!
//! Invariant: these are the files the kernels' hash is of, as they were when the engine was built.

use std::collections::BTreeSet;

include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The file a GPU's build begins with.
const UNIT: &str = "gpu.cpp";

/// The text of one file of engine/kernels, by its name there.
pub(super) fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(candidate, _)| *candidate == name).map(|(_, text)| *text)
}

/// All kernels as one text without an include, so that no compiler has to find a file.
pub(super) fn unit() -> String {
    let mut unit = String::new();
    append(UNIT, &mut BTreeSet::new(), &mut unit);
    unit
}

/// Puts a file where it is included, once; errors still name it and the line in it.
fn append(name: &str, seen: &mut BTreeSet<String>, unit: &mut String) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let source = text(name).unwrap_or_else(|| panic!("{name} is included and not in the build"));
    let line_directive = |unit: &mut String, line: usize| {
        unit.push_str(&format!("#line {line} \"{name}\"\n"));
    };
    line_directive(unit, 1);
    for (index, line) in source.lines().enumerate() {
        let included =
            line.trim().strip_prefix("#include \"").and_then(|rest| rest.split_once('"'));
        if let Some((included, _)) = included {
            append(&beside(name, included), seen, unit);
            line_directive(unit, index + 2);
        } else if line.trim() == "#pragma once" {
            unit.push('\n');
        } else {
            unit.push_str(line);
            unit.push('\n');
        }
    }
}

/// The name of a file that `name` includes as `included`.
fn beside(name: &str, included: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in included.split('/') {
        if part == ".." {
            parts.pop().unwrap_or_default()
        } else {
            parts.push(part);
            ""
        };
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_has_every_kernel_and_needs_no_file() {
        let unit = unit();
        for (name, text) in FILES.iter().filter(|(name, _)| name.ends_with(".hip")) {
            assert!(unit.contains(&format!("#line 1 \"{name}\"\n")), "{name} is not in gpu.cpp");
            let kernels = text.lines().filter(|line| line.starts_with("KERNEL("));
            for line in kernels {
                assert_eq!(unit.matches(line).count(), 1, "{name}: {line}");
            }
        }
        assert!(!unit.lines().any(|line| line.trim().starts_with("#include \"")), "an include");
        assert_eq!(unit.matches("#line 1 \"platform.h\"").count(), 1);
        assert_eq!(text("no_such_file.h"), None);
    }

    #[test]
    fn includes_are_found_beside_the_file_that_names_them() {
        assert_eq!(beside("gpu.cpp", "tuned/all.h"), "tuned/all.h");
        assert_eq!(beside("tuned/all.h", "../lanes.h"), "lanes.h");
        assert_eq!(beside("tuned/all.h", "tile.hip"), "tuned/tile.hip");
    }
}
