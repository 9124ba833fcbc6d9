//! Guard zones: memory around every buffer that nobody may write, looked at on the device.
//!
//! Poison and guards are one byte, 0xff: what nobody wrote and what lies outside read as NaN, and
//! one fill of an arena poisons its buffers and renews its guards.

use super::buffer::{self, Use, Wanted};
use super::copy;
use super::launch;
use super::shared::lock;
use super::{Access, Buffer, Device, DeviceError, Grid, Kernel, Span};
use bytemuck::{Pod, Zeroable};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Bytes of a guard zone at least; the rest to the next alignment belongs to it.
pub(super) const GUARD_BYTES: u64 = 256;

/// NaN as f32 and as f16, and no address, count or position that makes sense.
pub(super) const POISON: u8 = 0xff;

/// A guard zone and its neighbours.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    address: u64,
    bytes: u64,
    after: Option<String>,
    before: Option<String>,
}

impl Zone {
    /// The zones of memory that holds `wanted` at `offsets`.
    pub(super) fn around(
        address: u64,
        bytes: u64,
        wanted: &[Wanted],
        offsets: &[u64],
    ) -> Vec<Self> {
        let name = |index: Option<usize>| {
            index.and_then(|index| wanted.get(index)).map(|wanted| wanted.name.clone())
        };
        let zone = |index: usize| {
            let earlier = index.checked_sub(1);
            let begin = earlier.map_or(0, |earlier| offsets[earlier] + wanted[earlier].bytes);
            let end = offsets.get(index).copied().unwrap_or(bytes);
            let (after, before) = (name(earlier), name(Some(index)));
            Self { address: address + begin, bytes: end - begin, after, before }
        };
        (0..=wanted.len()).map(zone).collect()
    }

    fn words(&self, offset: u64) -> String {
        let (behind, ahead) = (offset, self.bytes - offset);
        match (&self.after, &self.before) {
            (Some(after), Some(before)) => {
                format!("byte {behind} behind the end of {after}, {ahead} before {before}")
            }
            (Some(after), None) => format!("byte {behind} behind the end of {after}"),
            (None, Some(before)) => format!("byte {ahead} before the start of {before}"),
            (None, None) => format!("byte {offset} of a zone without neighbours"),
        }
    }
}

/// The zones of a device, and their table in its memory.
#[derive(Debug, Default)]
pub(super) struct Guards {
    zones: Mutex<Zones>,
}

#[derive(Debug, Default)]
struct Zones {
    /// By address.
    watched: BTreeMap<u64, Zone>,
    table: Option<Table>,
}

/// What the kernel reads and writes.
#[derive(Debug)]
struct Table {
    kernel: Kernel,
    zones: Buffer,
    damaged: Buffer,
    count: u32,
}

/// `GuardsArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    zones: Span,
    damaged: Span,
}

/// A zone as the kernel sees it: `Span` in platform.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Entry {
    address: u64,
    bytes: u64,
}

/// What the kernel says of a zone that is whole.
const WHOLE: u32 = u32::MAX;

impl Guards {
    pub(super) fn watch(&self, zones: Vec<Zone>) {
        let mut state = lock(&self.zones);
        state.table = None;
        state.watched.extend(zones.into_iter().map(|zone| (zone.address, zone)));
    }

    pub(super) fn forget(&self, address: u64, bytes: u64) {
        // The table is dropped outside the lock: its own memory has no zones, but a backend's free
        // may take its time.
        let table = {
            let mut state = lock(&self.zones);
            let gone: Vec<u64> =
                state.watched.range(address..address + bytes).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| drop(state.watched.remove(key)));
            state.table.take()
        };
        drop(table);
    }
}

impl Device {
    /// Looks at every guard zone, after everything that was launched before.
    ///
    /// # Errors
    /// [`DeviceError::Guard`] with the first zone that was written, and by how far.
    pub fn check_guards(&self) -> Result<(), DeviceError> {
        if !self.shared.checks() {
            return Ok(());
        }
        let mut state = lock(&self.shared.guards.zones);
        if state.watched.is_empty() {
            return Ok(());
        }
        if state.table.is_none() {
            state.table = Some(self.guard_table(&state.watched)?);
        }
        let Some(table) = &state.table else { return Ok(()) };
        self.look(table)?;
        let mut damaged = vec![0_u32; table.count as usize];
        let span = (0, u64::from(table.count));
        copy::read(&self.shared, table.damaged.allocation(), span, &mut damaged)?;
        let found = damaged.iter().zip(state.watched.values()).find(|(first, _)| **first != WHOLE);
        let Some((offset, zone)) = found else { return Ok(()) };
        let zone = zone.words(u64::from(*offset));
        Err(DeviceError::Guard { zone, at: self.shared.at() })
    }

    /// Fills all guard zones again, after one was found written.
    ///
    /// # Errors
    /// The runtime's.
    pub fn renew_guards(&self) -> Result<(), DeviceError> {
        for zone in lock(&self.shared.guards.zones).watched.values() {
            // SAFETY: a zone lies in memory that is alive: it is forgotten before that is freed.
            unsafe { self.shared.backend.fill(zone.address, POISON, zone.bytes) }?;
        }
        Ok(())
    }

    fn guard_table(&self, watched: &BTreeMap<u64, Zone>) -> Result<Table, DeviceError> {
        let count = u32::try_from(watched.len()).expect("zones are counted in thousands");
        let wanted = |name: &str, element_bytes: usize| Wanted {
            name: name.to_owned(),
            bytes: u64::from(count) * element_bytes as u64,
            element_bytes: element_bytes as u64,
        };
        let wanted = [
            wanted("guards.zones", size_of::<Entry>()),
            wanted("guards.damaged", size_of::<u32>()),
        ];
        let (_, buffers) = buffer::allocate(&self.shared, &wanted, Use::Guards)?;
        let [zones, damaged] =
            <[Buffer; 2]>::try_from(buffers).expect("as many buffers as were wanted");
        let entries: Vec<Entry> = watched
            .values()
            .map(|zone| Entry { address: zone.address, bytes: zone.bytes })
            .collect();
        zones.write(0, &entries)?;
        let kernel = self.kernel::<Arguments>("guards")?;
        Ok(Table { kernel, zones, damaged, count })
    }

    fn look(&self, table: &Table) -> Result<(), DeviceError> {
        let count = u64::from(table.count);
        let accesses = [
            Access::read("zones", table.zones.all::<Entry>(), count),
            Access::update("damaged", table.damaged.all::<u32>(), count),
        ];
        let [zones, damaged] = [0, 1].map(|index: usize| accesses[index].span());
        let grid = Grid { x: table.count, y: 1 };
        let arguments = Arguments { zones, damaged };
        let arguments = bytemuck::bytes_of(&arguments);
        launch::launch(&self.shared, &table.kernel, grid, &accesses, arguments)
    }
}
