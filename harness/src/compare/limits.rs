//! The table of limits: no other number in this package decides whether two things agree.
//!
//! Engine against `exact` needs none: equal bits. Where bits cannot be equal, three voices judge:
//! the engine E, candle's float path S (`stock`) and f64 W (`wide`), at the same step on the same
//! tokens.

/// The rule of three: `|E - W| <= 3 max(|S - W|, M, R)`, for the relative L2 distance of the hidden
/// state and of the logits less their mean; their mean itself may move by three times the largest
/// difference of a logit. S is a public implementation with f32 rounding at other places than the
/// contract's; E is as good as S when its error is of the same size. The errors of both are sums
/// of many roundings, so their ratio scatters around 1; three is the factor PyTorch allows
/// between a candidate and a baseline when f64 judges both. Measured before the contract was
/// fixed: i24 products have 1e-7 to 6e-7 of relative error where f32 has 2e-7 to 4e-7, a factor
/// of at most 3; two digits have 2e-5 and more, so a digit that is lost breaks the rule.
///
/// M is the median of `|S - W|` over the steps of the run before this one. An error at one step is
/// one draw: SmolLM2 in Q2_K has 23 steps with S at 6e-6 to 1.3e-5, E beside it, and one where S
/// happens to have 4e-6 while E has 1.4e-5. A median is not raised by one bad step of S.
pub const RULE_OF_THREE: f64 = 3.0;

/// R, the error that no f32 engine can promise to stay below: a residual stream kept in f32 is
/// rounded twice a layer, by up to half a unit in the last place, `2^-24 |x|`, uniform and so with
/// a deviation of a `sqrt(3)`th of it. This number times `sqrt(sum of 2 |r_l|^2) / |r_last|`,
/// over the streams `r_l` after each layer, is what the roundings leave on the last. Mostly it is a
/// fifth of what S has. At the first positions of a text one value of the stream grows to
/// thousands and is taken away again in the last layers: all errors there hang on the rounding of
/// that one value, and in one of four tokens S is lucky by a factor of four (SmolLM2, 80 tokens
/// at position 0: S from 2.1e-7 to 2.8e-6, E from 8.7e-7 to 3.0e-6). R is the measure then.
pub const F32_ROUNDING: f64 = 3.441_294_1e-8;

/// The triangle: where only S is at hand as the judge, `|E - S| <= |E - W| + |W - S|`,
/// and with the rule of three that is at most `(3 + 1) |S - W|`.
pub const TRIANGLE: f64 = RULE_OF_THREE + 1.0;

/// Two rows of logits whose elements differ by at most d can have different top tokens only when
/// the gap is at most 2 d: the first falls by d while the second rises by d. The d taken here is
/// what the rule allows E (the factor above times the largest difference of S from W), not what
/// E has, or the rule could not fail.
pub const TOP1_GAP: f64 = 2.0;

/// Two recorded traces of which one is not of the contract's arithmetic: a minimum, a maximum, a
/// mean or an element may differ by this share of the largest magnitude in the two rows. No bound
/// can be derived for arithmetic that nobody wrote down, so this is no tolerance: a figure within
/// it proves nothing, and the verdict is never agreement. One beyond it is no matter of rounding:
/// the coarsest arithmetic that is in use, products of 8-bit activations, moves a figure by 0.058
/// of the magnitude at most where f64 is the other side (the embedded model, `i8` against `wide`,
/// 1289 rows of all taps), and `i24` by 2.3e-6; the share is four times the former.
pub const FIGURES: f64 = 0.25;
