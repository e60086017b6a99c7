//! `/users/track`: attributes, events, purchases.
//!
//! Source: Braze, "Track users" (75 objects in all; each of exactly one person; an external id makes a
//! profile unless it must exist, an alias only if it need not), "API errors" (what is wrong with an object
//! is said in `errors` and the others are taken; if nothing is left, 400).

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Answer;
use super::super::people::{Alias, Who};
use super::super::store::Fact;
use super::serve::Asked;
use crate::{Inner, Options};

/// Objects in one request.
const OBJECTS_MAX: usize = 75;
const EXTERNAL_ID_LEN_MAX: usize = 987;
const ARRAYS: [&str; 3] = ["attributes", "events", "purchases"];
const NOTHING_VALID: &str =
    "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields.";

/// A user whose objects `/users/track` rejects, set through the admin API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reject {
    external_id: String,
    r#type: String,
    /// Whether the error says which object it is about.
    #[serde(default = "yes")]
    indexed: bool,
}

fn yes() -> bool {
    true
}

/// What is wrong with an object, and whether that is said of it by its place.
struct Wrong {
    kind: String,
    indexed: bool,
}

pub(super) fn track(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let list = |key: &str| match asked.body.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.clone()),
        Some(_) => Err(Answer::bad_request(format!("'{key}' must be an array of objects"))),
    };
    let lists = [list(ARRAYS[0])?, list(ARRAYS[1])?, list(ARRAYS[2])?];
    let count: usize = lists.iter().map(Vec::len).sum();
    if count > OBJECTS_MAX {
        return Err(Answer::bad_request("Max Input Length Exceeded"));
    }
    let (mut facts, mut errors, mut body) = (Vec::new(), Vec::new(), json!({ "message": "success" }));
    let mut points = 0;
    for (array, objects) in ARRAYS.into_iter().zip(lists) {
        let mut processed = 0;
        for (index, object) in objects.iter().enumerate() {
            match taken(array, object, &inner.braze.rest.rejects) {
                Ok((fact, written)) => {
                    processed += 1;
                    points += written;
                    facts.extend(fact);
                }
                Err(wrong) => errors.push(told(&wrong, array, index)),
            }
        }
        if processed > 0 {
            body[format!("{array}_processed")] = processed.into();
        }
    }
    if errors.len() == count {
        body = json!({ "message": NOTHING_VALID, "errors": errors });
        return Err(Answer { status: StatusCode::BAD_REQUEST, headers: Vec::new(), body });
    }
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    inner.braze.rest.counters.tracked(count, points);
    inner.braze.keep_all(facts).map_err(Answer::of_memory)?;
    Ok(Answer { status: StatusCode::CREATED, headers: Vec::new(), body })
}

fn told(wrong: &Wrong, array: &str, index: usize) -> Value {
    if wrong.indexed {
        json!({ "type": wrong.kind, "input_array": array, "index": index })
    } else {
        json!({ "type": wrong.kind })
    }
}

/// What an object makes happen, and how many data points it costs; or what is wrong with it.
fn taken(array: &str, object: &Value, rejects: &[Reject]) -> Result<(Option<Fact>, u64), Wrong> {
    let wrong = |kind: &str| Wrong { kind: kind.to_owned(), indexed: true };
    let fields = object.as_object().ok_or_else(|| wrong("an object is required"))?;
    let who = who(fields).map_err(wrong)?;
    if let Who::ExternalId(id) = &who {
        if id.len() > EXTERNAL_ID_LEN_MAX {
            return Err(wrong("EXTERNAL_USER_ID_TOO_LARGE"));
        }
        if let Some(reject) = rejects.iter().find(|reject| reject.external_id == *id) {
            return Err(Wrong { kind: reject.r#type.clone(), indexed: reject.indexed });
        }
    }
    if array != ARRAYS[0] {
        let named = ["name", "product_id"].iter().any(|key| fields.get(*key).is_some_and(Value::is_string));
        let timed = fields.get("time").and_then(Value::as_str).is_some();
        return if named && timed { Ok((None, 1)) } else { Err(wrong("'name' and 'time' are required")) };
    }
    let existing_only = fields.get("_update_existing_only").and_then(Value::as_bool);
    let make = match who {
        Who::ExternalId(_) => existing_only != Some(true),
        Who::UserAlias(_) => existing_only == Some(false),
        _ => false,
    };
    const IDENTIFIERS: [&str; 4] = ["external_id", "user_alias", "braze_id", "_update_existing_only"];
    let attributes: Map<String, Value> = fields
        .iter()
        .filter(|(key, _)| !IDENTIFIERS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let points = attributes.len() as u64;
    Ok((Some(Fact::Described { who, make, attributes }), points))
}

/// Exactly one of the primary identifiers, or an email or a phone.
fn who(fields: &Map<String, Value>) -> Result<Who, &'static str> {
    const NOBODY: &str = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required";
    let text =
        |key: &str| fields.get(key).map(|value| value.as_str().filter(|text| !text.is_empty()).ok_or(NOBODY));
    let alias = |value: &Value| serde_json::from_value::<Alias>(value.clone()).map_err(|_| NOBODY);
    let primary: Vec<Who> = [
        text("external_id").transpose()?.map(|id| Who::ExternalId(id.to_owned())),
        text("braze_id").transpose()?.map(|id| Who::BrazeId(id.to_owned())),
        fields.get("user_alias").map(alias).transpose()?.map(Who::UserAlias),
    ]
    .into_iter()
    .flatten()
    .collect();
    match <[Who; 1]>::try_from(primary) {
        Ok([who]) => Ok(who),
        Err(primary) if primary.len() > 1 => {
            Err("only one of 'external_id', 'braze_id', 'user_alias' is allowed")
        }
        Err(_) => {
            let email = text("email").transpose()?.map(|email| Who::Email(email.to_owned()));
            let phone = text("phone").transpose()?.map(|phone| Who::Phone(phone.to_owned()));
            email.or(phone).ok_or(NOBODY)
        }
    }
}
