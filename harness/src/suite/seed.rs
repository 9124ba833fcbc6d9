//! Seeds of drawn prompts: a number, or the day, which becomes a number that is printed.

use std::str::FromStr;

use chrono::DateTime;

/// Where drawn tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// This stream.
    Number(u64),
    /// The stream of the day, `YYYYMMDD` in UTC.
    Date,
}

/// A word that is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a whole number or `date` is needed")]
pub struct SeedError;

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        match text {
            "date" => Ok(Self::Date),
            number => number.parse().map(Self::Number).map_err(|_| SeedError),
        }
    }
}

/// The number of a day in UTC: 2026-11-26 is 20261126. A clock before 1970 is day 0.
pub fn day(seconds_since_1970: u64) -> u64 {
    let seconds = i64::try_from(seconds_since_1970).ok();
    let date = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    date.and_then(|date| date.format("%Y%m%d").to_string().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_number_from_midnight_to_midnight_utc() {
        assert_eq!(day(0), 19_700_101);
        // The last second of a leap day, and the first of the next.
        assert_eq!((day(951_868_799), day(951_868_800)), (20_000_229, 20_000_301));
        assert_eq!(day(1_795_651_200), 20_261_126);
        assert_eq!(day(u64::MAX), 0);
    }

    #[test]
    fn a_seed_is_a_number_or_the_day() {
        assert_eq!("20261126".parse(), Ok(Seed::Number(20_261_126)));
        assert_eq!("date".parse(), Ok(Seed::Date));
        assert_eq!("today".parse::<Seed>(), Err(SeedError));
        assert_eq!("-1".parse::<Seed>(), Err(SeedError));
    }
}
