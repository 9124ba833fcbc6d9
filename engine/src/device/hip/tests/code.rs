//! What clang made of the kernels, read with LLVM's tools: arguments, registers, modes of the
//! arithmetic, and no instruction that rounds otherwise than CONTRACT.md says.

mod listing;

use super::super::objects::{self, CodeObject};
use super::mock::skip;
use crate::device::host;
use listing::{Kernel, Tools};
use std::path::Path;
use std::process::Command;

/// Tuned kernels with more addresses than scalar registers: the rest lie in lanes of vector
/// registers (151 and 146 of attention on gfx942, 2 or 3 of the products on gfx90a), never in
/// memory, which is demanded as of all.
const SCALARS_IN_VECTORS: [&str; 5] = [
    "attention_split_f32",
    "attention_split_f16",
    "product_tiles_q4_k_i24",
    "product_tiles_q5_k_i16",
    "product_tiles_q5_k_i24",
];

/// Plain kernels whose local arrays do not fit the registers, or are indexed as registers cannot
/// be: `product` keeps sixteen rows' sums and a whole unpacked block, and `embed` a block. They are
/// the oracles of the tuned kernels, which have to do without.
const IN_SCRATCH: [&str; 14] = [
    "embed_q3_k",
    "embed_q6_k",
    "product_q2_k_i16",
    "product_q2_k_i24",
    "product_q3_k_i8",
    "product_q3_k_i16",
    "product_q3_k_i24",
    "product_q4_k_i16",
    "product_q4_k_i24",
    "product_q5_k_i16",
    "product_q5_k_i24",
    "product_q6_k_i8",
    "product_q6_k_i16",
    "product_q6_k_i24",
];

/// Beginnings of instructions that give approximations, other roundings, or flush denormals.
const FORBIDDEN: [&str; 19] = [
    "s_denorm_mode",
    "s_round_mode",
    "s_setreg",
    "v_cos_",
    "v_cvt_pkrtz",
    "v_dot2_f32",
    "v_dot2c_f32",
    "v_exp_",
    "v_fma_mix",
    "v_log_",
    "v_mac_f",
    "v_mad_f",
    "v_mad_mix",
    "v_mfma_f",
    "v_mul_legacy",
    "v_rcp_f16",
    "v_rsq_",
    "v_sin_",
    "v_sqrt_f16",
];

/// What the kernel descriptor says where floats round to nearest even and keep denormals.
const MODES: [(&str, &str); 4] = [
    ("float_round_mode_32", "0"),
    ("float_round_mode_16_64", "0"),
    ("float_denorm_mode_32", "3"),
    ("float_denorm_mode_16_64", "3"),
];

/// Everything that is wrong with a kernel.
fn findings(name: &str, kernel: &Kernel, argument_bytes: Option<u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut demand = |holds: bool, what: String| {
        if !holds {
            found.push(format!("{name}: {what}"));
        }
    };
    let bytes = argument_bytes.map(|bytes| bytes.to_string());
    for (field, expected) in [
        ("kernarg_segment_size", bytes.as_deref().unwrap_or("no such kernel in the host's build")),
        ("wavefront_size", "64"),
        ("max_flat_workgroup_size", "256"),
        ("uses_dynamic_stack", "false"),
    ] {
        let value = kernel.metadata(field);
        demand(value == expected, format!("{field} is {value}, not {expected}"));
    }
    let scalars = kernel.metadata("sgpr_spill_count");
    let served = scalars == "0" || SCALARS_IN_VECTORS.contains(&name);
    demand(served, format!("sgpr_spill_count is {scalars}"));
    for field in ["private_segment_fixed_size", "vgpr_spill_count"] {
        let value = kernel.metadata(field);
        let served = value == "0" || IN_SCRATCH.contains(&name);
        demand(served, format!("{field} is {value}: local memory is off the chip"));
    }
    for (mode, expected) in MODES {
        let value = kernel.mode(mode);
        demand(value == expected, format!("{mode} is {value}, not {expected}"));
    }
    for (instruction, count) in &kernel.instructions {
        let forbidden = FORBIDDEN.iter().any(|start| instruction.starts_with(start));
        demand(!forbidden, format!("{instruction}, {count} times"));
    }
    // A division is one reciprocal with its scaling, its steps and its end; a root is checked for
    // what its steps cannot serve. A reciprocal for integers ends in `iflag`.
    let count = |instruction: &str| kernel.instructions.get(instruction).copied().unwrap_or(0);
    let divisions = count("v_rcp_f32");
    let corrected = [
        ("v_div_scale_f32", 2 * divisions),
        ("v_div_fmas_f32", divisions),
        ("v_div_fixup_f32", divisions),
    ];
    for (instruction, expected) in corrected {
        let count = count(instruction);
        let words = format!("{divisions} v_rcp_f32 with {count} {instruction}");
        demand(count == expected, words);
    }
    let (roots, classes) = (count("v_sqrt_f32"), count("v_cmp_class_f32"));
    demand(roots <= classes, format!("{roots} v_sqrt_f32 with {classes} v_cmp_class_f32"));
    found
}

/// The findings of a whole code object.
fn all_findings(
    tools: &Tools,
    file: &Path,
    argument_bytes: fn(&str) -> Option<u64>,
) -> Vec<String> {
    let kernels = tools.read(file);
    assert!(!kernels.is_empty(), "no kernel in {}", file.display());
    kernels.iter().flat_map(|(name, kernel)| findings(name, kernel, argument_bytes(name))).collect()
}

