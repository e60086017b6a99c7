//! Text as a YAML scalar, for configs and suggestions that the program writes.

/// A text as a YAML scalar: plain if that is safe, else in double quotes.
#[must_use]
pub fn yaml_text(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    // A JSON string is a YAML string.
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
