//! What can be shown without an NVIDIA GPU: NVRTC takes every kernel, and missing libraries are
//! named. The rest is shown by every test that runs on the usable devices.

use super::super::sources::Unit;
use super::*;

/// Says why nothing is compiled; where it was asked for, that is a failure.
fn skip() {
    let required = std::env::var("LOCKSTEP_REQUIRE_NVRTC").is_ok_and(|value| value == "1");
    assert!(!required, "LOCKSTEP_REQUIRE_NVRTC is set, and libnvrtc was not found");
    eprintln!("SKIPPED kernels by NVRTC: libnvrtc was not found; see ci/nvrtc.sh");
}

#[test]
fn nvrtc_compiles_every_kernel() {
    if !compile::present() {
        return skip();
    }
    let units = Unit::all();
    assert!(units.len() > 40, "{} units", units.len());
    // The oldest architecture that is served gets a look as well: it has other instructions.
    let q4_k = || units.iter().filter(|unit| unit.is_of("q4_k"));
    // Edits of a fault are conditional on its number: every edit is in the text of any of them.
    let planted = units.iter().filter(|unit| !unit.has_formats()).chain(q4_k());
    let jobs: Vec<(Unit, Option<u32>, (i32, i32))> = units
        .iter()
        .map(|unit| (*unit, None, (9, 0)))
        .chain(q4_k().map(|unit| (*unit, None, (8, 0))))
        .chain(planted.map(|unit| (*unit, Some(6), (9, 0))))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((unit, fault, architecture)) =
                    jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let code = compile::compile(*unit, *fault, *architecture);
                    let code = code.unwrap_or_else(|error| panic!("{unit:?}: {error}"));
                    // An ELF image for the card, no text for the driver to compile.
                    assert_eq!(&code[..4], b"\x7fELF", "{unit:?}");
                }
            });
        }
    });
    eprintln!("NVRTC: {} units", jobs.len());
}

#[test]
fn what_does_not_compile_comes_back_in_the_compilers_words() {
    if !compile::present() {
        return skip();
    }
    let unit = Unit::of_kernel("residual").unwrap();
    let error = compile::compile(unit, None, (1, 3)).unwrap_err();
    assert!(error.contains("gpu-architecture") || error.contains("INVALID_OPTION"), "{error}");
}

#[test]
fn a_missing_driver_is_named_with_the_remedy() {
    // Where there is one, every other test uses it.
    // SAFETY: it only tries to open libraries by their names.
    if unsafe { sys::is_culib_present() } {
        return;
    }
    let error = CudaBackend::new(0, None).unwrap_err().to_string();
    let expected = "device cuda:0 is not usable: libcuda.so is not on this machine; install \
                    NVIDIA's driver, or use --device host";
    assert_eq!(error, expected);
}