/// LLVM's tools and the embedded objects, or the reason that they are not there.
fn material() -> Option<(Tools, &'static [CodeObject])> {
    let objects = objects::embedded();
    if objects.iter().any(|object| object.bytes.is_empty()) {
        skip("the engine was built without code objects");
        return None;
    }
    let tools = Tools::find();
    if tools.is_none() {
        skip("no llvm-readelf and llvm-objdump of LLVM 18 or newer");
    }
    Some((tools?, objects))
}

fn file(folder: &Path, object: &CodeObject) -> std::path::PathBuf {
    let file = folder.join(format!("{}.co", object.architecture));
    std::fs::write(&file, object.bytes).unwrap();
    file
}

#[test]
fn the_machine_code_keeps_the_contract() {
    let Some((tools, objects)) = material() else { return };
    let folder = tempfile::tempdir().unwrap();
    for object in objects {
        let file = file(folder.path(), object);
        let found = all_findings(&tools, &file, host::argument_bytes);
        assert!(found.is_empty(), "{}:\n{}", object.architecture, found.join("\n"));
        let kernels = tools.read(&file);
        for name in host::kernel_names() {
            assert!(kernels.contains_key(name), "{name} is not in {}", object.architecture);
        }
        // What is excused needs it.
        for name in IN_SCRATCH {
            let bytes = kernels[name].metadata("private_segment_fixed_size");
            assert_ne!(bytes, "0", "{name} has no scratch: take it off the list");
        }
        let divisions: usize =
            kernels.values().filter_map(|kernel| kernel.instructions.get("v_rcp_f32")).sum();
        assert!(divisions > 10, "the search itself finds {divisions} divisions only");
    }
}

/// Compiles a source with the flags of the build and more.
fn compile(source: &Path, target: &Path, more: &[&str]) {
    let mut words = env!("LOCKSTEP_GPU_COMMAND").split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg("--offload-arch=gfx942").args(more).arg("-o").arg(target);
    let output = command.arg(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A kernel that is sound with the build's flags, with an array that scratch may serve.
const CANARY: &str = r#"
extern "C" __attribute__((global, amdgpu_flat_work_group_size(256, 256)))
void canary(float* out, float x, float y) {
    out[0] = x / y;
    out[1] = __builtin_sqrtf(x);
    out[2] = __builtin_fmaf(x, (float)((_Float16*)out)[9], y);
#if defined(APPROXIMATE)
    out[3] = __builtin_amdgcn_exp2f(x) + __builtin_amdgcn_rcpf(y);
#endif
#if defined(ARRAY)
    float array[64];
    for (int i = 0; i < 64; ++i) array[i] = out[i + (int)x];
    for (int i = 0; i < 64; ++i) out[i] = array[(int)(y * i) & 63];
#endif
}
"#;

#[test]
fn each_check_of_the_machine_code_can_fail() {
    let Some((tools, _)) = material() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("canary.cpp");
    std::fs::write(&source, CANARY).unwrap();
    let target = folder.path().join("canary.co");
    let found = |more: &[&str], argument_bytes: fn(&str) -> Option<u64>| {
        compile(&source, &target, more);
        all_findings(&tools, &target, argument_bytes).join("\n")
    };
    assert_eq!(found(&[], |_| Some(16)), "");
    let mixed = ["-Xclang", "-target-feature", "-Xclang", "+fma-mix-insts"];
    for (more, expected) in [
        (&["-ffast-math"][..], "v_rcp_f32 with 0 v_div_scale_f32"),
        (&["-ffast-math"], "1 v_sqrt_f32 with 0 v_cmp_class_f32"),
        (&["-fno-hip-fp32-correctly-rounded-divide-sqrt"], "v_rcp_f32 with 0 v_div_fixup_f32"),
        (&["-fgpu-flush-denormals-to-zero"], "float_denorm_mode_32 is 0, not 3"),
        (&["-DAPPROXIMATE"], "v_exp_f32, 1 times"),
        (&["-DAPPROXIMATE"], "2 v_rcp_f32 with 2 v_div_scale_f32"),
        (&["-DARRAY"], "private_segment_fixed_size is 2"),
        (&mixed, "v_fma_mix_f32, 1 times"),
    ] {
        let found = found(more, |_| Some(16));
        assert!(found.contains(expected), "{more:?}: {found:?} lacks {expected}");
    }
    assert!(found(&[], |_| Some(24)).contains("kernarg_segment_size is 16, not 24"));
    assert!(found(&[], |_| None).contains("no such kernel in the host's build"));
}

#[test]
fn the_code_does_not_depend_on_the_folder() {
    let Some(_) = material() else { return };
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folder = tempfile::tempdir().unwrap();
    for name in ["attention.hip", "arguments.h", "arithmetic.h", "platform.h"] {
        std::fs::copy(kernels.join(name), folder.path().join(name)).unwrap();
    }
    let targets = ["here.co", "elsewhere.co"].map(|name| folder.path().join(name));
    compile(&kernels.join("attention.hip"), &targets[0], &[]);
    compile(&folder.path().join("attention.hip"), &targets[1], &[]);
    let [here, elsewhere] = targets.map(|target| std::fs::read(target).unwrap());
    assert!(here == elsewhere, "the bytes differ");
}
