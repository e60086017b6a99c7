//! Words for the codes of rejects and of ignored events. Codes are for JSON, metrics and files; people read words.

/// A noun phrase for each code. `{s}` is the ending of the plural.
const PHRASES: &[(&str, &str)] = &[
    // Rows of a source.
    ("no_identifier", "row{s} without an identifier"),
    ("placeholder", "placeholder{s} instead of an identifier"),
    ("too_long", "too long identifier{s}"),
    ("control_character", "identifier{s} with a control character"),
    ("not_utf8", "identifier{s} in invalid UTF-8"),
    ("device_id_by_attribute", "device id{s}, which attributes cannot address"),
    ("fraction", "number{s} with a fraction"),
    ("imprecise_number", "floating-point number{s} too large to be exact"),
    ("negative_zero", "minus zero{s} instead of an identifier"),
    ("not_a_number", "NaN value{s}"),
    ("infinite_number", "infinite number{s}"),
    ("date", "date{s} instead of an identifier"),
    ("time", "time{s} of day instead of an identifier"),
    ("timestamp", "timestamp{s} instead of an identifier"),
    ("duration", "duration{s} instead of an identifier"),
    ("list", "list{s} instead of an identifier"),
    ("object", "object{s} instead of an identifier"),
    ("unsupported_type", "value{s} of a type without a text form"),
    ("wrong_field_count", "row{s} with too few or too many fields"),
    ("repeated_header", "header row{s} in the middle of a file"),
    ("bad_json", "line{s} of invalid JSON"),
    ("not_text", "row{s} with bytes that are not text"),
    ("no_key", "row{s} with a missing or too long key"),
    // Rows of a source, and events.
    ("no_time", "missing time{s}"),
    // Rows of identity data.
    ("no_external_id", "row{s} without an external id"),
    ("no_device_or_alias", "row{s} without a device or an alias"),
    ("no_alias", "row{s} without an alias"),
    // Events of an export.
    ("not_json", "event{s} in invalid JSON"),
    ("not_an_object", "JSON value{s} other than an object"),
    ("no_event_type", "missing event type{s}"),
    ("no_id", "event{s} without an id"),
    ("bad_id", "event{s} with an invalid id"),
    ("bad_time", "event{s} with an invalid time"),
    ("time_out_of_range", "event{s} with a time outside of the years 1 to 9999"),
    ("time_in_future", "event{s} with a time in the future"),
    ("identity_placeholder", "event{s} with a placeholder as identity"),
    ("identity_too_long", "event{s} with a too long identity"),
    ("identity_control_character", "event{s} with a control character in the identity"),
    ("identity_not_utf8", "event{s} with an identity in invalid UTF-8"),
    ("too_large", "event{s} or block{s} beyond the size limit"),
    ("rejected_by_heap", "event{s} that Heap rejected"),
    ("never_identified", "event{s} of never identified users"),
    ("too_many_held", "event{s} beyond the limit of held events"),
    // Files of an export.
    ("truncated", "truncated file{s}"),
    ("damaged", "damaged block{s} or delivery file{s}"),
    ("not_avro", "file{s} in another format than Avro"),
    ("unusable_schema", "file{s} with an unusable schema"),
    ("unknown_codec", "file{s} with an unknown compression"),
    ("unreadable_record", "unreadable record{s}"),
    ("unreadable", "unreadable file{s}"),
    // Ignored events.
    ("not_selected", "event{s} of types that are not selected"),
    ("anonymous", "event{s} of anonymous users"),
    ("no_user", "event{s} without a user id"),
    ("deleted", "event{s} of deleted users"),
    ("out_of_range", "event{s} outside of the requested days"),
    // Members and triggers.
    ("rejected_by_braze", "identifier{s} that Braze rejected"),
    ("trigger_rejected", "trigger{s} that Braze rejected"),
    ("trigger_unanswered", "trigger{s} without a response"),
    // Deliveries of Heap's webhook.
    ("invalid_body", "message{s} other than of Segment Sync"),
    ("unknown_action", "unknown action{s} of a delivery"),
    ("too_late", "page{s} that arrived too late"),
];

/// The reason in words, to follow a number: `device ids, which attributes cannot address`. An unknown code stays as it is.
#[must_use]
pub fn reason_words(code: &str, number: u64) -> String {
    let phrase = PHRASES.iter().find(|(known, _)| *known == code).map_or(code, |(_, phrase)| phrase);
    phrase.replace("{s}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phrase_follows_the_number() {
        assert_eq!(reason_words("fraction", 1), "number with a fraction");
        assert_eq!(reason_words("device_id_by_attribute", 6), "device ids, which attributes cannot address");
        assert_eq!(reason_words("new_reason", 2), "new_reason");
    }

    /// The reference page is made from the same enums as the codes.
    #[test]
    fn every_documented_code_has_words_and_every_phrase_is_documented() {
        let page = include_str!("../../docs/reference/rejects.md");
        let (_, tables) = page.split_once("## Rows of a source").unwrap();
        let documented: Vec<&str> = tables
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(code, _)| code)
            .collect();
        let known: Vec<&str> = PHRASES.iter().map(|(code, _)| *code).collect();
        let missing = |of: &[&'static str], from: &[&str]| -> Vec<&'static str> {
            of.iter().filter(|code| !from.contains(code)).copied().collect()
        };
        assert_eq!(missing(&documented, &known), Vec::<&str>::new(), "without words");
        assert_eq!(missing(&known, &documented), Vec::<&str>::new(), "not documented");
    }
}
