//! Addresses, paths and times of a server, and names in a database. Whether a time zone exists, `checks` asks.

use std::borrow::Cow;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

patterned!(
    SocketAddress,
    "An address and a port to listen on.",
    r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$",
    "an address and a port, like `127.0.0.1:8080` or `[::]:8443`",
    |text| text.parse::<SocketAddr>().is_ok()
);
patterned!(
    UrlPath,
    "The path of a URL.",
    "^(/[A-Za-z0-9._~-]+)+$",
    "a path like `/heap/segments`: letters, digits, `.`, `_`, `~` and `-` between slashes",
    |text| text
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))))
);
patterned!(
    TableName,
    "The name of a table, with its schema.",
    r#"^[^\s.;"]+(\.[^\s.;"]+){0,2}$"#,
    "a table's name, perhaps with its schema before it, like `analytics.abandoned_checkout`",
    |text| (1..=3).contains(&text.split('.').count())
        && text.split('.').all(|part| !part.is_empty()
            && !part.contains([';', '"'])
            && !part.contains(char::is_whitespace))
);
patterned!(
    Cron,
    "Times as cron writes them.",
    r"^\s*\S+(\s+\S+){4}\s*$",
    "five fields: minute, hour, day of the month, month, day of the week, like `0 */4 * * *`",
    |text| text.split_whitespace().count() == 5
);
patterned!(
    TimeZone,
    "The name of a time zone.",
    "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$",
    "the name of a time zone, like `Europe/Berlin` or `UTC`",
    |text| text.split('/').all(
        |part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    )
);
patterned!(
    BucketUrl,
    "A bucket, with a prefix or without.",
    r"^(s3|gs|az)://[^/\s]+(/\S*)?$",
    "`s3://bucket/prefix`, `gs://…` or `az://…`",
    |text| text.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "s3" | "gs" | "az")
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(char::is_whitespace))
);
