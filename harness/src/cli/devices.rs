//! `lockstep devices`: what can run here, or why not.

use std::io::{self, Write};

use clap::Args;
use engine::DeviceChoice;
use engine::device::{Description, Device};

use super::{EXIT_CODES, Failure, run};
use crate::report::output::Output;

/// Say which devices can run the engine, and why the others cannot
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Each device is opened and probed (CONTRACT.md section 14). LOCKSTEP_DEVICE=cuda narrows the \
     tests to one.\n\n\
     {EXIT_CODES}"
))]
pub(super) struct DevicesCommand {}

impl DevicesCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut output = Output::new(io::stdout());
        for choice in [DeviceChoice::Host, DeviceChoice::Hip(0), DeviceChoice::Cuda(0)] {
            let line = match Device::open(choice, None, run::all_threads()) {
                Ok(device) => ready(&device),
                Err(error) => format!("cannot run: {error}"),
            };
            writeln!(output, "{:<8}  {line}", choice.to_string())?;
        }
        Ok(0)
    }
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
