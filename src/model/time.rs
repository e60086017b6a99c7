//! Time as a value. Who needs the time is given a [`Clock`]; nobody asks the machine.

pub use jiff::Timestamp;

/// Tells the time. `cli` makes the real one; tests make their own.
#[derive(Clone, Copy, Debug)]
pub struct Clock(fn() -> Timestamp);

impl Clock {
    /// A clock that asks `now`.
    #[must_use]
    pub const fn new(now: fn() -> Timestamp) -> Self {
        Self(now)
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// ISO-8601 in UTC to the millisecond: `2026-11-23T19:16:11.250Z`.
#[must_use]
pub fn timestamp_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_milliseconds_in_utc() {
        let time: Timestamp = "2026-11-23T19:16:11.2509Z".parse().unwrap();
        assert_eq!(timestamp_text(time), "2026-11-23T19:16:11.250Z");
    }
}
