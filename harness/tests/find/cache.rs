//! Attention that differs because of the cache: damaged, another layer's, stored elsewhere.

use harness::diagnose::Label;
use harness::find::Finding;
use harness::find::judgement::Judgement;
use harness::model::Model;
use harness::sides::question::{Answer, Question};
use harness::sides::sabotaged::{Fault, Sabotage, Sabotaged};
use harness::sides::{Copies, Readout, Side, SideError, SideIdentity, Watcher};

use crate::support::matrix::prompt;
use crate::{explained, search, search_as, way};

/// Changes what a side answers.
type Change = dyn FnMut(&Question, &mut Answer) + Send;

/// A side whose answers are changed.
struct Changed<S> {
    inner: S,
    change: Box<Change>,
}

impl<S: Side> Side for Changed<S> {
    fn identity(&self) -> SideIdentity {
        self.inner.identity()
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        self.inner.forward(tokens, watcher)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn position(&self) -> usize {
        self.inner.position()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        self.inner.hasher()
    }

    fn copies(&self) -> Option<Copies> {
        self.inner.copies()
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, SideError> {
        let mut answer = self.inner.answer(question)?;
        (self.change)(question, &mut answer);
        Ok(answer)
    }
}

pub(crate) fn changed(
    sabotage: Sabotage,
    change: impl FnMut(&Question, &mut Answer) + Send + 'static,
) -> Finding {
    explained(search_as(way(6), move |side| {
        Box::new(Changed { inner: Sabotaged::new(side, sabotage), change: Box::new(change) })
    }))
}

/// Attention differs in the step after a prompt of six, and the cache is read back.
fn in_the_cache(change: impl FnMut(&Question, &mut Answer) + Send + 'static) -> Finding {
    let fault = Fault::FlipBit { index: 3, bit: 9 };
    changed(Sabotage { tap: "attn_out", layer: Some(1), call: 1, fault }, change)
}

/// Keys have 128 values a position.
const KEYS: usize = 128;

#[test]
fn a_bit_of_an_earlier_position_in_the_cache_has_its_token() {
    let finding = in_the_cache(|_, answer| {
        if let Answer::Cache { keys, .. } = answer {
            let value = &mut keys[2 * KEYS + 5];
            *value = f32::from_bits(value.to_bits() ^ 1 << 21);
        }
    });
    let key = &finding.divergence.place.key;
    assert_eq!((&*key.tap, key.layer, key.position), ("keys", Some(1), 2));
    assert_eq!(key.token_id, prompt(Model::resolve(None).unwrap().vocabulary, 6)[2]);
    let located = finding.located.unwrap();
    assert_eq!(located.judgement, Judgement::CacheOverwritten);
    assert_eq!(located.diagnosis.first().unwrap().label, Label::BitFlip);
}

#[test]
fn a_cache_that_another_layer_wrote_is_overwritten() {
    // Layer 2 has stored its values here; these are the ones of layer 1.
    let ran = search(way(6), None);
    let of_layer_2 = ran.search.kept().rows("v", Some(2), 0..7).unwrap();
    let finding = in_the_cache(move |_, answer| {
        if let Answer::Cache { values, .. } = answer {
            values.clone_from(&of_layer_2);
        }
    });
    let key = &finding.divergence.place.key;
    assert_eq!((&*key.tap, key.layer, key.position), ("values", Some(1), 0));
    let located = finding.located.unwrap();
    assert_eq!((located.judgement, located.rows), (Judgement::CacheOverwritten, 6));
    let first = located.diagnosis.first().unwrap();
    assert_eq!((first.label, &*first.parameters["layer"]), (Label::WrongLayer, "2"));
}

#[test]
fn keys_at_another_position_are_said_to_stand_there() {
    let finding = in_the_cache(|question, answer| match (question, answer) {
        (_, Answer::Cache { keys, .. }) => {
            keys.copy_within(6 * KEYS.., KEYS);
            keys[6 * KEYS..].fill(f32::from_bits(u32::MAX));
        }
        (Question::Operation { tap, .. }, Answer::Rows(rows)) if tap == "keys" => {
            rows.fill(f32::from_bits(u32::MAX));
        }
        _ => {}
    });
    let key = &finding.divergence.place.key;
    assert_eq!((&*key.tap, key.position), ("keys", 6));
    let located = finding.located.unwrap();
    assert_eq!(located.judgement, Judgement::OperationGuilty { reproduces: true, runs: 5 });
    let first = located.diagnosis.first().unwrap();
    let words = "keys of positions 6 to 6 were stored 5 positions too early: 1 of 1 rows stand";
    assert_eq!(first.label, Label::WrongRow, "{first}");
    assert!(first.evidence.starts_with(words), "{first}");
    assert_eq!(first.parameters["positions_off"], "5");
}
