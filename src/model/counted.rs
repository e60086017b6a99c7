//! Numbers with nouns and verbs, for messages.

/// A number with thousands separators: `1,200`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok());
    groups.collect::<Vec<_>>().join(",")
}

/// A number with a noun: `1 row`, `2 rows`.
#[must_use]
pub fn counted(number: u64, one: &str) -> String {
    counted_as(number, one, &format!("{one}s"))
}

/// A number with a noun that has a plural of its own, or with a verb: `1 entry waits`, `1,000 entries wait`.
#[must_use]
pub fn counted_as(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_number() {
        assert_eq!(counted(0, "row"), "0 rows");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_200_345, "row"), "1,200,345 rows");
        assert_eq!(counted_as(1, "enters", "enter"), "1 enters");
        assert_eq!(counted_as(2, "enters", "enter"), "2 enter");
    }
}
