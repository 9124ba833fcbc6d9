//! NVRTC: the kernels' sources into machine code of one architecture, at run time.

use super::super::sources::Unit;
use cudarc::nvrtc::{result, sys};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, PoisonError};

/// What the contract asks of the compiler (CONTRACT.md section 1).
pub(super) const FLAGS: [&str; 6] = [
    "--std=c++17",
    "--fmad=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--ftz=false",
    "--extra-device-vectorization",
];

/// Whether the library is there.
pub(super) fn present() -> bool {
    // SAFETY: it only tries to open libraries by their names.
    unsafe { sys::is_culib_present() }
}

/// The library's version, for identities.
pub(super) fn version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is there, as `present` was asked first; both pointers are of locals.
    let code = unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    match code {
        sys::nvrtcResult::NVRTC_SUCCESS => format!("NVRTC {major}.{minor}"),
        other => format!("NVRTC of unknown version ({other:?})"),
    }
}

/// A program that is destroyed with its value.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program came from `create_program` and this is its only owner.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// What a compilation is of.
type Wanted = (Unit, Option<u32>, (i32, i32));

/// What this process has compiled: a device that is opened again, with a fault that is in another
/// unit, finds its code here.
static COMPILED: Mutex<BTreeMap<Wanted, Arc<[u8]>>> = Mutex::new(BTreeMap::new());

/// As [`compile`], once in a process. A fault that the unit has no place for makes no other text.
pub(super) fn code(
    unit: Unit,
    fault: Option<u32>,
    architecture: (i32, i32),
) -> Result<Arc<[u8]>, String> {
    let fault = fault.filter(|number| unit.has_fault(*number));
    let compiled = || COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = (unit, fault, architecture);
    if let Some(code) = compiled().get(&wanted) {
        return Ok(Arc::clone(code));
    }
    let code: Arc<[u8]> = compile(unit, fault, architecture)?.into();
    compiled().insert(wanted, Arc::clone(&code));
    Ok(code)
}

/// Compiles a unit, with a planted fault if one is chosen, for compute capability `major.minor`; on
/// failure the compiler's own words.
pub(super) fn compile(
    unit: Unit,
    fault: Option<u32>,
    (major, minor): (i32, i32),
) -> Result<Vec<u8>, String> {
    let text = CString::new(unit.text(fault)).map_err(|error| error.to_string())?;
    let name = CString::new(unit.file).map_err(|error| error.to_string())?;
    let program =
        Program(result::create_program(&text, Some(&name)).map_err(|error| error.to_string())?);
    let mut options: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    options.push(format!("--gpu-architecture=sm_{major}{minor}"));
    options.extend(unit.defines());
    // SAFETY: the program was created above and lives.
    let compiled = unsafe { result::compile_program(program.0, &options) };
    if let Err(error) = compiled {
        return Err(format!("{error}: {}", log(&program)));
    }
    machine_code(&program)
}

fn log(program: &Program) -> String {
    // SAFETY: the program lives.
    let Ok(mut log) = (unsafe { result::get_program_log(program.0) }) else {
        return "no log".to_owned();
    };
    log.push(0);
    // SAFETY: a terminating zero was pushed, and the vector lives.
    let text = unsafe { CStr::from_ptr(log.as_ptr()) };
    text.to_string_lossy().into_owned()
}

fn machine_code(program: &Program) -> Result<Vec<u8>, String> {
    let mut bytes = 0;
    // SAFETY: the program lives and was compiled; the pointer is of a local.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut bytes) }
        .result()
        .map_err(|error| error.to_string())?;
    let mut code = vec![0_u8; bytes];
    // SAFETY: the vector has the size that the library asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| error.to_string())?;
    Ok(code)
}
