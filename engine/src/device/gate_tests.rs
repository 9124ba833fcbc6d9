//! The gate of copies and the extents of launches under any sequence of requests.
//!
//! A model of the allocator, a map of live buffers and their bytes, is the oracle: what it allows
//! happens and moves exactly these bytes; what it does not is refused, and nothing moves.

use super::copy::{Refusal, Request};
use super::*;
use crate::options::HostBuild;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Allocate { bytes: u64 },
    Free { buffer: usize },
    Write { buffer: usize, first: u64, count: usize, byte: u8 },
    Read { buffer: usize, first: u64, count: usize },
    Within { source: usize, target: usize, first: (u64, u64), count: (u64, u64) },
    Launch { x: usize, out: usize, first: (u64, u64), count: u64 },
}

/// Small numbers, numbers at the edges of types, and numbers near a buffer's size.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0_u64..80,
        1 => prop::sample::select(vec![1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX - 1, u64::MAX]),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let buffer = 0_usize..6;
    prop_oneof![
        (0_u64..260).prop_map(|bytes| Operation::Allocate { bytes: bytes / 4 * 4 }),
        buffer.clone().prop_map(|buffer| Operation::Free { buffer }),
        (buffer.clone(), offset(), 0_usize..90, any::<u8>()).prop_map(
            |(buffer, first, count, byte)| Operation::Write { buffer, first, count, byte }
        ),
        (buffer.clone(), offset(), 0_usize..90)
            .prop_map(|(buffer, first, count)| Operation::Read { buffer, first, count }),
        (buffer.clone(), buffer.clone(), (offset(), offset()), (offset(), 0_u64..3)).prop_map(
            |(source, target, first, (count, more))| Operation::Within {
                source,
                target,
                first,
                count: (count, count.saturating_add(more / 2)),
            }
        ),
        (buffer.clone(), buffer, (offset(), offset()), offset())
            .prop_map(|(x, out, first, count)| Operation::Launch { x, out, first, count }),
    ]
}

/// A live buffer and what is in it.
struct Live {
    buffer: Buffer,
    bytes: Vec<u8>,
}

/// Whether `count` elements of four bytes from `first` lie in so many bytes.
fn fits(bytes: usize, first: u64, count: u64) -> bool {
    (u128::from(first) + u128::from(count)) * 4 <= bytes as u128
}

fn run(operations: &[Operation]) {
    let device = Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 1).unwrap();
    let mut live: Vec<Live> = Vec::new();
    let mut refused = 0;
    for operation in operations {
        let pick = |buffer: &usize| (!live.is_empty()).then(|| buffer % live.len());
        let allowed = match operation {
            Operation::Allocate { bytes } => {
                let buffer = device.allocate::<f32>("live", bytes / 4).unwrap();
                let bytes = vec![0xff; *bytes as usize];
                live.push(Live { buffer, bytes });
                true
            }
            Operation::Free { buffer } => {
                if let Some(index) = pick(buffer) {
                    drop(live.remove(index));
                }
                true
            }
            Operation::Write { buffer, first, count, byte } => {
                let Some(index) = pick(buffer) else { continue };
                let Live { buffer, bytes } = &mut live[index];
                let source = vec![f32::from_bits(u32::from_ne_bytes([*byte; 4])); *count];
                let allowed = fits(bytes.len(), *first, *count as u64);
                assert_eq!(buffer.write(*first, &source).is_ok(), allowed, "{operation:?}");
                if allowed {
                    bytes[*first as usize * 4..][..count * 4].fill(*byte);
                }
                allowed
            }
            Operation::Read { buffer, first, count } => {
                let Some(index) = pick(buffer) else { continue };
                let Live { buffer, bytes } = &live[index];
                let mut target = vec![0_u32; *count];
                let allowed = fits(bytes.len(), *first, *count as u64);
                assert_eq!(buffer.read(*first, &mut target).is_ok(), allowed, "{operation:?}");
                let expected = match allowed {
                    true => &bytes[*first as usize * 4..][..count * 4],
                    false => &vec![0; count * 4][..],
                };
                assert_eq!(bytemuck::cast_slice::<u32, u8>(&target), expected, "{operation:?}");
                allowed
            }
            Operation::Within { source, target, first, count } => {
                let (Some(source), Some(target)) = (pick(source), pick(target)) else { continue };
                within(&mut live, (source, target), *first, *count)
            }
            Operation::Launch { x, out, first, count } => {
                let (Some(x), Some(out)) = (pick(x), pick(out)) else { continue };
                sum(&device, &mut live, (x, out), *first, *count)
            }
        };
        refused += u64::from(!allowed);
        for Live { buffer, bytes } in &live {
            let mut actual = vec![0_u8; bytes.len()];
            buffer.read(0, &mut actual).unwrap();
            assert!(actual == *bytes, "after {operation:?}");
        }
        device.check_guards().unwrap();
    }
    assert!(device.copies_total() - device.copies_checked() <= refused);
}

