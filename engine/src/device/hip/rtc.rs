//! hiprtc, for a GPU that no embedded code object is for: the same sources, compiled at load.

use super::api::{open_library, symbol};
use crate::device::sources;
use libloading::Library;
use std::ffi::{CString, c_char, c_int, c_void};

/// Where a user says that the library lies.
const LIBRARY_VARIABLE: &str = "LOCKSTEP_LIBHIPRTC";

/// What decides bits is what build.rs says to clang.
const OPTIONS: [&str; 7] = [
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-Xclang",
    "-target-feature",
    "-Xclang",
    "-fma-mix-insts",
];

/// `hiprtcProgram`.
type Program = *mut c_void;
type Strings = *const *const c_char;
type CreateProgram = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    Strings,
    Strings,
) -> u32;
type CompileProgram = unsafe extern "C" fn(Program, c_int, Strings) -> u32;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> u32;
type GetBytes = unsafe extern "C" fn(Program, *mut c_char) -> u32;
type DestroyProgram = unsafe extern "C" fn(*mut Program) -> u32;

#[derive(Debug)]
struct Compiler {
    create_program: CreateProgram,
    compile_program: CompileProgram,
    log_size: GetSize,
    log: GetBytes,
    code_size: GetSize,
    code: GetBytes,
    destroy_program: DestroyProgram,
    /// The functions are valid as long as this is.
    _library: Library,
}

/// Compiles the kernels for an architecture, with a planted fault if one is chosen.
pub(super) fn compile(architecture: &str, fault: Option<u32>) -> Result<Vec<u8>, String> {
    let compiler = Compiler::find()?;
    let source = CString::new(sources::unit(fault)).map_err(|error| error.to_string())?;
    let mut options = vec![format!("--offload-arch={architecture}")];
    options.extend(OPTIONS.map(str::to_owned));
    compiler.compile(&source, &options)
}

impl Compiler {
    fn find() -> Result<Self, String> {
        let library = open_library("libhiprtc", LIBRARY_VARIABLE)?;
        // SAFETY: the signature is that of hiprtc.h, unchanged from HIP 5.4 to 7; so are those
        // below.
        let create_program = unsafe { symbol::<CreateProgram>(&library, "hiprtcCreateProgram") }?;
        // SAFETY: as above.
        let compile_program =
            unsafe { symbol::<CompileProgram>(&library, "hiprtcCompileProgram") }?;
        // SAFETY: as above.
        let log_size = unsafe { symbol::<GetSize>(&library, "hiprtcGetProgramLogSize") }?;
        // SAFETY: as above.
        let log = unsafe { symbol::<GetBytes>(&library, "hiprtcGetProgramLog") }?;
        // SAFETY: as above.
        let code_size = unsafe { symbol::<GetSize>(&library, "hiprtcGetCodeSize") }?;
        // SAFETY: as above.
        let code = unsafe { symbol::<GetBytes>(&library, "hiprtcGetCode") }?;
        // SAFETY: as above.
        let destroy_program =
            unsafe { symbol::<DestroyProgram>(&library, "hiprtcDestroyProgram") }?;
        Ok(Self {
            create_program,
            compile_program,
            log_size,
            log,
            code_size,
            code,
            destroy_program,
            _library: library,
        })
    }

    fn compile(&self, source: &CString, options: &[String]) -> Result<Vec<u8>, String> {
        let mut program: Program = std::ptr::null_mut();
        let (text, name) = (source.as_ptr(), c"gpu.cpp".as_ptr());
        let (none, create) = (std::ptr::null(), self.create_program);
        // SAFETY: both strings live through the call and end with a zero; no header is given.
        let created = unsafe { create(&raw mut program, text, name, 0, none, none) };
        if created != 0 {
            return Err(format!("hiprtcCreateProgram gave code {created}"));
        }
        let result = self.compile_program(program, options);
        // SAFETY: the program was created above and is not used after this.
        unsafe { (self.destroy_program)(&raw mut program) };
        result
    }

    fn compile_program(&self, program: Program, options: &[String]) -> Result<Vec<u8>, String> {
        let texts: Vec<CString> =
            options.iter().filter_map(|option| CString::new(option.as_str()).ok()).collect();
        let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|error| error.to_string())?;
        // SAFETY: `count` strings that live through the call; the caller owns the program.
        let compiled = unsafe { (self.compile_program)(program, count, pointers.as_ptr()) };
        if compiled != 0 {
            let log = self.bytes(program, self.log_size, self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
            return Err(format!("hiprtcCompileProgram gave code {compiled}: {log}"));
        }
        let code = self.bytes(program, self.code_size, self.code);
        code.ok_or_else(|| "hiprtcGetCode gave nothing".to_owned())
    }

    /// What a pair of functions gives: a size, then as many bytes.
    fn bytes(&self, program: Program, size: GetSize, get: GetBytes) -> Option<Vec<u8>> {
        let mut count = 0_usize;
        // SAFETY: the caller owns the program; the result is a local's.
        let sized = unsafe { size(program, &raw mut count) };
        let mut bytes = vec![0_u8; count];
        // SAFETY: as many bytes as the program said that it has.
        let got = unsafe { get(program, bytes.as_mut_ptr().cast()) };
        (sized == 0 && got == 0 && count > 0).then_some(bytes)
    }
}
