//! From a number to an opened GPU, or to the reason why not and what to do about it.

use super::HipBackend;
use super::api::{Api, LIBRARY_VARIABLE, Refusal};
use super::handle::Handle;
use super::objects::{self, CodeObject};
use super::staging::Staging;
use crate::device::backend::Description;
use crate::device::error::DeviceError;
use crate::device::limit::Limit;
use hip_sys::hiprt::{hipDeviceAttribute_t, hipStream_t, hipStreamNonBlocking};
use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Lanes of a wave that the code objects are built for.
const WAVE_LANES: i32 = 64;

/// `hipErrorNoDevice`, and `hipErrorInvalidDevice`, which some versions say instead.
const NO_DEVICE: [u32; 2] = [100, 101];

impl HipBackend {
    /// Opens GPU number `index`; a fault is the number of one that its kernels have.
    pub(in crate::device) fn new(index: usize, fault: Option<u32>) -> Result<Self, DeviceError> {
        Self::with_objects(index, objects::embedded(), fault)
    }

    /// The same with other code objects.
    pub(super) fn with_objects(
        index: usize,
        objects: &[CodeObject],
        fault: Option<u32>,
    ) -> Result<Self, DeviceError> {
        let device = format!("hip:{index}");
        let missing = |reason: String, remedy: String| {
            let device = device.clone();
            DeviceError::Missing { device, reason, remedy }
        };
        let api = Api::find().map_err(|reason| {
            let remedy = format!(
                "install ROCm 5.4 or newer, name the library in {LIBRARY_VARIABLE}, or use \
                 --device host"
            );
            missing(reason, remedy)
        })?;
        let number = choose(api, index).map_err(|absent| match absent {
            Absent::Driver => missing(
                "HIP finds no AMD GPU".to_owned(),
                "see that `rocminfo` lists one and that this user may open /dev/kfd (groups \
                 render and video), or use --device host"
                    .to_owned(),
            ),
            Absent::Number(count) => missing(
                format!("this machine has {count} of them, counted from 0"),
                format!("use --device hip:0 to hip:{}", count - 1),
            ),
            Absent::Refused(refusal) => missing(
                refusal.sentence(),
                "see that `rocminfo` works, or use --device host".to_owned(),
            ),
        })?;
        let refused = |refusal: Refusal| {
            missing(refusal.sentence(), "see `dmesg` and `rocm-smi`, or use --device host".into())
        };
        let about = About::ask(api, number).map_err(refused)?;
        if about.wave_lanes != WAVE_LANES {
            let reason = format!(
                "{} has waves of {} lanes, and the kernels are built for {WAVE_LANES}",
                about.name, about.wave_lanes
            );
            let remedy = "use an AMD Instinct GPU, or --device host".to_owned();
            return Err(missing(reason, remedy));
        }
        let mut backend = Self::start(api, number, device.clone()).map_err(refused)?;
        let loaded = objects::load(api, objects, fault, about.major, about.minor)
            .map_err(|none| missing(format!("{}: {}", about.name, none.reason), none.remedy))?;
        backend.description.name = format!("{} {}", about.name, loaded.architecture);
        backend.description.build = format!(
            "kernels {}, {}, HIP {}, driver {}",
            env!("LOCKSTEP_KERNELS_HASH"),
            loaded.build,
            about.runtime,
            about.driver
        );
        backend.multiprocessors = about.multiprocessors;
        backend.code = Some(loaded);
        Ok(backend)
    }

    /// Stream and pinned memory.
    fn start(api: &'static Api, index: c_int, device: String) -> Result<Self, Refusal> {
        let staging = Staging::new(api)?;
        let mut stream: hipStream_t = std::ptr::null_mut();
        // SAFETY: the result is a local.
        let code = unsafe { (api.stream_create)(&raw mut stream, hipStreamNonBlocking) };
        if let Err(refusal) = api.check("hipStreamCreateWithFlags", code) {
            // SAFETY: the memory was made above, and nothing uses it.
            unsafe { (api.host_free)(staging.address()) };
            return Err(refusal);
        }
        let wave_lanes = WAVE_LANES.unsigned_abs();
        Ok(Self {
            api,
            index,
            stream: Handle(stream),
            code: None,
            staging: Mutex::new(staging),
            limit: Limit::default(),
            capturing: AtomicBool::new(false),
            warned: Mutex::default(),
            description: Description {
                device,
                name: String::new(),
                build: String::new(),
                wave_lanes,
            },
            multiprocessors: 1,
        })
    }
}

/// Why a number is no device.
enum Absent {
    Driver,
    Number(c_int),
    Refused(Refusal),
}

/// Starts the runtime and makes a device the one of this thread.
fn choose(api: &Api, index: usize) -> Result<c_int, Absent> {
    let sorted = |refusal: Refusal| {
        if NO_DEVICE.contains(&refusal.code) { Absent::Driver } else { Absent::Refused(refusal) }
    };
    // SAFETY: no flags are defined, and 0 is what is asked for.
    let code = unsafe { (api.init)(0) };
    api.check("hipInit", code).map_err(sorted)?;
    let mut count: c_int = 0;
    // SAFETY: the result is a local.
    let code = unsafe { (api.device_count)(&raw mut count) };
    api.check("hipGetDeviceCount", code).map_err(sorted)?;
    if count <= 0 {
        return Err(Absent::Driver);
    }
    let number = c_int::try_from(index).ok().filter(|number| *number < count);
    let number = number.ok_or(Absent::Number(count))?;
    // SAFETY: the function takes any number.
    let code = unsafe { (api.set_device)(number) };
    api.check("hipSetDevice", code).map_err(Absent::Refused)?;
    Ok(number)
}

/// What the runtime says of a device. Not its properties: that structure differs from version to
/// version.
struct About {
    name: String,
    wave_lanes: c_int,
    major: c_int,
    minor: c_int,
    multiprocessors: u32,
    runtime: c_int,
    driver: c_int,
}

impl About {
    fn ask(api: &Api, device: c_int) -> Result<Self, Refusal> {
        use hipDeviceAttribute_t as Attribute;
        let attribute = |which: Attribute| {
            let mut value: c_int = 0;
            // SAFETY: the result is a local.
            let code = unsafe { (api.device_attribute)(&raw mut value, which, device) };
            api.check("hipDeviceGetAttribute", code).map(|()| value)
        };
        let mut name = [0_u8; 256];
        // SAFETY: the result is a local of that length; its last byte is not offered.
        let code = unsafe { (api.device_name)(name.as_mut_ptr().cast(), 255, device) };
        api.check("hipDeviceGetName", code)?;
        let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        let (mut runtime, mut driver) = (0, 0);
        // SAFETY: the result is a local.
        let code = unsafe { (api.runtime_version)(&raw mut runtime) };
        api.check("hipRuntimeGetVersion", code)?;
        // SAFETY: the result is a local.
        let code = unsafe { (api.driver_version)(&raw mut driver) };
        api.check("hipDriverGetVersion", code)?;
        let multiprocessors = attribute(Attribute::hipDeviceAttributeMultiprocessorCount)?;
        Ok(Self {
            name: String::from_utf8_lossy(&name).into_owned(),
            wave_lanes: attribute(Attribute::hipDeviceAttributeWarpSize)?,
            major: attribute(Attribute::hipDeviceAttributeComputeCapabilityMajor)?,
            minor: attribute(Attribute::hipDeviceAttributeComputeCapabilityMinor)?,
            multiprocessors: u32::try_from(multiprocessors).unwrap_or(1),
            runtime,
            driver,
        })
    }
}
