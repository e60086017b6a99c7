//! Nesting depth of JSON, computed without parsing it.

/// Whether a JSON text is nested deeper than `depth_max`.
#[must_use]
pub(super) fn is_deeper(text: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match (in_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(!is_deeper(br#"{"a":"[[[[\"[[[[","b":[[1]]}"#, 3));
        assert!(is_deeper(br#"{"a":[[[1]]]}"#, 3));
        assert!(!is_deeper(b"[][][][]", 1));
        assert!(is_deeper(&[b'['; 100_000], 64));
    }
}
