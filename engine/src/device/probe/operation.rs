//! The operations that the probe's kernel knows, under the names and numbers it has for them.

use super::case::Words;

/// What the word is that an operation answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// f32, all NaN alike.
    Float,
    /// f16, all NaN alike.
    Half,
    /// Any other word, to the last bit.
    Word,
}

/// Builds the enumeration and its table from one list, in the order of the kernel's numbers.
macro_rules! operations {
    ($($variant:ident $name:literal $formula:literal $answer:ident)*) => {
        /// One scalar operation; the discriminant is the kernel's number for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(super) enum Operation {
            $($variant,)*
        }

        impl Operation {
            /// In the order of their numbers.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in `probe.hip`.
            #[cfg(test)]
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// With the variables of `probe.hip`: x, y, z are f32, i, j, k are i32, p and q words.
            pub(super) fn formula(self) -> &'static str {
                match self { $(Self::$variant => $formula,)* }
            }

            /// What the answer is.
            pub(super) fn answer(self) -> Answer {
                match self { $(Self::$variant => Answer::$answer,)* }
            }
        }
    };
}

operations! {
    Add "add" "x + y" Float
    Subtract "subtract" "x - y" Float
    Multiply "multiply" "x * y" Float
    Divide "divide" "x / y" Float
    Reciprocal "reciprocal" "1.0 / x" Float
    SquareRoot "square_root" "sqrt(x)" Float
    ReciprocalRoot "reciprocal_root" "1.0 / sqrt(x)" Float
    Fma "fma" "fma(x, y, z)" Float
    ProductPlus "product_plus" "x * y + z" Float
    ProductMinus "product_minus" "x * y - z" Float
    MinusProduct "minus_product" "z - x * y" Float
    SumOfThree "sum_of_three" "(x + y) + z" Float
    SumMinusFirst "sum_minus_first" "(x + y) - x" Float
    SumInOrder "sum_in_order" "sum in order of four times x, y, z" Float
    ProductOfThree "product_of_three" "(x * y) * z" Float
    CommonFactor "common_factor" "x * z + y * z" Float
    CommonDivisor "common_divisor" "x / z + y / z" Float
    PlusZero "plus_zero" "x + 0.0" Float
    ZeroMinus "zero_minus" "0.0 - x" Float
    TimesZero "times_zero" "x * 0.0" Float
    MinusItself "minus_itself" "x - x" Float
    Negate "negate" "-(x)" Float
    Absolute "absolute" "abs(x)" Float
    Greater "greater" "x > y" Word
    NotGreater "not_greater" "not x > y" Word
    EqualsItself "equals_itself" "x == x" Word
    Larger "larger" "if x > y then x else y" Float
    Finite "finite" "is_finite(x)" Word
    Infinite "infinite" "is_infinite(x)" Word
    Rint "rint" "rint(x)" Float
    FromInteger "from_integer" "f(i)" Float
    ToInteger "to_integer" "i32(x)" Word
    NarrowHalf "narrow_half" "f16(x)" Half
    WidenHalf "widen_half" "f32(f16 p)" Float
    WidenBfloat "widen_bfloat" "f32(bf16 p)" Float
    SignExtend "sign_extend" "sext8(p & 255)" Word
    ShiftRight "shift_right" "i >> j" Word
    SecondDigit "second_digit" "second digit of i" Word
    DotBytes "dot_bytes" "dot of the int8 in p and q, plus k" Word
    DotPairs "dot_pairs" "dot of the int16 in p and q, plus k" Word
    Exponential "exponential" "exp32(x)" Float
}

impl Operation {
    /// The formula with the values of a case in place of its variables.
    pub(super) fn with_inputs(self, inputs: Words) -> String {
        let formula = self.formula();
        let mut text = String::new();
        let mut before = ' ';
        let mut letters = formula.chars().peekable();
        while let Some(letter) = letters.next() {
            let alone = !before.is_ascii_alphanumeric()
                && !letters.peek().is_some_and(char::is_ascii_alphanumeric);
            match value(letter, inputs).filter(|_| alone) {
                Some(value) => text.push_str(&value),
                None => text.push(letter),
            }
            before = letter;
        }
        text
    }
}

/// What a variable of a formula stands for.
fn value(variable: char, [first, second, third]: Words) -> Option<String> {
    let float = |word| format!("{:?}", f32::from_bits(word));
    let integer = |word: u32| word.cast_signed().to_string();
    let plain = |word| format!("{word:#x}");
    match variable {
        'x' => Some(float(first)),
        'y' => Some(float(second)),
        'z' => Some(float(third)),
        'i' => Some(integer(first)),
        'j' => Some(integer(second)),
        'k' => Some(integer(third)),
        'p' => Some(plain(first)),
        'q' => Some(plain(second)),
        _ => None,
    }
}
