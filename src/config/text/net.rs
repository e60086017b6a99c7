//! Addresses, paths and times of a server, and names in a database. Whether a time zone exists, `checks` asks.

use std::borrow::Cow;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

patterned!(
    SocketAddress,
    "An IP address and a port to listen on.",
    r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$",
    "an IP address and a port, for example `127.0.0.1:8080` or `[::]:8443`",
    |text| text.parse::<SocketAddr>().is_ok()
);
patterned!(
    UrlPath,
    "The path of a URL.",
    "^(/[A-Za-z0-9._~-]+)+$",
    "a path, for example `/heap/segments`: letters, digits, `.`, `_`, `~` and `-` between slashes",
    |text| text
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))))
);
patterned!(
    TableName,
    "The name of a table, optionally with its schema.",
    r#"^[^\s.;"]+(\.[^\s.;"]+){0,2}$"#,
    "the name of a table, optionally with its schema, for example `analytics.abandoned_checkout`",
    |text| (1..=3).contains(&text.split('.').count())
        && text.split('.').all(|part| !part.is_empty()
            && !part.contains([';', '"'])
            && !part.contains(char::is_whitespace))
);
patterned!(
    Cron,
    "Times in cron format.",
    r"^\s*\S+(\s+\S+){4}\s*$",
    "five fields: minute, hour, day of month, month, day of week, for example `0 */4 * * *`",
    |text| text.split_whitespace().count() == 5
);
patterned!(
    TimeZone,
    "The name of a time zone.",
    "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$",
    "the name of a time zone, for example `Europe/Berlin` or `UTC`",
    |text| text.split('/').all(
        |part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    )
);
patterned!(
    BucketUrl,
    "A bucket, optionally with a prefix.",
    r"^(s3|gs|az)://[^/\s]+(/\S*)?$",
    "`s3://bucket/prefix`, `gs://…` or `az://…`",
    |text| text.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "s3" | "gs" | "az")
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(char::is_whitespace))
);
