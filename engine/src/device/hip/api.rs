//! The functions of `libamdhip64` that the engine calls, loaded when a device is opened, or linked.
//!
//! Invariant: an error code crosses as an integer. hip-sys has an enumeration there, and a newer
//! runtime gives codes that it does not know; everything else is as hip-sys declares it.

use crate::device::DeviceError;
use hip_sys::hiprt::{
    hipDevice_t, hipDeviceAttribute_t, hipDeviceptr_t, hipError_t, hipEvent_t, hipFunction_t,
    hipGraph_t, hipGraphExec_t, hipGraphNode_t, hipModule_t, hipStream_t, hipStreamCaptureMode,
};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_void};
use std::fmt;
use std::sync::OnceLock;

/// Where a user says that the library lies.
pub(super) const LIBRARY_VARIABLE: &str = "LOCKSTEP_LIBAMDHIP64";

/// A call that the runtime refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) call: &'static str,
    pub(super) code: u32,
    name: String,
}

impl Refusal {
    /// Call and code as one sentence.
    pub(super) fn sentence(&self) -> String {
        format!("{} gave {self}", self.call)
    }
}

impl From<Refusal> for DeviceError {
    fn from(refusal: Refusal) -> Self {
        Self::Runtime { operation: refusal.call.to_owned(), reason: refusal.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.name, self.code)
    }
}

macro_rules! api {
    ($($field:ident = $symbol:ident($($argument:ty),* $(,)?);)*) => {
        /// The functions, each with the arguments of hip-sys.
        #[derive(Debug)]
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> u32,)*
            error_name: unsafe extern "C" fn(u32) -> *const c_char,
        }

        // Compiled, never linked: hip-sys declares the same arguments.
        $(const _: unsafe extern "C" fn($($argument),*) -> hipError_t = hip_sys::hiprt::$symbol;)*

        #[cfg(not(feature = "hip-link"))]
        impl Api {
            fn of(library: &Library) -> Result<Self, String> {
                Ok(Self {
                    $($field: {
                        type Signature = unsafe extern "C" fn($($argument),*) -> u32;
                        // SAFETY: the symbol has these arguments in HIP 5.4 to 7, and the result
                        // is an enumeration of C, which is an integer of 32 bits.
                        unsafe { symbol::<Signature>(library, stringify!($symbol)) }?
                    },)*
                    error_name: {
                        type Signature = unsafe extern "C" fn(u32) -> *const c_char;
                        // SAFETY: as above; the argument is that enumeration.
                        unsafe { symbol::<Signature>(library, "hipGetErrorName") }?
                    },
                })
            }
        }

        #[cfg(feature = "hip-link")]
        mod linked {
            use super::*;
            unsafe extern "C" {
                $(pub(super) fn $symbol($(_: $argument),*) -> u32;)*
                pub(super) fn hipGetErrorName(code: u32) -> *const c_char;
            }
        }

        #[cfg(feature = "hip-link")]
        impl Api {
            fn linked() -> Self {
                Self { $($field: linked::$symbol,)* error_name: linked::hipGetErrorName }
            }
        }
    };
}

