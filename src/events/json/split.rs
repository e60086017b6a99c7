//! A body of events → each event as it stands in it.
//!
//! Braze sends `{"events":[…]}`; an array of events and a bare event are taken as well. What an event
//! says is not looked at, so an unknown one is never an error here.

use super::{JsonError, Scanner, Start};

/// The events of one body, in order.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    body: &'a str,
    scanner: Scanner<'a>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// One event or none, which is the whole body.
    Bare,
    First,
    Later,
    Done,
}

/// Splits a body. An empty body has no events, and neither has `{}` or an empty list: Braze asks so
/// whether the credentials are right.
///
/// # Errors
/// [`JsonError`] when the body is not JSON throughout, also behind the last event.
pub fn pieces(body: &[u8]) -> Result<Pieces<'_>, JsonError> {
    let body = std::str::from_utf8(body)
        .map_err(|error| JsonError { offset: error.valid_up_to(), what: "not UTF-8" })?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut check = Scanner::new(body);
    if check.is_at_end() {
        return Ok(Pieces { body, scanner: check, state: State::Done });
    }
    let start = check.value()?;
    check.skip(start)?;
    check.end()?;
    let mut scanner = Scanner::new(body);
    let state = match scanner.value()? {
        Start::List => State::First,
        Start::Object => events(&mut scanner)?,
        _ => State::Done,
    };
    if state == State::Bare {
        scanner = Scanner::new(body);
    }
    Ok(Pieces { body, scanner, state })
}

/// Goes to the list of events in the object that is open.
fn events(scanner: &mut Scanner<'_>) -> Result<State, JsonError> {
    let mut state = State::Done;
    while let Some(key) = scanner.key(state == State::Done)? {
        let start = scanner.value()?;
        if key.text() == "events" && matches!(start, Start::List | Start::Null) {
            return Ok(if start == Start::List { State::First } else { State::Done });
        }
        scanner.skip(start)?;
        state = State::Bare;
    }
    Ok(state)
}

impl<'a> Pieces<'a> {
    fn piece(&mut self) -> Result<Option<&'a str>, JsonError> {
        match self.state {
            State::Done => return Ok(None),
            State::Bare => self.state = State::Done,
            State::First | State::Later => {
                if !self.scanner.element(self.state == State::First)? {
                    self.state = State::Done;
                    return Ok(None);
                }
                self.state = State::Later;
            }
        }
        let from = self.scanner.offset();
        let start = self.scanner.value()?;
        self.scanner.skip(start)?;
        Ok(Some(self.body[from..self.scanner.offset()].trim_ascii_start()))
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // The whole body has been read once without an error.
        self.piece().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[&str]) {
        assert_eq!(pieces(body.as_bytes()).unwrap().collect::<Vec<_>>(), expected, "{body}");
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
    fn a_body_that_is_not_json_throughout_is_none() {
        for body in [r#"{"events":[{"id":"a"}"#, r#"{"events":[{"id":"a"}]} x"#, "{]", "nul", "[1,]"] {
            assert!(pieces(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(pieces(b"[\"\xff\"]").unwrap_err().offset, 2);
    }
}
