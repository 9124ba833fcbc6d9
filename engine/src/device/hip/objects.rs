//! Which machine code a GPU gets: an object that was compiled with the engine, or hiprtc's.
//!
//! Invariant: an embedded object is loaded only when its bytes have the hash that the build noted.

use super::api::Api;
use super::handle::Handle;
use super::rtc;
use hip_sys::hiprt::{hipModule_t, ihipModule_t};

/// Machine code for one architecture, and BLAKE3 of it when the engine was built.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeObject {
    pub(super) architecture: &'static str,
    /// Empty where the engine was built without a compiler for it.
    pub(super) bytes: &'static [u8],
    pub(super) hash: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/code_objects.rs"));

/// A loaded module.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) module: Handle<ihipModule_t>,
    pub(super) architecture: &'static str,
    /// Where the code came from.
    pub(super) build: String,
    /// The image, kept as long as the module: a runtime may read it late.
    _image: Vec<u64>,
}

/// Why a GPU got no code, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoCode {
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// The objects of this build.
pub(super) fn embedded() -> &'static [CodeObject] {
    &CODE_OBJECTS
}

/// The architectures that a compute capability may stand for: their stepping is no attribute. A
/// runtime refuses an object that is not for its GPU, so they are tried in turn.
fn architectures(major: i32, minor: i32) -> &'static [&'static str] {
    match (major, minor) {
        (9, 5) => &["gfx950"],
        (9, 4) => &["gfx942"],
        (9, 0) => &["gfx90a", "gfx908"],
        _ => &[],
    }
}

/// Loads the code for a GPU of this compute capability. No object has a fault: one that is planted
/// is compiled.
pub(super) fn load(
    api: &Api,
    objects: &[CodeObject],
    fault: Option<u32>,
    major: i32,
    minor: i32,
) -> Result<Loaded, NoCode> {
    let candidates = architectures(major, minor);
    if candidates.is_empty() {
        return Err(NoCode {
            reason: format!("its architecture, gfx{major}{minor}x, is not served"),
            remedy: "use an AMD Instinct MI100 or newer, or --device host".to_owned(),
        });
    }
    let mut reasons = Vec::new();
    for object in objects.iter().filter(|object| candidates.contains(&object.architecture)) {
        if object.bytes.is_empty() || fault.is_some() {
            continue;
        }
        object.verify()?;
        let build = format!("{} object {}", object.architecture, &object.hash[..16]);
        let build = format!("{build}, {}", env!("LOCKSTEP_GPU_COMPILER"));
        match module(api, object.architecture, object.bytes, build) {
            Ok(loaded) => return Ok(loaded),
            Err(reason) => reasons.push(format!("the embedded object: {reason}")),
        }
    }
    for architecture in candidates {
        let compiled = rtc::compile(architecture, fault).and_then(|bytes| {
            let planted = fault.map_or_else(String::new, |number| format!(", fault {number}"));
            let build = format!("{architecture} by hiprtc{planted}");
            module(api, architecture, &bytes, build)
        });
        match compiled {
            Ok(loaded) => return Ok(loaded),
            Err(reason) => reasons.push(format!("{architecture} by hiprtc: {reason}")),
        }
    }
    Err(NoCode {
        reason: format!("no code for it can be had: {}", reasons.join("; ")),
        remedy: "build the engine where clang++-19 and lld-19 are installed, or install hiprtc"
            .to_owned(),
    })
}

impl CodeObject {
    /// Refuses an object whose bytes are not those that this build was made with.
    fn verify(&self) -> Result<(), NoCode> {
        let found = blake3::hash(self.bytes).to_hex();
        if found.as_str() == self.hash {
            return Ok(());
        }
        let (architecture, expected) = (self.architecture, &self.hash[..16]);
        let reason = format!(
            "the code object for {architecture} has hash {}, this build was made with {expected}",
            &found.as_str()[..16]
        );
        Err(NoCode { reason, remedy: "rebuild the engine".to_owned() })
    }
}

/// Hands an image to the runtime.
fn module(
    api: &Api,
    architecture: &'static str,
    bytes: &[u8],
    build: String,
) -> Result<Loaded, String> {
    let mut image = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut image)[..bytes.len()].copy_from_slice(bytes);
    let mut module: hipModule_t = std::ptr::null_mut();
    // SAFETY: the image is a whole ELF file, aligned to 8, which `Loaded` keeps alive.
    let code = unsafe { (api.module_load)(&raw mut module, image.as_ptr().cast()) };
    api.check("hipModuleLoadData", code).map_err(|refusal| refusal.sentence())?;
    Ok(Loaded { module: Handle(module), architecture, build, _image: image })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_changed_is_refused() {
        let hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let sound = CodeObject { architecture: "gfx942", bytes: b"", hash };
        assert_eq!(sound.verify(), Ok(()));
        let changed = CodeObject { bytes: b"stale", ..sound };
        let refused = changed.verify().unwrap_err();
        assert!(refused.reason.starts_with("the code object for gfx942 has hash "), "{refused:?}");
        assert!(refused.reason.ends_with("this build was made with af1349b9f5f9a1a6"));
    }

    #[test]
    fn the_embedded_objects_are_those_of_the_build() {
        for object in embedded() {
            assert_eq!(object.verify(), Ok(()), "{}", object.architecture);
        }
    }
}
