//! Event type of a Currents file, from its path or its schema name. Records do not contain it.

/// The event type in a path such as `…/event_type=users.messages.email.Open/date=2026-01-01-00/…`, at any depth. The last
/// one counts.
#[must_use]
pub fn type_from_path(path: &str) -> Option<&str> {
    let segments = path.rsplit(['/', '\\']);
    segments.filter_map(|segment| segment.strip_prefix("event_type=")).find(|found| !found.is_empty())
}

/// The event type in a schema's full name, such as `dataexport.S3.inner.users.messages.email.Open` or
/// `com.appboy.users.messages.email.Open`. `None` when no dot is left: event types have dots.
#[must_use]
pub fn type_from_schema(full_name: &str) -> Option<&str> {
    let inner = full_name.split_once(".inner.").map_or(full_name, |(_, inner)| inner);
    let bare = ["com.appboy.", "com.braze."].iter().find_map(|vendor| inner.strip_prefix(vendor));
    Some(bare.unwrap_or(inner)).filter(|found| found.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_in_the_path_at_any_depth() {
        let check = |path, expected| assert_eq!(type_from_path(path), expected, "{path}");
        check(
            "p/dataexport.prod-01.S3.integration.1/event_type=users.messages.email.Open/date=2026-01-01-00/7/a/x.avro",
            Some("users.messages.email.Open"),
        );
        check("event_type=users.behaviors.Purchase", Some("users.behaviors.Purchase"));
        check("event_type=a.B/copied/event_type=c.D/x.avro", Some("c.D"));
        check("event_type=/x.avro", None);
        check("my_event_type=a.B/x.avro", None);
        check("x.avro", None);
    }

    #[test]
    fn the_type_is_in_the_schema_name() {
        let check = |name, expected| assert_eq!(type_from_schema(name), expected, "{name}");
        check("dataexport.S3.inner.users.messages.email.Open", Some("users.messages.email.Open"));
        check("dataexport.AzureBlob.inner.agentconsole.ToolInvocation", Some("agentconsole.ToolInvocation"));
        check("com.appboy.users.messages.email.Open", Some("users.messages.email.Open"));
        check("users.UserOrphan", Some("users.UserOrphan"));
        check("Open", None);
        check("", None);
    }
}
