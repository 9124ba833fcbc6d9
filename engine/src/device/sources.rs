//! The kernels' sources, for the compilers that come with a runtime: NVRTC and hiprtc.
//!
//! Invariant: these are the files the kernels' hash is of, as they were when the engine was built.
//! A text with a planted fault is asked for by the fault's number, and is in no file of the folder.

use std::collections::BTreeSet;

include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The file a GPU's build begins with.
const UNIT: &str = "gpu.cpp";

/// The text of one file of engine/kernels, by its name there; with a fault, as faults.toml edits
/// it.
pub(super) fn text(name: &str, fault: Option<u32>) -> Option<&'static str> {
    let planted = PLANTED.iter().filter(|_| fault.is_some());
    planted.chain(FILES).find(|(candidate, _)| *candidate == name).map(|(_, text)| *text)
}

/// What a text begins with: the fault that its edits ask for.
fn beginning(fault: Option<u32>) -> String {
    fault.map_or_else(String::new, |number| format!("#define lockstep_fault() {number}u\n"))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
/// All kernels as one text without an include, so that no compiler has to find a file.
pub(super) fn unit(fault: Option<u32>) -> String {
    let mut unit = beginning(fault);
    append(UNIT, fault, &mut BTreeSet::new(), &mut unit);
    unit
}

/// Suffix in a kernel's name and structure in formats.h of the quantised formats.
const FORMATS: [(&str, &str); 10] = [
    ("q4_0", "Q4_0"),
    ("q4_1", "Q4_1"),
    ("q5_0", "Q5_0"),
    ("q5_1", "Q5_1"),
    ("q8_0", "Q8_0"),
    ("q2_k", "Q2_K"),
    ("q3_k", "Q3_K"),
    ("q4_k", "Q4_K"),
    ("q5_k", "Q5_K"),
    ("q6_k", "Q6_K"),
];

/// What one run of a compiler makes: a file, for one format where it has kernels of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    /// The file's name below engine/kernels.
    pub(super) file: &'static str,
    /// Index in [`FORMATS`].
    format: Option<usize>,
}

impl Unit {
    /// The unit that a kernel is in, from its name: the stem of its file, then what it is made for.
    pub(super) fn of_kernel(kernel: &str) -> Option<Self> {
        let format = FORMATS.iter().position(|(suffix, _)| {
            kernel.split_once(suffix).is_some_and(|(before, after)| {
                before.ends_with('_') && (after.is_empty() || after.starts_with('_'))
            })
        });
        // Float products have their own file under the stem of the others.
        if ["product_f32", "product_f16", "product_bf16"].contains(&kernel) {
            return Self::of_stem("product_float", None);
        }
        let mut stem = kernel;
        loop {
            if let Some(unit) = Self::of_stem(stem, format) {
                return Some(unit);
            }
            stem = stem.rsplit_once('_')?.0;
        }
    }

    fn of_stem(stem: &str, format: Option<usize>) -> Option<Self> {
        let is = |name: &&(&str, &str)| {
            name.0.trim_start_matches("tuned/").strip_suffix(".hip") == Some(stem)
        };
        FILES.iter().find(is).map(|(file, _)| Self { file, format })
    }

    /// Every unit there is: each file, for each format where it has kernels of several.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let files = FILES.iter().filter(|(name, _)| name.ends_with(".hip"));
        let units = files.flat_map(|(file, text)| {
            // As `PRODUCT(q4_k, Q4_K)`.
            let has = |index: &usize| text.contains(&format!("({}, ", FORMATS[*index].0));
            let formats: Vec<_> = (0..FORMATS.len()).filter(has).map(Some).collect();
            // The kernels for float weights of `embed` are a unit of their own.
            let plain = formats.is_empty() || text.contains("Float32");
            plain.then_some(None).into_iter().chain(formats).map(|format| Self { file, format })
        });
        units.collect()
    }

    /// Whether it is of the format with this suffix.
    #[cfg(test)]
    pub(super) fn is_of(self, suffix: &str) -> bool {
        self.format.is_some_and(|format| FORMATS[format].0 == suffix)
    }

    /// Whether it is one of many of a file.
    #[cfg(test)]
    pub(super) fn has_formats(self) -> bool {
        self.format.is_some()
    }

    /// The defines that choose the format.
    pub(super) fn defines(self) -> Vec<String> {
        self.format.map_or_else(Vec::new, |format| {
            let (suffix, name) = FORMATS[format];
            vec![format!("-DLOCKSTEP_FORMAT={name}"), format!("-DLOCKSTEP_SUFFIX={suffix}")]
        })
    }

    /// Whether a fault of this number is planted in it.
    pub(super) fn has_fault(self, number: u32) -> bool {
        let asked = format!("lockstep_fault() == {number}");
        let text = self.text(Some(number));
        // 1 is not 11.
        let ends = |behind: &str| !behind.starts_with(|next: char| next.is_ascii_digit());
        text.split(&asked).skip(1).any(ends)
    }

    /// The file and everything it includes, each once.
    pub(super) fn text(self, fault: Option<u32>) -> String {
        let mut text = beginning(fault);
        append(self.file, fault, &mut BTreeSet::new(), &mut text);
        text
    }
}

