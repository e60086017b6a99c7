//! The caseless form of an identifier: lower case, composed, and without invisible characters.

use crate::model::{Identifier, IdentifierError, is_ambiguous, visible_form};

/// Whether the value of a packed identifier equals its caseless form.
#[inline]
pub(super) fn is_caseless(packed: &[u8]) -> bool {
    let value = packed.get(1).and_then(|label_len| packed.get(2 + usize::from(*label_len) + 2..));
    // One loop without branches, which the compiler vectorizes.
    let value = value.unwrap_or_default();
    let (has_upper, high_bits) = value
        .iter()
        .fold((false, 0), |(found, high_bits), byte| (found | byte.is_ascii_uppercase(), high_bits | *byte));
    !(has_upper || (high_bits >= 0x80 && std::str::from_utf8(value).is_ok_and(is_ambiguous)))
}

/// The packed identifier with the caseless form of its value.
pub(super) fn caseless<'a>(packed: &[u8], out: &'a mut Vec<u8>) -> Result<&'a [u8], IdentifierError> {
    let (Identifier { kind, label, value }, _) = Identifier::unpack(packed)?;
    out.clear();
    Identifier::pack(kind, label, visible_form(value).as_bytes(), out);
    Ok(out)
}
