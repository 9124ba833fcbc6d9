//! Kernels as `llvm-readelf --notes` and `llvm-objdump -D` show them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// One kernel: its metadata, the fields of its descriptor, its instructions and how often each is.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    metadata: BTreeMap<String, String>,
    descriptor: BTreeMap<String, String>,
    pub(super) instructions: BTreeMap<String, usize>,
}

impl Kernel {
    pub(super) fn metadata(&self, field: &str) -> &str {
        self.metadata.get(field).map_or("missing", String::as_str)
    }

    pub(super) fn mode(&self, field: &str) -> &str {
        self.descriptor.get(field).map_or("missing", String::as_str)
    }
}

/// The two programs.
#[derive(Debug)]
pub(super) struct Tools {
    readelf: String,
    objdump: String,
}

impl Tools {
    /// The first pair that is there.
    pub(super) fn find() -> Option<Self> {
        let endings = ["-19", "-20", "-21", "-22", "-18", ""];
        let names = endings.iter().map(|ending| ("llvm-", *ending));
        names.chain([("/opt/rocm/llvm/bin/llvm-", "")]).find_map(|(start, ending)| {
            let [readelf, objdump] =
                ["readelf", "objdump"].map(|tool| format!("{start}{tool}{ending}"));
            let runs = |name: &String| Command::new(name).arg("--version").output().is_ok();
            (runs(&readelf) && runs(&objdump)).then_some(Self { readelf, objdump })
        })
    }

    /// The kernels of a code object.
    pub(super) fn read(&self, file: &Path) -> BTreeMap<String, Kernel> {
        let mut kernels = BTreeMap::new();
        read_metadata(&run(&self.readelf, &["--notes"], file), &mut kernels);
        read_descriptors(&run(&self.objdump, &["-D", "-j", ".rodata"], file), &mut kernels);
        read_instructions(&run(&self.objdump, &["-d", "-j", ".text"], file), &mut kernels);
        kernels
    }
}

fn run(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Kernels are items of a list, two columns in; what their arguments say stands further in.
fn read_metadata(text: &str, kernels: &mut BTreeMap<String, Kernel>) {
    let mut kernel = Kernel::default();
    let mut keep = |kernel: &mut Kernel| {
        if let Some(name) = kernel.metadata.get("name").cloned() {
            kernels.insert(name, std::mem::take(kernel));
        }
    };
    for line in text.lines() {
        if line.starts_with("  - .") {
            keep(&mut kernel);
        }
        let field = line.strip_prefix("  - .").or_else(|| line.strip_prefix("    ."));
        if let Some((name, value)) = field.and_then(|field| field.split_once(':')) {
            kernel.metadata.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    keep(&mut kernel);
}

fn read_descriptors(text: &str, kernels: &mut BTreeMap<String, Kernel>) {
    let mut name = "";
    for line in text.lines() {
        let Some(field) = line.trim().strip_prefix(".amdhsa_") else { continue };
        let (field, value) = field.split_once(' ').unwrap_or((field, ""));
        if field == "kernel" {
            name = value;
        } else if let Some(kernel) = kernels.get_mut(name) {
            kernel.descriptor.insert(field.to_owned(), value.to_owned());
        }
    }
}

fn read_instructions(text: &str, kernels: &mut BTreeMap<String, Kernel>) {
    let mut name = "";
    for line in text.lines() {
        if let Some(label) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
            name = label.1;
        } else if let Some(instruction) = line.strip_prefix('\t')
            && let Some(kernel) = kernels.get_mut(name)
        {
            let mnemonic = instruction.split_whitespace().next().unwrap_or_default();
            let endings = ["_e32", "_e64", "_sdwa", "_dpp"];
            let plain = endings.iter().find_map(|ending| mnemonic.strip_suffix(ending));
            *kernel.instructions.entry(plain.unwrap_or(mnemonic).to_owned()).or_default() += 1;
        }
    }
}
