//! Compact form of a JSON value: no white space, and only necessary escapes.
//!
//! Equal lists and objects become equal texts, independent of the white space and escapes of their sender.

use super::{JsonError, Scanner, ValueStart, number, quoted};

/// Appends a value; its start was taken from `scanner`.
pub(crate) fn compact<'a>(
    scanner: &mut Scanner<'a>,
    start: ValueStart<'a>,
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    match start {
        ValueStart::Null => out.extend_from_slice(b"null"),
        ValueStart::Bool(true) => out.extend_from_slice(b"true"),
        ValueStart::Bool(false) => out.extend_from_slice(b"false"),
        ValueStart::Number(token) => number(out, token),
        ValueStart::Text(raw) => quoted(out, &raw.text()),
        ValueStart::List => elements(scanner, out)?,
        ValueStart::Object => members(scanner, out)?,
    }
    Ok(())
}

fn elements(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    out.push(b'[');
    let mut is_first = true;
    while scanner.element(is_first)? {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        let start = scanner.value()?;
        compact(scanner, start, out)?;
    }
    out.push(b']');
    Ok(())
}

fn members(scanner: &mut Scanner<'_>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    out.push(b'{');
    let mut is_first = true;
    while let Some(key) = scanner.key(is_first)? {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        quoted(out, &key.text());
        out.push(b':');
        let start = scanner.value()?;
        compact(scanner, start, out)?;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        let text = r#" { "a" : [ 1.0 , "\u00e9\/" , null ] , "b" : { } , "c":[], "d":true } "#;
        let (mut scanner, mut out) = (Scanner::new(text), Vec::new());
        let start = scanner.value().unwrap();
        compact(&mut scanner, start, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":[1,"é/",null],"b":{},"c":[],"d":true}"#);
    }
}