/// A copy on the device; whether it was allowed.
fn within(
    live: &mut [Live],
    (source, target): (usize, usize),
    first: (u64, u64),
    count: (u64, u64),
) -> bool {
    let view =
        |live: &[Live], index: usize, first, count| fits(live[index].bytes.len(), first, count);
    let inside = view(live, source, first.0, count.0) && view(live, target, first.1, count.1);
    let from = live[source].buffer.view::<f32>(first.0, count.0);
    let to = live[target].buffer.view::<f32>(first.1, count.1);
    let (Ok(from), Ok(to)) = (from, to) else {
        assert!(!inside);
        return false;
    };
    let meet = source == target && first.0 < first.1 + count.1 && first.1 < first.0 + count.0;
    let allowed = count.0 == count.1 && !meet;
    assert_eq!(from.copy_to(to).is_ok(), allowed);
    if allowed {
        let range = first.0 as usize * 4..(first.0 + count.0) as usize * 4;
        let moved = live[source].bytes[range].to_vec();
        live[target].bytes[first.1 as usize * 4..][..moved.len()].copy_from_slice(&moved);
    }
    allowed
}

/// `out = x + x` over a run of each; whether it was allowed.
fn sum(
    device: &Device,
    live: &mut [Live],
    (x, out): (usize, usize),
    first: (u64, u64),
    count: u64,
) -> bool {
    let kernels = crate::kernels::Kernels::load(
        device,
        crate::options::Activations::I24,
        crate::options::KvType::F32,
    );
    let kernels = kernels.unwrap();
    let rest = |index: usize, first: u64| {
        let count = live[index].bytes.len() as u64 / 4;
        live[index].buffer.view::<f32>(first, count.saturating_sub(first))
    };
    let (Ok(from), Ok(to)) = (rest(x, first.0), rest(out, first.1)) else { return false };
    let Some(narrow) = u32::try_from(count).ok().filter(|count| *count > 0) else { return false };
    let meet = x == out && first.0 < first.1 + count && first.1 < first.0 + count;
    let allowed = count <= from.count() && count <= to.count() && !meet;
    let result = kernels.residual(from, from, to, narrow);
    assert_eq!(result.is_ok(), allowed, "{result:?}");
    if allowed {
        let span = |first: u64| first as usize * 4..(first + count) as usize * 4;
        let twice = |bytes: &[u8]| {
            let value = f32::from_ne_bytes(bytes.try_into().unwrap());
            value + value
        };
        let sums: Vec<f32> = live[x].bytes[span(first.0)].chunks(4).map(twice).collect();
        let target = &mut live[out].bytes[span(first.1)];
        target.copy_from_slice(bytemuck::cast_slice(&sums));
    }
    allowed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_reaches_outside_a_live_buffer(
        operations in prop::collection::vec(operation(), 1..60)
    ) {
        run(&operations);
    }

    #[test]
    fn a_request_is_let_through_when_and_only_when_it_fits(
        capacity_bytes in prop_oneof![0_u64..4096, any::<u64>()],
        first in prop_oneof![0_u64..1024, any::<u64>()],
        count in prop_oneof![0_u64..1024, any::<u64>()],
        (held_bytes, element_bytes) in (prop::sample::select(vec![1_u64, 2, 4, 8, 32]),
            prop::sample::select(vec![1_u64, 2, 4, 8, 32])),
        other in prop_oneof![3 => Just(None), 1 => any::<u64>().prop_map(Some)],
        address in prop_oneof![3 => Just(1_u64 << 40), 1 => Just(0), 1 => any::<u64>()],
    ) {
        let other_count = other.unwrap_or(count);
        let request =
            Request { address, capacity_bytes, held_bytes, first, count, element_bytes,
                other_count };
        let end = (u128::from(first) + u128::from(count)) * u128::from(element_bytes);
        let begin = u128::from(address) + u128::from(first) * u128::from(element_bytes);
        let fits = address != 0
            && end <= u128::from(capacity_bytes)
            && (held_bytes == element_bytes || held_bytes == 1 || element_bytes == 1)
            && u128::from(address) + end <= u128::from(u64::MAX)
            && begin.is_multiple_of(u128::from(element_bytes))
            && other_count == count;
        match request.check() {
            Ok(range) => {
                prop_assert!(fits, "{request:?}");
                prop_assert_eq!(u128::from(range.address), begin);
                prop_assert_eq!(range.bytes, count * element_bytes);
            }
            Err(refusal) => {
                prop_assert!(!fits, "{request:?}");
                // The way a request is refused is the first thing that is wrong with it.
                let named = match refusal {
                    Refusal::Null => {
                        address == 0 || u128::from(address) + end > u128::from(u64::MAX)
                    }
                    Refusal::Bounds { .. } => end > u128::from(capacity_bytes),
                    Refusal::Element => held_bytes != element_bytes,
                    Refusal::Alignment { .. } => !begin.is_multiple_of(u128::from(element_bytes)),
                    Refusal::Length => other_count != count,
                };
                prop_assert!(named, "{request:?} {refusal:?}");
            }
        }
    }
}
