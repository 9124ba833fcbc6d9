//! What a caller chooses before loading: device, activation digits, cache type, sizes.

use crate::fault::Fault;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where the kernels run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first usable device; the identity says which one that was.
    #[default]
    Auto,
    /// The kernels compiled for the CPU.
    Host,
    /// AMD GPU number n.
    Hip(usize),
    /// NVIDIA GPU number n.
    Cuda(usize),
}

/// The text given for a device is none of `auto`, `host`, `hip[:N]`, `cuda[:N]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device `{text}`: use auto, host, hip, hip:N, cuda or cuda:N")]
pub struct DeviceChoiceError {
    text: String,
}

impl FromStr for DeviceChoice {
    type Err = DeviceChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceChoiceError { text: text.to_owned() };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(Self::Auto),
            ("host", None) => Ok(Self::Host),
            ("hip", index) => Ok(Self::Hip(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Host => write!(f, "host"),
            Self::Hip(index) => write!(f, "hip:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Digits of an activation in a product with quantised weights (CONTRACT.md section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Three int8 digits.
    #[default]
    I24,
    /// Two int8 digits.
    I16,
    /// One int8 digit.
    I8,
}

impl Activations {
    /// The number of int8 digits.
    pub fn digit_count(self) -> usize {
        match self {
            Self::I24 => 3,
            Self::I16 => 2,
            Self::I8 => 1,
        }
    }

    /// The word used on the command line and in kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::I24 => "i24",
            Self::I16 => "i16",
            Self::I8 => "i8",
        }
    }
}

/// Element type of the KV cache (CONTRACT.md section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 4 bytes a value.
    #[default]
    F32,
    /// 2 bytes a value, narrowed to nearest even.
    F16,
}

impl KvType {
    /// Size of one element.
    pub fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The word used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// Which compilation of the kernels the device `host` runs; all give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBuild {
    /// No instructions beyond the target's baseline.
    Baseline,
    /// AVX2 and FMA (x86-64-v3).
    Avx2,
    /// AVX-512 with VNNI (x86-64-v4).
    Avx512,
    /// Every access through a span or a shared array compared with its length.
    Checked,
    /// The code of a GPU with waves of 32 lanes, thread by thread, every access compared.
    Waves32,
    /// The same with waves of 64 lanes.
    Waves64,
    /// With one planted fault, by its number in engine/kernels/faults.toml; 0 is none. For tests.
    #[doc(hidden)]
    Faulty(u32),
    /// The same in the code of a GPU with waves of 32 lanes.
    #[doc(hidden)]
    FaultyWaves(u32),
    /// No engine: the probe alone, built or set so that it breaks the contract. For tests.
    #[doc(hidden)]
    Unfit(Unfit),
}

/// What is wrong with a build that the probe has to refuse.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Compiled with `-ffast-math`.
    FastMath,
    /// Compiled with `-ffp-contract=fast`.
    Contracted,
    /// The CPU takes denormal inputs for zero.
    FlushedInputs,
    /// The CPU makes denormal results zero.
    FlushedResults,
    /// The CPU rounds down.
    RoundedDown,
    /// The CPU rounds up.
    RoundedUp,
    /// The CPU rounds towards zero.
    RoundedToZero,
}

impl Unfit {
    /// All of them; only x86-64 has those that set the CPU.
    pub const ALL: &[Self] = &[
        Self::FastMath,
        Self::Contracted,
        #[cfg(target_arch = "x86_64")]
        Self::FlushedInputs,
        #[cfg(target_arch = "x86_64")]
        Self::FlushedResults,
        #[cfg(target_arch = "x86_64")]
        Self::RoundedDown,
        #[cfg(target_arch = "x86_64")]
        Self::RoundedUp,
        #[cfg(target_arch = "x86_64")]
        Self::RoundedToZero,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::FastMath => "fast-math",
            Self::Contracted => "contracted",
            Self::FlushedInputs => "flushed inputs",
            Self::FlushedResults => "flushed results",
            Self::RoundedDown => "rounded down",
            Self::RoundedUp => "rounded up",
            Self::RoundedToZero => "rounded to zero",
        }
    }
}

impl HostBuild {
    /// All builds of the engine, the fastest last of the unchecked ones.
    pub const ALL: [Self; 6] =
        [Self::Baseline, Self::Avx2, Self::Avx512, Self::Checked, Self::Waves32, Self::Waves64];

    /// Lanes of a wave: more than one where the code of a GPU runs.
    pub fn wave_lanes(self) -> u32 {
        match self {
            Self::Waves32 | Self::FaultyWaves(_) => 32,
            Self::Waves64 => 64,
            _ => 1,
        }
    }

    /// The build of the same kind that has a fault, by the fault's number.
    pub(crate) fn faulty(this: Option<Self>, number: u32) -> Self {
        match this {
            Some(Self::Waves32 | Self::Waves64) => Self::FaultyWaves(number),
            _ => Self::Faulty(number),
        }
    }

    /// The word used in identities.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Checked => "checked",
            Self::Waves32 => "waves32",
            Self::Waves64 => "waves64",
            Self::Faulty(_) => "faulty",
            Self::FaultyWaves(_) => "faulty waves32",
            Self::Unfit(unfit) => unfit.name(),
        }
    }
}

/// Everything chosen at load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the kernels run.
    pub device: DeviceChoice,
    /// Digits of an activation.
    pub activations: Activations,
    /// Element type of the KV cache.
    pub kv: KvType,
    /// Positions the KV cache holds.
    pub context_tokens: usize,
    /// Most tokens in one pass through the layers.
    pub ubatch: usize,
    /// CPU threads of the device `host`.
    pub threads: usize,
    /// The host build to run, or the fastest this CPU can.
    pub host_build: Option<HostBuild>,
    /// Leaves guard zones and poison away; bounds are asserted all the same.
    pub unchecked: bool,
    /// Waits for every launch and looks at what it left behind. Slow.
    pub launch_by_launch: bool,
    /// How long a GPU may take for what it was asked before it is given up.
    pub time_limit: Option<Duration>,
    /// What is broken on purpose, so that it can be looked for.
    #[doc(hidden)]
    pub fault: Option<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            activations: Activations::I24,
            kv: KvType::F32,
            context_tokens: 2048,
            ubatch: 512,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            host_build: None,
            unchecked: false,
            launch_by_launch: false,
            time_limit: Some(Duration::from_secs(120)),
            fault: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_words_round_trip() {
        for text in ["auto", "host", "hip:0", "hip:3", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("hip".parse(), Ok(DeviceChoice::Hip(0)));
        for text in ["", "gpu", "host:1", "auto:0", "hip:", "hip:x", "hip:-1", "cuda:1:2"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
