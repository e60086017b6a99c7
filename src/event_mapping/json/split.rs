//! Splitting of a request body into its events.
//!
//! Braze sends `{"events":[…]}`; an array of events and a single event are accepted as well. The content of events is not
//! read, so unknown types are no error here.

use super::{JsonError, Scanner, ValueStart};

/// Splits a body into its events, in order. An empty body, `{}` and an empty list have none: Braze sends them to check
/// the credentials.
///
/// # Errors
/// [`JsonError`] when the body is not JSON, also after the last event.
pub fn pieces(body: &[u8]) -> Result<Vec<&str>, JsonError> {
    let mut found = Vec::new();
    each_piece(body, &mut |piece| found.push(piece))?;
    Ok(found)
}

/// Whether a body has events. Keeps none of them.
///
/// # Errors
/// As [`pieces`].
pub fn has_pieces(body: &[u8]) -> Result<bool, JsonError> {
    let mut found = false;
    each_piece(body, &mut |_| found = true)?;
    Ok(found)
}

/// Calls `found` with each event of a body, in order.
fn each_piece<'a>(body: &'a [u8], found: &mut dyn FnMut(&'a str)) -> Result<(), JsonError> {
    let body = std::str::from_utf8(body)
        .map_err(|error| JsonError { offset: error.valid_up_to(), what: "not UTF-8" })?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut scanner = Scanner::new(body);
    if scanner.is_at_end() {
        return Ok(());
    }
    match scanner.value()? {
        ValueStart::List => elements(body, &mut scanner, found)?,
        ValueStart::Object => {
            if members(body, &mut scanner, found)? {
                found(body.trim_ascii());
            }
        }
        start => scanner.skip(start)?,
    }
    scanner.end()
}

/// The elements of the open list.
fn elements<'a>(
    body: &'a str,
    scanner: &mut Scanner<'a>,
    found: &mut dyn FnMut(&'a str),
) -> Result<(), JsonError> {
    let mut is_first = true;
    while scanner.element(is_first)? {
        is_first = false;
        let from = scanner.offset();
        let start = scanner.value()?;
        scanner.skip(start)?;
        found(body[from..scanner.offset()].trim_ascii_start());
    }
    Ok(())
}

/// The events of the open object. Returns whether the object is an event itself: it has members, but no events.
fn members<'a>(
    body: &'a str,
    scanner: &mut Scanner<'a>,
    found: &mut dyn FnMut(&'a str),
) -> Result<bool, JsonError> {
    let (mut is_first, mut has_events) = (true, false);
    while let Some(key) = scanner.key(is_first)? {
        is_first = false;
        match scanner.value()? {
            ValueStart::List if key.text() == "events" && !has_events => {
                has_events = true;
                elements(body, scanner, found)?;
            }
            ValueStart::Null if key.text() == "events" => has_events = true,
            start => scanner.skip(start)?,
        }
    }
    Ok(!is_first && !has_events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[&str]) {
        assert_eq!(pieces(body.as_bytes()).unwrap(), expected, "{body}");
    }

    #[test]
    fn every_form_of_a_body() {
        check(r#"{"events":[{"id":"a"}, {"id":"b"} ]}"#, &[r#"{"id":"a"}"#, r#"{"id":"b"}"#]);
        check(r#" {"x":[1],"events":[ 7]} "#, &["7"]);
        check(r#"[{"id":"a"},null]"#, &[r#"{"id":"a"}"#, "null"]);
        check("\u{feff}{\"id\":\"a\"}", &["{\"id\":\"a\"}"]);
    }

    #[test]
    fn a_probe_has_no_events() {
        for body in ["", " \n", "{}", "[]", r#"{"events":[]}"#, r#"{"events":null}"#, "null", "1"] {
            check(body, &[]);
        }
    }

    #[test]
    fn an_event_with_a_property_of_that_name_is_bare() {
        let event = r#"{"id":"a","properties":{"events":[1]}}"#;
        check(event, &[event]);
    }

    #[test]
    fn raw_control_characters_and_half_surrogate_pairs_lose_no_event() {
        for text in ["a\tb", "a\nb", "\u{0}", r"\ud83d", r"\ude00x"] {
            let event = format!(r#"{{"{text}":["{text}"]}}"#);
            assert!(serde_json::from_str::<serde_json::Value>(&event).is_err(), "{event:?}");
            check(&format!(r#"{{"events":[{event},7]}}"#), &[&event, "7"]);
        }
    }

    #[test]
    fn a_partly_invalid_body_is_an_error() {
        for body in [r#"{"events":[{"id":"a"}"#, r#"{"events":[{"id":"a"}]} x"#, "{]", "nul", "[1,]"] {
            assert!(pieces(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(pieces(b"[\"\xff\"]").unwrap_err().offset, 2);
    }
}
