//! Where the kernel of a source file begins: the line that an annotation points at.

/// The kernels' sources, as they were when this was built.
const SOURCES: &[(&str, &str)] = &[
    ("engine/kernels/attention.hip", include_str!("../../../engine/kernels/attention.hip")),
    ("engine/kernels/embed.hip", include_str!("../../../engine/kernels/embed.hip")),
    ("engine/kernels/guards.hip", include_str!("../../../engine/kernels/guards.hip")),
    ("engine/kernels/kv_write.hip", include_str!("../../../engine/kernels/kv_write.hip")),
    ("engine/kernels/probe.hip", include_str!("../../../engine/kernels/probe.hip")),
    ("engine/kernels/product.hip", include_str!("../../../engine/kernels/product.hip")),
    ("engine/kernels/product_float.hip", include_str!("../../../engine/kernels/product_float.hip")),
    ("engine/kernels/quantise.hip", include_str!("../../../engine/kernels/quantise.hip")),
    ("engine/kernels/residual.hip", include_str!("../../../engine/kernels/residual.hip")),
    ("engine/kernels/rms_norm.hip", include_str!("../../../engine/kernels/rms_norm.hip")),
    ("engine/kernels/rope.hip", include_str!("../../../engine/kernels/rope.hip")),
    ("engine/kernels/swiglu.hip", include_str!("../../../engine/kernels/swiglu.hip")),
    (
        "engine/kernels/tuned/attention_split.hip",
        include_str!("../../../engine/kernels/tuned/attention_split.hip"),
    ),
    (
        "engine/kernels/tuned/attention_tiles.hip",
        include_str!("../../../engine/kernels/tuned/attention_tiles.hip"),
    ),
    (
        "engine/kernels/tuned/chunk_sums.hip",
        include_str!("../../../engine/kernels/tuned/chunk_sums.hip"),
    ),
    (
        "engine/kernels/tuned/hash_rows.hip",
        include_str!("../../../engine/kernels/tuned/hash_rows.hip"),
    ),
    (
        "engine/kernels/tuned/norm_quantise.hip",
        include_str!("../../../engine/kernels/tuned/norm_quantise.hip"),
    ),
    (
        "engine/kernels/tuned/product_stream.hip",
        include_str!("../../../engine/kernels/tuned/product_stream.hip"),
    ),
    (
        "engine/kernels/tuned/product_stream_mixed.hip",
        include_str!("../../../engine/kernels/tuned/product_stream_mixed.hip"),
    ),
    (
        "engine/kernels/tuned/product_tiles.hip",
        include_str!("../../../engine/kernels/tuned/product_tiles.hip"),
    ),
    (
        "engine/kernels/tuned/product_wave.hip",
        include_str!("../../../engine/kernels/tuned/product_wave.hip"),
    ),
    (
        "engine/kernels/tuned/quantise_rows.hip",
        include_str!("../../../engine/kernels/tuned/quantise_rows.hip"),
    ),
    (
        "engine/kernels/tuned/rope_kv_write.hip",
        include_str!("../../../engine/kernels/tuned/rope_kv_write.hip"),
    ),
    (
        "engine/kernels/tuned/swiglu_quantise.hip",
        include_str!("../../../engine/kernels/tuned/swiglu_quantise.hip"),
    ),
];

/// The line of the first kernel of a file, counted from 1; nothing for a file without one. Where
/// kernels of several types share what a block does, it is that.
pub fn line_of_kernel(file: &str) -> Option<usize> {
    let (_, text) = SOURCES.iter().find(|(name, _)| *name == file)?;
    let shared = |line: &str| line.starts_with("INLINE void") && is_block(line);
    let own = |line: &str| line.trim_start().starts_with("KERNEL");
    let found = text.lines().position(shared).or_else(|| text.lines().position(own));
    found.map(|index| index + 1)
}

/// Whether a function's line is of one that does a block's work: it takes the block's number.
fn is_block(line: &str) -> bool {
    line.ends_with("BLOCK_PARAMETERS) {") || line.ends_with("& a, u32 place) {")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kernel_has_its_line_and_no_other_file_has_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut count = 0;
        for folder in ["engine/kernels", "engine/kernels/tuned"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !name.ends_with(".hip") {
                    continue;
                }
                let file = format!("{folder}/{name}");
                let line = line_of_kernel(&file).unwrap_or_else(|| panic!("{file} has no line"));
                let text = std::fs::read_to_string(root.join(&file)).unwrap();
                let begins = text.lines().nth(line - 1).unwrap();
                assert!(begins.contains("KERNEL") || is_block(begins), "{file}:{line}");
                // Not the end of the file, where kernels are only listed.
                assert!(begins.ends_with('{'), "{file}:{line}");
                count += 1;
            }
        }
        assert_eq!(count, SOURCES.len());
        assert_eq!(line_of_kernel("engine/src/llama/layer.rs"), None);
    }
}
