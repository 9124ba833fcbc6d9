//! A smaller run with the same divergence: fewer tokens, steps and rows of a pass.

use super::{Finding, Kind};

/// What has to stay the same: the tap, what kind of layer it is in, and the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    kind: Kind,
    tap: String,
    layer: LayerKind,
    cause: Option<&'static str>,
}

/// Layers that a fault may tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayerKind {
    None,
    First,
    Later,
}

impl Signature {
    /// Of a finding.
    pub fn of(finding: &Finding) -> Self {
        let key = &finding.divergence.place.key;
        let located = finding.located.as_ref();
        let cause = located.and_then(|located| located.diagnosis.first());
        Self {
            kind: finding.kind,
            tap: key.tap.to_string(),
            layer: match key.layer {
                None => LayerKind::None,
                Some(0) => LayerKind::First,
                Some(_) => LayerKind::Later,
            },
            cause: cause.map(|cause| cause.label.words()),
        }
    }
}

/// What a run is cut down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// Steps.
    pub steps: usize,
    /// Rows of a pass.
    pub ubatch: usize,
}

/// Cuts a run down while `attempt` still gives the signature. `attempts_max` bounds the work.
pub fn minimise(
    start: Size,
    signature: &Signature,
    attempts_max: usize,
    attempt: &mut dyn FnMut(&Size) -> Option<Signature>,
) -> Size {
    let mut attempts = 0;
    let mut holds = |size: &Size| {
        attempts += 1;
        attempts <= attempts_max && attempt(size).as_ref() == Some(signature)
    };
    let mut size = start;
    let mut cut = size.tokens.len() / 2;
    while cut > 0 {
        let (kept, length) = (size.tokens.len() - cut, size.tokens.len());
        let ends = [cut..length, 0..kept];
        let shorter = ends.map(|part| Size { tokens: size.tokens[part].to_vec(), ..size.clone() });
        match shorter.into_iter().find(|shorter| holds(shorter)) {
            Some(shorter) => {
                size = shorter;
                cut = cut.min(size.tokens.len() / 2);
            }
            None => cut /= 2,
        }
    }
    let fewer = (1..size.steps).map(|steps| Size { steps, ..size.clone() });
    if let Some(fewer) = fewer.into_iter().find(|fewer| holds(fewer)) {
        size = fewer;
    }
    size.ubatch = size.ubatch.min(size.tokens.len());
    let powers = (0..usize::BITS).map(|shift| 1_usize << shift);
    let smaller = powers.take_while(|ubatch| *ubatch < size.ubatch);
    let smaller: Vec<Size> = smaller.map(|ubatch| Size { ubatch, ..size.clone() }).collect();
    if let Some(smaller) = smaller.into_iter().find(|smaller| holds(smaller)) {
        size = smaller;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(tap: &str) -> Signature {
        Signature { kind: Kind::Tap, tap: tap.to_owned(), layer: LayerKind::First, cause: None }
    }

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let start = Size { tokens: (0..100).collect(), steps: 5, ubatch: 512 };
        // Two neighbours, two steps and three rows make the fault; a single row makes another.
        let mut attempts = 0;
        let small = minimise(start, &signature("q"), 200, &mut |size| {
            attempts += 1;
            let needed = size.tokens.contains(&40) && size.tokens.contains(&42);
            let tap = if size.ubatch >= 3 { "q" } else { "k" };
            (needed && size.steps >= 2).then(|| signature(tap))
        });
        assert_eq!(small, Size { tokens: vec![40, 41, 42], steps: 2, ubatch: 3 });
        assert!(attempts < 40, "{attempts}");
    }

    #[test]
    fn a_run_that_cannot_be_smaller_stays() {
        let start = Size { tokens: vec![1, 2, 3], steps: 2, ubatch: 512 };
        let small = minimise(start.clone(), &signature("q"), 200, &mut |_| None);
        assert_eq!(small, Size { ubatch: 3, ..start });
    }

    #[test]
    fn the_work_is_bounded() {
        let start = Size { tokens: vec![1; 1000], steps: 9, ubatch: 512 };
        let mut attempts = 0;
        minimise(start, &signature("q"), 10, &mut |_| {
            attempts += 1;
            None
        });
        assert_eq!(attempts, 10);
    }
}
