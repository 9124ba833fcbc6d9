//! Launch by launch: after each one the device is waited for, guards and outputs are looked at, and
//! so a fault has the name of its launch. Slow; for a step that failed, once more.

use super::backend::{Grid, Kernel};
use super::guards::POISON;
use super::launch::{self, Access, Effect};
use super::{Device, DeviceError, copy};
use std::fmt;
use std::sync::atomic::Ordering;

/// Another pattern, a finite number as f32: what holds both in turn was not written.
const OTHER_POISON: u8 = 0x7f;

/// A launch with its arguments, for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFacts {
    /// The kernel.
    pub kernel: String,
    /// Blocks in x and y.
    pub grid: (u32, u32),
    /// How far it reaches into each argument.
    pub arguments: Vec<ArgumentFacts>,
}

/// One argument of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentFacts {
    /// Its name in the kernel.
    pub argument: &'static str,
    /// The buffer given for it.
    pub buffer: String,
    /// First byte in the buffer.
    pub offset_bytes: u64,
    /// Bytes from there.
    pub bytes: u64,
    /// Whether the launch writes there.
    pub written: bool,
}

impl LaunchFacts {
    fn new(kernel: &Kernel, grid: Grid, accesses: &[Access]) -> Self {
        let argument = |access: &Access| ArgumentFacts {
            argument: access.argument,
            buffer: access.allocation.name.clone(),
            offset_bytes: access.address - access.allocation.address(),
            bytes: access.bytes,
            written: access.effect != Effect::Reads,
        };
        let arguments = accesses.iter().map(argument).collect();
        Self { kernel: kernel.name().to_owned(), grid: (grid.x, grid.y), arguments }
    }
}

impl fmt::Display for LaunchFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} x {} blocks", self.kernel, self.grid.0, self.grid.1)?;
        for (index, fact) in self.arguments.iter().enumerate() {
            let separator = if index == 0 { ": " } else { ", " };
            let direction = if fact.written { "to" } else { "from" };
            write!(f, "{separator}{} {direction} {}", fact.argument, fact.buffer)?;
            write!(f, " [{}, {})", fact.offset_bytes, fact.offset_bytes + fact.bytes)?;
        }
        Ok(())
    }
}

impl Device {
    /// From here on every launch is waited for and looked at, or not any more.
    pub fn set_careful(&self, careful: bool) {
        self.shared.careful.store(careful, Ordering::Relaxed);
    }

    /// Whether every launch is waited for and looked at.
    pub fn is_careful(&self) -> bool {
        self.shared.is_careful()
    }

    /// A launch, what became of the device, and what it left behind.
    pub(super) fn launch_carefully(
        &self,
        kernel: &Kernel,
        grid: Grid,
        accesses: &[Access],
        arguments: &[u8],
    ) -> Result<(), DeviceError> {
        let facts = || Box::new(LaunchFacts::new(kernel, grid, accesses));
        let shared = &self.shared;
        let blame = |error: DeviceError| match error {
            DeviceError::Runtime { operation, reason } => {
                let reason = format!("{operation} failed: {reason}");
                DeviceError::LaunchFailed { launch: facts(), at: shared.at(), reason }
            }
            DeviceError::Launch { reason, .. } => {
                DeviceError::LaunchFailed { launch: facts(), at: shared.at(), reason }
            }
            DeviceError::TimeLimit { seconds, .. } => {
                DeviceError::TimeLimit { seconds, at: shared.at(), launch: Some(facts()) }
            }
            DeviceError::Guard { zone, at } => DeviceError::GuardBy { zone, at, launch: facts() },
            other => other,
        };
        let whole = |access: &&Access| access.effect == Effect::Writes;
        for access in accesses.iter().filter(whole) {
            access.fill(shared, POISON)?;
        }
        // What went wrong before this launch is not its fault.
        shared.synchronise()?;
        launch::launch(shared, kernel, grid, accesses, arguments).map_err(blame)?;
        shared.synchronise().map_err(blame)?;
        self.check_guards().map_err(blame)?;
        for access in accesses.iter().filter(whole).filter(|access| access.is_f32) {
            let words = self.words(access)?;
            let (launch, at, argument) = (facts, shared.at(), access.argument);
            if words.contains(&word(POISON)) {
                // Poison that was computed from poison may look alike; so once more over another.
                access.fill(shared, OTHER_POISON)?;
                launch::enqueue(shared, kernel, grid, accesses, arguments).map_err(blame)?;
                if let Some((index, count)) =
                    found(&self.words(access)?, |w| w == word(OTHER_POISON))
                {
                    let launch = launch();
                    return Err(DeviceError::NotWritten { launch, at, argument, index, count });
                }
            }
            // Not every device keeps the bits of a NaN that it computes with.
            let nan = found(&words, |word| f32::from_bits(word).is_nan());
            let Some((index, count)) = nan else { continue };
            let reads = |access: &&Access| access.effect != Effect::Writes && access.is_f32;
            for input in accesses.iter().filter(reads) {
                if self.words(input)?.contains(&word(POISON)) {
                    let launch = launch();
                    return Err(DeviceError::FromPoison { launch, at, argument, index, count });
                }
            }
        }
        Ok(())
    }

    /// The elements of an argument in f32, as bits.
    fn words(&self, access: &Access) -> Result<Vec<u32>, DeviceError> {
        let count = access.bytes / size_of::<f32>() as u64;
        let first = (access.address - access.allocation.address()) / size_of::<f32>() as u64;
        let mut words = vec![0_u32; usize::try_from(count).expect("a buffer fits in memory")];
        copy::read(&self.shared, &access.allocation, (first, count), &mut words)?;
        Ok(words)
    }
}

/// Four equal bytes.
fn word(byte: u8) -> u32 {
    u32::from_ne_bytes([byte; 4])
}

/// The first of the words that are such, and how many are.
fn found(words: &[u32], such: impl Fn(u32) -> bool) -> Option<(u64, u64)> {
    let index = words.iter().position(|word| such(*word))?;
    Some((index as u64, words.iter().filter(|word| such(**word)).count() as u64))
}
