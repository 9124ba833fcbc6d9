//! Every call of the runtime fails once: what was refused is said, and nothing panics.

use super::mock::{play, tell};
use crate::device::Device;
use crate::kernels::Kernels;
use crate::options::{Activations, DeviceChoice, KvType};

/// A fault planted into every call in turn: an error or a warning, never a panic.
pub(super) fn play_on() {
    let result = Device::open(DeviceChoice::Hip(0), None, 1)
        .and_then(|device| {
            let x = device.upload("x", &[1.0_f32; 64])?;
            let kernels = Kernels::load(&device, Activations::I24, KvType::F32)?;
            let out = device.allocate::<f32>("out", 64)?;
            let launch = || kernels.residual(x.all(), x.all(), out.all(), 64);
            let graph = device.capture(launch)?;
            let before = device.mark()?;
            graph.replay()?;
            let mut values = [0.0_f32; 64];
            out.all().read(&mut values)?;
            device.mark()?.seconds_since(&before)
        })
        .map(|_| ());
    match result {
        Ok(()) => tell("done"),
        Err(error) => tell(error),
    }
}

#[test]
fn every_call_may_fail() {
    let calls = [
        "hipSetDevice",
        "hipDeviceGetName",
        "hipDeviceGetAttribute",
        "hipMalloc",
        "hipFree",
        "hipHostMalloc",
        "hipHostFree",
        "hipMemcpyHtoDAsync",
        "hipMemcpyDtoHAsync",
        "hipMemsetD8Async",
        "hipStreamCreateWithFlags",
        "hipStreamSynchronize",
        "hipStreamDestroy",
        "hipEventCreate",
        "hipEventRecord",
        "hipEventSynchronize",
        "hipEventElapsedTime",
        "hipEventDestroy",
        "hipModuleUnload",
        "hipModuleGetFunction",
        "hipModuleLaunchKernel",
        "hipStreamBeginCapture",
        "hipStreamEndCapture",
        "hipGraphInstantiate",
        "hipGraphLaunch",
        "hipGraphExecDestroy",
        "hipGraphDestroy",
    ];
    for call in calls {
        let plan = format!("{call}:1:12345");
        let Some(told) = play("faults", &[("LOCKSTEP_MOCK_FAIL", &plan)]) else { return };
        let allocation = call == "hipMalloc" && told.starts_with("allocation of ");
        assert!(allocation || told.contains("code 12345"), "{call}: {told}");
        assert!(allocation || told.contains(call), "{call}: {told}");
    }
    let Some(told) = play("faults", &[]) else { return };
    assert_eq!(told, "done");
}
