//! The devices that tests run on: all that are usable, or the one that `LOCKSTEP_DEVICE` names.
#![allow(clippy::allow_attributes, dead_code, reason = "each test binary uses its own part")]

use std::sync::LazyLock;

use engine::DeviceChoice;
use engine::device::{Device, DeviceError};

/// What `LOCKSTEP_DEVICE` says.
fn named() -> Option<DeviceChoice> {
    let text = std::env::var("LOCKSTEP_DEVICE").ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("LOCKSTEP_DEVICE: {error}")))
}

/// Whether the host runs the tests.
pub(crate) fn host_is_asked_for() -> bool {
    matches!(named(), None | Some(DeviceChoice::Host | DeviceChoice::Auto))
}

/// The GPUs that run the tests as well. One that was named and cannot be used fails the run.
pub(crate) fn gpus() -> &'static [DeviceChoice] {
    static GPUS: LazyLock<Vec<DeviceChoice>> = LazyLock::new(|| match named() {
        Some(DeviceChoice::Host) => Vec::new(),
        Some(choice @ (DeviceChoice::Hip(_) | DeviceChoice::Cuda(_))) => {
            let opened = Device::open(choice, None, 1);
            opened.unwrap_or_else(|error| panic!("LOCKSTEP_DEVICE={choice}: {error}"));
            vec![choice]
        }
        Some(DeviceChoice::Auto) | None => {
            let usable = |choice: &DeviceChoice| match Device::open(*choice, None, 1) {
                Ok(_) => true,
                Err(DeviceError::Missing { .. }) => false,
                Err(error) => panic!("{choice}: {error}"),
            };
            [DeviceChoice::Hip(0), DeviceChoice::Cuda(0)].into_iter().filter(usable).collect()
        }
    });
    &GPUS
}

/// Every device that runs the tests.
pub(crate) fn all() -> Vec<DeviceChoice> {
    let host = host_is_asked_for().then_some(DeviceChoice::Host);
    host.into_iter().chain(gpus().iter().copied()).collect()
}