/// Puts a file where it is included, once; errors still name it and the line in it.
fn append(name: &str, fault: Option<u32>, seen: &mut BTreeSet<String>, unit: &mut String) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let source = text(name, fault);
    let source = source.unwrap_or_else(|| panic!("{name} is included and not in the build"));
    let line_directive = |unit: &mut String, line: usize| {
        unit.push_str(&format!("#line {line} \"{name}\"\n"));
    };
    line_directive(unit, 1);
    for (index, line) in source.lines().enumerate() {
        let included =
            line.trim().strip_prefix("#include \"").and_then(|rest| rest.split_once('"'));
        if let Some((included, _)) = included {
            append(&beside(name, included), fault, seen, unit);
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
        let unit = unit(None);
        for (name, text) in FILES.iter().filter(|(name, _)| name.ends_with(".hip")) {
            assert!(unit.contains(&format!("#line 1 \"{name}\"\n")), "{name} is not in gpu.cpp");
            let kernels = text.lines().filter(|line| line.starts_with("KERNEL("));
            for line in kernels {
                assert_eq!(unit.matches(line).count(), 1, "{name}: {line}");
            }
        }
        assert!(!unit.lines().any(|line| line.trim().starts_with("#include \"")), "an include");
        assert_eq!(unit.matches("#line 1 \"platform.h\"").count(), 1);
        assert_eq!(text("no_such_file.h", None), None);
    }

    #[test]
    fn a_fault_is_a_constant_of_an_edited_text_and_of_no_other() {
        let of = |fault| Unit::of_kernel("norm_quantise").unwrap().text(fault);
        assert!(!of(None).contains("lockstep_fault"));
        let planted = of(Some(26));
        assert!(planted.starts_with("#define lockstep_fault() 26u\n"), "{planted:.60}");
        assert!(planted.contains("lockstep_fault() == 26 ? 1e-6f : a.epsilon"));
        let norm = Unit::of_kernel("norm_quantise").unwrap();
        assert!(norm.has_fault(26) && !norm.has_fault(2) && !norm.has_fault(6));
        assert_eq!(unit(Some(6)).matches("lockstep_fault() == 6").count(), 3);
        for (name, _) in PLANTED {
            assert_ne!(text(name, None), text(name, Some(0)), "{name}");
        }
    }

    #[test]
    fn includes_are_found_beside_the_file_that_names_them() {
        assert_eq!(beside("gpu.cpp", "tuned/all.h"), "tuned/all.h");
        assert_eq!(beside("tuned/all.h", "../lanes.h"), "lanes.h");
        assert_eq!(beside("tuned/all.h", "tile.hip"), "tuned/tile.hip");
    }

    #[test]
    fn every_name_finds_its_file() {
        for (kernel, file) in [
            ("product_q4_k_i24", "product.hip"),
            ("product_bf16", "product_float.hip"),
            ("embed_f32", "embed.hip"),
            ("attention_f16", "attention.hip"),
            ("rms_norm", "rms_norm.hip"),
            ("kv_write_f32", "kv_write.hip"),
        ] {
            assert_eq!(Unit::of_kernel(kernel).unwrap().file, file, "{kernel}");
        }
        assert_eq!(Unit::of_kernel("no_such_kernel"), None);
        let unit = Unit::of_kernel("product_q4_k_i24").unwrap();
        assert_eq!(unit.defines(), ["-DLOCKSTEP_FORMAT=Q4_K", "-DLOCKSTEP_SUFFIX=q4_k"]);
        assert_eq!(Unit::of_kernel("embed_bf16").unwrap().defines(), [""; 0]);
    }

    #[test]
    fn a_text_includes_each_file_once() {
        let text = Unit::of_kernel("product_q4_k_i24").unwrap().text(None);
        assert_eq!(text.matches("struct ProductArguments").count(), 1);
        assert_eq!(text.matches("INLINE float exp32").count(), 1);
        assert!(!text.contains("#pragma once"));
    }
}
