//! A percentage, written `30%` or `12.5%`, compared without rounding.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a percentage: write it with its unit and at most two decimals, like `30%` or `12.5%`")]
pub struct PercentageError(String);

/// A percentage in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(u32);

impl Percentage {
    const WHOLE: u64 = 10_000;

    /// A whole number of percent.
    #[must_use]
    pub const fn from_percent(percent: u32) -> Self {
        Self(percent * 100)
    }

    /// Whether `part` of `whole` exceeds this percentage.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::WHOLE) > u128::from(self.0) * u128::from(whole)
    }

    /// The largest part of `whole` within this percentage.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(self.0) * u128::from(whole) / u128::from(Self::WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            part if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            part => write!(f, "{whole}.{part:02}%"),
        }
    }
}

impl FromStr for Percentage {
    type Err = PercentageError;

    fn from_str(text: &str) -> Result<Self, PercentageError> {
        parse(text).map(Self).ok_or_else(|| PercentageError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 || whole.len() > 6 {
        return None;
    }
    let hundredths = part.parse::<u32>().ok()? * if part.len() == 1 { 10 } else { 1 };
    Some(whole.parse::<u32>().ok()? * 100 + hundredths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_displayed_as_parsed() {
        for text in ["0%", "30%", "12.5%", "0.01%", "500%", "99.99%"] {
            assert_eq!(text.parse::<Percentage>().unwrap().to_string(), text);
        }
        for text in ["", "30", "%", ".5%", "1.%", "-1%", "1e2%", "1.234%", "30 %", "9999999%"] {
            assert!(text.parse::<Percentage>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let share = Percentage::from_percent(30);
        assert!(!share.is_exceeded_by(3, 10));
        assert!(share.is_exceeded_by(4, 10));
        assert!(share.is_exceeded_by(1, 0), "any part of nothing is too much");
        assert!(!share.is_exceeded_by(0, 0));
        assert_eq!(share.of(10), 3);
        assert!(!share.is_exceeded_by(share.of(999), 999) && share.is_exceeded_by(share.of(999) + 1, 999));
    }
}
