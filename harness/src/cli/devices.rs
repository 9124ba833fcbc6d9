//! `lockstep devices`: what can run here, or why not.

use std::io::{self, Write};

use clap::Args;
use engine::DeviceChoice;

use super::options::{ActivationsChoice, KvChoice};
use super::sides::Setup;
use super::{EXIT_CODES, Failure, run};
use crate::model::Model;
use crate::report::output::Output;
use crate::sides::engine::EngineSide;
use crate::sides::{Side, SideIdentity};

/// Say which devices can run the engine, and why the others cannot
#[derive(Debug, Args)]
#[command(after_help = format!(
    "Each device is probed (CONTRACT.md section 14) and asked to load the embedded model.\n\n\
     {EXIT_CODES}"
))]
pub(super) struct DevicesCommand {}

impl DevicesCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let model = Model::resolve(None)?;
        let mut output = Output::new(io::stdout());
        for device in [DeviceChoice::Host, DeviceChoice::Hip(0), DeviceChoice::Cuda(0)] {
            let setup = Setup {
                device,
                activations: ActivationsChoice::default(),
                kv: KvChoice::default(),
                context_tokens: 1,
                ubatch: 1,
                threads: run::all_threads(),
            };
            let line = match EngineSide::load(&model.file, &setup.engine()) {
                Ok(side) => {
                    let identity = side.identity();
                    let operations = side.operations_probed();
                    let SideIdentity { device, build, .. } = identity;
                    format!("ready: {device}, {build}, probe: {operations} operations")
                }
                Err(error) => format!("cannot run: {error}"),
            };
            writeln!(output, "{:<8}  {line}", device.to_string())?;
        }
        Ok(0)
    }
}
