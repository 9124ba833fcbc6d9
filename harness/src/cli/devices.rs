//! `lockstep devices`: what can run here, or why not.

use std::io::{self, Write};

use clap::Args;
use engine::DeviceChoice;
use engine::device::{Description, Device, DeviceError};
use serde::Serialize;

use super::{EXIT_CODES, Failure, Format, run};
use crate::report::output::Output;

/// Say which devices can run the engine, and why the others cannot
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Each device is opened and probed (CONTRACT.md section 14). LOCKSTEP_DEVICE=cuda narrows the \
     tests to one.\n\n\
     {EXIT_CODES}"
))]
pub(super) struct DevicesCommand {
    /// Text for people, or a JSON line a device for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

impl DevicesCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut output = Output::new(io::stdout());
        for choice in [DeviceChoice::Host, DeviceChoice::Hip(0), DeviceChoice::Cuda(0)] {
            let opened = Device::open(choice, None, run::all_threads());
            if self.format == Format::Json {
                serde_json::to_writer(&mut output, &Line::new(choice, &opened))
                    .map_err(io::Error::from)?;
                writeln!(output)?;
                continue;
            }
            let line = match opened {
                Ok(device) => ready(&device),
                Err(error) => format!("cannot run: {error}"),
            };
            writeln!(output, "{:<8}  {line}", choice.to_string())?;
        }
        Ok(0)
    }
}

/// A device for programs.
#[derive(Serialize)]
struct Line {
    device: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// Usable; what is not known is null.
    Ready {
        name: String,
        /// The instruction set: `gfx942`, `sm_90`, `x86_64`.
        arch: Option<String>,
        memory_total_bytes: Option<u64>,
        memory_free_bytes: Option<u64>,
        multiprocessors: u32,
        wave_lanes: u32,
        /// The hash of the kernels' text.
        kernels: Option<String>,
        /// Compiler, runtime and driver, each with its version.
        versions: Vec<String>,
        /// Operations whose bits were compared when it was opened.
        operations_probed: u64,
    },
    /// Not there; the remedy is what to do about it.
    Missing { reason: String, remedy: String },
    /// There, but its arithmetic or its driver is not what is due.
    Refused { reason: String },
}

impl Line {
    fn new(choice: DeviceChoice, opened: &Result<Device, DeviceError>) -> Self {
        let state = match opened {
            Ok(device) => State::ready(&device.describe(), device),
            Err(DeviceError::Missing { reason, remedy, .. }) => {
                State::Missing { reason: reason.clone(), remedy: remedy.clone() }
            }
            Err(error) => State::Refused { reason: error.to_string() },
        };
        Self { device: choice.to_string(), state }
    }
}

impl State {
    fn ready(description: &Description, device: &Device) -> Self {
        let attributes = device.attributes();
        let (kernels, versions) = parts(&description.build);
        Self::Ready {
            name: description.name.clone(),
            arch: architecture(&description.name),
            memory_total_bytes: attributes.memory_total_bytes,
            memory_free_bytes: attributes.memory_free_bytes,
            multiprocessors: attributes.multiprocessors,
            wave_lanes: description.wave_lanes,
            kernels,
            versions,
            operations_probed: device.operations_probed(),
        }
    }
}

/// The kernels' hash, and the rest, of `kernels HASH, compiler, driver`.
fn parts(build: &str) -> (Option<String>, Vec<String>) {
    let mut kernels = None;
    let mut versions = Vec::new();
    for part in build.split(", ") {
        match part.strip_prefix("kernels ") {
            Some(hash) => kernels = Some(hash.to_owned()),
            None => versions.push(part.to_owned()),
        }
    }
    (kernels, versions)
}

/// The word of a device's name that is its instruction set.
fn architecture(name: &str) -> Option<String> {
    let known = |word: &&str| {
        word.starts_with("gfx") || word.starts_with("sm_") || *word == std::env::consts::ARCH
    };
    name.split([' ', ',']).find(known).map(str::to_owned)
}

/// What a usable device is: name, memory, size of a wave, kernels and driver, the probe.
fn ready(device: &Device) -> String {
    let Description { name, build, wave_lanes, .. } = device.describe();
    let attributes = device.attributes();
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let memory = match (attributes.memory_total_bytes, attributes.memory_free_bytes) {
        (Some(total), Some(free)) => {
            format!(", {:.1} GiB of memory, {:.1} free", gib(total), gib(free))
        }
        _ => String::new(),
    };
    let waves =
        if wave_lanes > 1 { format!(", waves of {wave_lanes} lanes") } else { String::new() };
    let operations = device.operations_probed();
    format!("ready: {name}{memory}{waves}, {build}, probe: {operations} operations")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_taken_apart() {
        assert_eq!(architecture("AMD Instinct MI300X gfx942").as_deref(), Some("gfx942"));
        assert_eq!(architecture("NVIDIA H100 80GB HBM3, sm_90").as_deref(), Some("sm_90"));
        assert_eq!(architecture("a card"), None);
        let (kernels, versions) = parts("kernels 0123456789abcdef, HIP 6.4, driver 6.12");
        assert_eq!(kernels.as_deref(), Some("0123456789abcdef"));
        assert_eq!(versions, ["HIP 6.4", "driver 6.12"]);
    }

    #[test]
    fn a_device_that_is_missing_has_its_remedy() {
        let missing = DeviceError::Missing {
            device: "hip:0".to_owned(),
            reason: "no card".to_owned(),
            remedy: "plug one in".to_owned(),
        };
        let line = serde_json::to_string(&Line::new(DeviceChoice::Hip(0), &Err(missing))).unwrap();
        let expected =
            r#"{"device":"hip:0","state":"missing","reason":"no card","remedy":"plug one in"}"#;
        assert_eq!(line, expected);
    }
}
