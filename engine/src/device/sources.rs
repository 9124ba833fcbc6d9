//! The kernels' sources, for compilers at run time (NVRTC, hiprtc): which file a kernel is in, and
//! that file with everything it includes as one text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Name below engine/kernels, text.
static SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sources.rs"));

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
        SOURCES.iter().find(is).map(|(file, _)| Self { file, format })
    }

    /// The defines that choose the format.
    pub(super) fn defines(self) -> Vec<String> {
        self.format.map_or_else(Vec::new, |format| {
            let (suffix, name) = FORMATS[format];
            vec![format!("-DLOCKSTEP_FORMAT={name}"), format!("-DLOCKSTEP_SUFFIX={suffix}")]
        })
    }

    /// The file and everything it includes, each once.
    pub(super) fn text(self) -> String {
        let mut text = String::new();
        expand(self.file, &mut BTreeSet::new(), &mut text);
        text
    }
}

/// Appends a file with its includes in place; a name that is no file of ours stays an include.
fn expand(name: &str, seen: &mut BTreeSet<String>, out: &mut String) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let source = SOURCES.iter().find(|(candidate, _)| *candidate == name);
    let (_, text) = source.unwrap_or_else(|| panic!("{name} is not among the kernels' sources"));
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut restart = true;
    for (index, line) in text.lines().enumerate() {
        let included = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some(included) = included {
            expand(&resolve(folder, included), seen, out);
            restart = true;
            continue;
        }
        if restart {
            let _ = writeln!(out, "#line {} \"{name}\"", index + 1);
            restart = false;
        }
        if line != "#pragma once" {
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn resolve(folder: &str, included: &str) -> String {
    match included.strip_prefix("../") {
        Some(rest) => rest.to_owned(),
        None if folder.is_empty() => included.to_owned(),
        None => format!("{folder}/{included}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text = Unit::of_kernel("product_q4_k_i24").unwrap().text();
        assert_eq!(text.matches("struct ProductArguments").count(), 1);
        assert_eq!(text.matches("INLINE float exp32").count(), 1);
        assert!(!text.contains("#pragma once"));
    }
}