api! {
    init = hipInit(c_uint);
    device_count = hipGetDeviceCount(*mut c_int);
    set_device = hipSetDevice(c_int);
    device_name = hipDeviceGetName(*mut c_char, c_int, hipDevice_t);
    device_attribute = hipDeviceGetAttribute(*mut c_int, hipDeviceAttribute_t, c_int);
    driver_version = hipDriverGetVersion(*mut c_int);
    runtime_version = hipRuntimeGetVersion(*mut c_int);
    memory_info = hipMemGetInfo(*mut usize, *mut usize);
    malloc = hipMalloc(*mut *mut c_void, usize);
    free = hipFree(*mut c_void);
    host_malloc = hipHostMalloc(*mut *mut c_void, usize, c_uint);
    host_free = hipHostFree(*mut c_void);
    copy_in = hipMemcpyHtoDAsync(hipDeviceptr_t, *mut c_void, usize, hipStream_t);
    copy_out = hipMemcpyDtoHAsync(*mut c_void, hipDeviceptr_t, usize, hipStream_t);
    fill = hipMemsetD8Async(hipDeviceptr_t, c_uchar, usize, hipStream_t);
    stream_create = hipStreamCreateWithFlags(*mut hipStream_t, c_uint);
    copy_within = hipMemcpyDtoDAsync(hipDeviceptr_t, hipDeviceptr_t, usize, hipStream_t);
    stream_query = hipStreamQuery(hipStream_t);
    stream_synchronize = hipStreamSynchronize(hipStream_t);
    stream_destroy = hipStreamDestroy(hipStream_t);
    event_create = hipEventCreate(*mut hipEvent_t);
    event_record = hipEventRecord(hipEvent_t, hipStream_t);
    event_synchronize = hipEventSynchronize(hipEvent_t);
    event_elapsed = hipEventElapsedTime(*mut f32, hipEvent_t, hipEvent_t);
    event_destroy = hipEventDestroy(hipEvent_t);
    module_load = hipModuleLoadData(*mut hipModule_t, *const c_void);
    module_unload = hipModuleUnload(hipModule_t);
    module_function = hipModuleGetFunction(*mut hipFunction_t, hipModule_t, *const c_char);
    launch = hipModuleLaunchKernel(
        hipFunction_t,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        hipStream_t,
        *mut *mut c_void,
        *mut *mut c_void,
    );
    begin_capture = hipStreamBeginCapture(hipStream_t, hipStreamCaptureMode);
    end_capture = hipStreamEndCapture(hipStream_t, *mut hipGraph_t);
    graph_instantiate = hipGraphInstantiate(
        *mut hipGraphExec_t,
        hipGraph_t,
        *mut hipGraphNode_t,
        *mut c_char,
        usize,
    );
    graph_launch = hipGraphLaunch(hipGraphExec_t, hipStream_t);
    graph_exec_destroy = hipGraphExecDestroy(hipGraphExec_t);
    graph_destroy = hipGraphDestroy(hipGraph_t);
}

impl Api {
    /// The runtime of this process, found once; the reason where there is none.
    pub(super) fn find() -> Result<&'static Self, String> {
        static FOUND: OnceLock<Result<Api, String>> = OnceLock::new();
        FOUND.get_or_init(Self::make).as_ref().map_err(Clone::clone)
    }

    #[cfg(feature = "hip-link")]
    fn make() -> Result<Self, String> {
        Ok(Self::linked())
    }

    #[cfg(not(feature = "hip-link"))]
    fn make() -> Result<Self, String> {
        let library = open_library("libamdhip64", LIBRARY_VARIABLE)?;
        let api = Self::of(&library)?;
        // The functions are used until the process ends.
        std::mem::forget(library);
        Ok(api)
    }

    /// Success, or which call gave which code.
    pub(super) fn check(&self, call: &'static str, code: u32) -> Result<(), Refusal> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function takes any integer.
        let name = unsafe { (self.error_name)(code) };
        let name = if name.is_null() {
            "an error without a name".to_owned()
        } else {
            // SAFETY: not null; the runtime's names are literals that end with a zero.
            unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
        };
        Err(Refusal { call, code, name })
    }
}

/// Loads the first version of a library of ROCm that is there; a path in `variable` is the only one
/// that is tried.
pub(super) fn open_library(stem: &str, variable: &str) -> Result<Library, String> {
    let names = std::env::var(variable).map_or_else(
        |_| {
            let versions = [".so.7", ".so.6", ".so.5", ".so"];
            let files = versions.map(|version| format!("{stem}{version}"));
            let beside = files.iter().map(|file| format!("/opt/rocm/lib/{file}"));
            files.iter().cloned().chain(beside.collect::<Vec<_>>()).collect()
        },
        |path| vec![path],
    );
    let mut reasons = Vec::new();
    for name in &names {
        // SAFETY: loading runs the constructors of the library, which is ROCm's, or the one that
        // the user named to stand for it.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => reasons.push(words(&error)),
        }
    }
    let reason = reasons.first().cloned().unwrap_or_default();
    Err(format!("{stem} cannot be loaded ({reason})"))
}

/// What the loader said, without libloading's frame.
fn words(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// A function of a library by its name.
///
/// # Safety
/// `Signature` is the type of a pointer to that function.
pub(super) unsafe fn symbol<Signature: Copy>(
    library: &Library,
    name: &str,
) -> Result<Signature, String> {
    // SAFETY: the caller knows the function's type.
    let found = unsafe { library.get::<Signature>(name) };
    found.map(|symbol| *symbol).map_err(|error| format!("{name} is missing ({})", words(&error)))
}
