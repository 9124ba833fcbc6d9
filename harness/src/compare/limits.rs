//! The table of limits. There is no other number in this package that decides whether two things agree.
//!
//! Engine against `exact` needs none: equal bits. Where bits cannot be equal, three voices judge:
//! the engine E, candle's float path S (`stock`) and f64 W (`wide`), at the same step on the same tokens.

/// The rule of three: `|E - W| <= 3 |S - W|`, for the relative L2 distance of the hidden state
/// and of the logits. S is a public implementation with f32 rounding at other places than the
/// contract's; E is as good as S when its error is of the same size. The errors of both are sums
/// of many roundings, so their ratio scatters around 1; three is the factor PyTorch allows
/// between a candidate and a baseline when f64 judges both. Measured before the contract was
/// fixed: i24 products have 1e-7 to 6e-7 of relative error where f32 has 2e-7 to 4e-7, a factor
/// of at most 3; two digits have 2e-5 and more, so a digit that is lost breaks the rule.
pub const RULE_OF_THREE: f64 = 3.0;

/// The triangle: where only S is at hand as the judge, `|E - S| <= |E - W| + |W - S|`,
/// and with the rule of three that is at most `(3 + 1) |S - W|`.
pub const TRIANGLE: f64 = RULE_OF_THREE + 1.0;

/// Two rows of logits whose elements differ by at most d can have different top tokens only when
/// the gap is at most 2 d: the first falls by d while the second rises by d. The d taken here is
/// what the rule allows E (the factor above times the largest difference of S from W), not what
/// E has, or the rule could not fail.
pub const TOP1_GAP: f64 = 2.0;
