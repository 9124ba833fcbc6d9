//! The kernels that were asked for, and the modules they are compiled into when they are needed.

use super::super::backend::Kernel;
use super::super::error::DeviceError;
use super::super::sources::Unit;
use super::{compile, words};
use cudarc::driver::{result, sys};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything compiled so far for one architecture.
#[derive(Debug)]
pub(super) struct Modules {
    architecture: (i32, i32),
    /// The number of a planted fault.
    pub(super) fault: Option<u32>,
    /// The largest pool of shared memory that a block can have.
    pub(super) pool_bytes: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    modules: BTreeMap<Unit, sys::CUmodule>,
    /// What was asked for; a kernel's handle is its index here.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    unit: Unit,
    function: Option<sys::CUfunction>,
}

impl Modules {
    pub(super) fn new(architecture: (i32, i32), fault: Option<u32>, pool_bytes: u32) -> Self {
        Self { architecture, fault, pool_bytes, state: Mutex::default() }
    }

    /// Whether a launch may begin before the one in front has ended: from `sm_90` on every kernel
    /// waits for its inputs (`inputs_ready` in platform.h). What mostly stands behind a product and
    /// has many small blocks had better not: they are in the way of the product's last ones.
    pub(super) fn overlaps(&self, kernel: &str) -> bool {
        self.architecture.0 >= 9 && kernel != "swiglu_quantise"
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel by its name; it is compiled when it is prepared or launched.
    pub(super) fn find(
        &self,
        name: &'static str,
        argument_bytes: usize,
    ) -> Result<Kernel, DeviceError> {
        let unit = Unit::of_kernel(name).ok_or_else(|| DeviceError::Kernel {
            kernel: name.to_owned(),
            build: "NVRTC".to_owned(),
            reason: "no kernel of that name".to_owned(),
        })?;
        let mut state = self.state();
        let known = state.entries.iter().position(|entry| entry.name == name);
        let index = known.unwrap_or_else(|| {
            state.entries.push(Entry { name, unit, function: None });
            state.entries.len() - 1
        });
        Ok(Kernel { name, handle: index as u64, argument_bytes, pool: None })
    }

    /// The function of a kernel; a context is current.
    pub(super) fn function(&self, kernel: &Kernel) -> Result<sys::CUfunction, String> {
        let mut state = self.state();
        let index = usize::try_from(kernel.handle).expect("a handle is an index");
        if let Some(function) = state.entries[index].function {
            return Ok(function);
        }
        let Entry { name, unit, .. } = state.entries[index];
        let module = match state.modules.get(&unit) {
            Some(module) => *module,
            None => {
                let code = compile::code(unit, self.fault, self.architecture)?;
                // SAFETY: the code is a whole image from the compiler, and a context is current.
                let module = unsafe { result::module::load_data(code.as_ptr().cast()) };
                let module = module.map_err(words)?;
                state.modules.insert(unit, module);
                module
            }
        };
        let text = CString::new(name).expect("a kernel's name has no zero");
        // SAFETY: the module is loaded.
        let function = unsafe { result::module::get_function(module, text) }.map_err(words)?;
        check_arguments(function, kernel.argument_bytes)?;
        if kernel.pool.is_some() {
            allow_pool(function, self.pool_bytes)?;
        }
        state.entries[index].function = Some(function);
        Ok(function)
    }

    /// Unloads everything; no kernel can be launched after it.
    pub(super) fn unload(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.entries.clear();
        for (_, module) in std::mem::take(&mut state.modules) {
            // SAFETY: it was loaded in `function`, and its functions are forgotten.
            let _ = unsafe { result::module::unload(module) };
        }
    }
}

/// Lets launches ask for pools of up to `bytes`, beyond what every kernel may have.
fn allow_pool(function: sys::CUfunction, bytes: u32) -> Result<(), String> {
    use sys::CUfunction_attribute_enum as Attribute;
    let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let bytes = i32::try_from(bytes).expect("a multiprocessor has less than 2 GiB");
    // SAFETY: the function is of a loaded module.
    unsafe { sys::cuFuncSetAttribute(function, attribute, bytes) }.result().map_err(words)
}

/// Compares the size of the arguments with what the kernel takes, where the driver says it.
fn check_arguments(function: sys::CUfunction, argument_bytes: usize) -> Result<(), String> {
    let (mut offset, mut bytes) = (0, 0);
    // SAFETY: the function is loaded; both pointers are of locals.
    let code = unsafe { sys::cuFuncGetParamInfo(function, 0, &raw mut offset, &raw mut bytes) };
    if code.result().is_ok() && bytes != argument_bytes {
        return Err(format!("{bytes} argument bytes, not {argument_bytes}"));
    }
    Ok(())
}
