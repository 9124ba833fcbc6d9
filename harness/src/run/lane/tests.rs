//! Lanes whose sides panic, hang, wait or begin again.

use super::*;
use crate::sides::imaginary::Imaginary;

fn lane(side: impl FnOnce() -> Imaginary + Send + 'static) -> Lane {
    let load = move || Ok(Box::new(side()) as Box<dyn Side>);
    Loading::start("engine", Box::new(load)).wait().unwrap()
}

#[test]
fn a_panic_in_a_step_is_an_error_and_the_lane_ends() {
    let mut lane = lane(|| {
        let mut side = Imaginary::new("engine");
        side.panic_at = Some(1);
        side
    });
    lane.forward(&[5], TapLevel::Readout);
    assert_eq!(lane.finish().unwrap().token_id, 5);
    lane.forward(&[6], TapLevel::Op);
    let error = lane.finish().unwrap_err();
    assert!(error.to_string().contains("planted at position 1"), "{error}");
    lane.forward(&[7], TapLevel::Readout);
    assert!(matches!(lane.finish(), Err(SideError::Panicked { .. })));
}

#[test]
fn a_panic_while_loading_is_an_error() {
    let load: Loader = Box::new(|| panic!("no memory for 3 tensors"));
    let error = Loading::start("reference", load).wait().err().unwrap();
    assert!(error.to_string().contains("no memory for 3 tensors"), "{error}");
}

#[test]
fn a_lane_that_is_dropped_in_the_middle_does_not_hang() {
    let mut lane = lane(|| Imaginary::new("engine"));
    lane.forward(&vec![1; 2000], TapLevel::Op);
    assert!(lane.next_record().is_some());
    drop(lane);
}

#[test]
fn a_side_whose_device_hangs_is_given_up_with_its_words() {
    let mut lane = lane(|| {
        let mut side = Imaginary::new("engine");
        side.hangs_at = Some(1);
        side
    });
    lane.forward(&[5], TapLevel::Readout);
    assert!(lane.finish().is_ok());
    lane.forward(&[6], TapLevel::Op);
    let error = lane.finish().unwrap_err();
    assert!(matches!(error, SideError::Device { .. }), "{error}");
    assert_eq!(error.to_string(), "engine: planted at position 1 did not finish within 0 s");
    drop(lane);
}

#[test]
fn a_replay_starts_from_nothing() {
    let mut lane = lane(|| Imaginary::new("engine"));
    lane.forward(&[1, 2, 3], TapLevel::Readout);
    let first = lane.finish().unwrap();
    lane.replay(&[1, 2, 3], 1);
    let second = lane.finish().unwrap();
    assert_eq!(first.hidden_hash, second.hidden_hash);
    assert_eq!(second.readout.position, 2);
}
