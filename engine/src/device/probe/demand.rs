//! What CONTRACT.md section 14 demands of a device, in the order in which it is looked at.

/// One demand; its cases show whether a device meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    Integers,
    DenormalInputs,
    DenormalResults,
    NearestEven,
    Division,
    SquareRoot,
    Fma,
    NoContraction,
    NoReassociation,
    Rint,
    FromInteger,
    NarrowHalf,
    WidenHalf,
    WidenBfloat,
    Nan,
    Infinity,
    SignedZero,
    Exponential,
}

impl Demand {
    /// What is said of a device that does not meet it.
    pub(super) fn failure(self) -> &'static str {
        match self {
            Self::Integers => "its integers are not two's complement",
            Self::DenormalInputs => "it takes denormal inputs for zero",
            Self::DenormalResults => "it flushes denormal results to zero",
            Self::NearestEven => "it does not round to the nearest, ties to even",
            Self::Division => "its division is not correctly rounded",
            Self::SquareRoot => "its square root is not correctly rounded",
            Self::Fma => "its fma does not round once",
            Self::NoContraction => "it contracts a product and a sum into one operation",
            Self::NoReassociation => "it does not compute in the order that is written",
            Self::Rint => "its rint is not the nearest integer, ties to even",
            Self::FromInteger => "its conversion of integers is not the nearest, ties to even",
            Self::NarrowHalf => "its f16 is not the nearest, ties to even",
            Self::WidenHalf => "it does not widen f16 exactly",
            Self::WidenBfloat => "it does not widen bf16 exactly",
            Self::Nan => "it does not know NaN",
            Self::Infinity => "it does not know infinity",
            Self::SignedZero => "it loses the sign of zero",
            Self::Exponential => "its exp32 is not the contract's",
        }
    }
}
