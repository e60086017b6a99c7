//! Target of text from servers: it is made safe to show.

use syncline::foreign::{
    cleaned, escaped, is_unsafe, json, markdown, terminal, without_quoted, without_users,
};
use syncline::model::parse_time;

/// Any text, such as a vendor's message. Its first line is a user's identifier that must not be shown.
pub(crate) fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let safe = escaped(&text);
    assert!(!safe.contains(is_unsafe) && !cleaned(&text).contains(is_unsafe));
    assert_eq!(escaped(&safe), safe, "escaping twice changes nothing");
    let is_shown = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\t' | '\u{1b}');
    assert!(!terminal(&text).contains(is_shown));
    assert!(!markdown(&text).contains('\n'));
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
        let again = serde_json::from_str::<serde_json::Value>(&json(&text));
        assert_eq!(again.expect("still JSON"), value, "the values do not change");
    }
    let _ = (without_quoted(&text, "known"), parse_time(&text));
    let (user, message) = text.split_once('\n').unwrap_or((&text, ""));
    let message = without_users(message, [user]);
    let is_word = user.len() > 3 && user.chars().all(|c| c.is_ascii_alphanumeric()) && !"user".contains(user);
    assert!(!is_word || !message.split(|c: char| !c.is_alphanumeric()).any(|word| word == user));
}
