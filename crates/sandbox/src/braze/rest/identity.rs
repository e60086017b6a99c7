//! Who is who: aliases, people who become known, profiles that melt or go.
//!
//! Source: Braze, "Create new user alias", "Identify users", "Merge users", "Delete users": 50 a request, and
//! a success says only that the request was understood. Emails and phones are found if they are of one person
//! alone; `prioritization` is not played.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::Answer;
use super::super::people::{Alias, Who};
use super::super::store::Fact;
use super::serve::Asked;
use crate::{Inner, Options};

const OBJECTS_MAX: usize = 50;

/// A key of a body, and how an object under it names somebody.
type Kind = (&'static str, fn(&Value) -> Option<Who>);

/// The objects of an array; none if it is absent.
fn objects<'a>(body: &'a Value, key: &str) -> Result<&'a [Value], Answer> {
    let list = match body.get(key) {
        None => return Ok(&[]),
        Some(value) => value.as_array(),
    };
    let list = list.filter(|list| list.iter().all(Value::is_object));
    let list = list.ok_or_else(|| Answer::bad_request(format!("'{key}' must be an array of objects")))?;
    if list.len() > OBJECTS_MAX {
        return Err(Answer::bad_request("The max number of ids per request was exceeded"));
    }
    Ok(list)
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn alias_of(object: &Value) -> Option<Alias> {
    let part = |key| text(object, key).filter(|text| text.len() <= 236);
    Some(Alias { alias_label: part("alias_label")?, alias_name: part("alias_name")? })
}

fn done(inner: &mut Inner, facts: Vec<Fact>, status: StatusCode, body: Value) -> Result<Answer, Answer> {
    inner.braze.keep_all(facts).map_err(Answer::of_memory)?;
    Ok(Answer { status, headers: Vec::new(), body })
}

pub(super) fn alias(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let list = objects(&asked.body, "user_aliases")?;
    let fact = |object: &Value| {
        let alias = alias_of(object)?;
        Some(Fact::Aliased { external_id: text(object, "external_id"), alias })
    };
    let facts: Option<Vec<Fact>> = list.iter().map(fact).collect();
    let facts = facts.filter(|facts| !facts.is_empty());
    let facts = facts.ok_or_else(|| Answer::bad_request("'user_aliases' must be an array of objects"))?;
    let body = json!({ "aliases_processed": facts.len(), "message": "success" });
    done(inner, facts, StatusCode::CREATED, body)
}

pub(super) fn identify(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let kinds: [Kind; 3] = [
        ("aliases_to_identify", |object| alias_of(object.get("user_alias")?).map(Who::UserAlias)),
        ("emails_to_identify", |object| text(object, "email").map(Who::Email)),
        ("phone_numbers_to_identify", |object| text(object, "phone").map(Who::Phone)),
    ];
    let mut facts = Vec::new();
    for (key, by) in kinds {
        for object in objects(&asked.body, key)? {
            let fact = by(object).zip(text(object, "external_id"));
            let (by, external_id) =
                fact.ok_or_else(|| Answer::bad_request(format!("'{key}' must be an array of objects")))?;
            facts.push(Fact::Known { by, external_id });
        }
    }
    if facts.is_empty() {
        return Err(Answer::bad_request("'aliases_to_identify' must be an array of objects"));
    }
    let body = json!({ "aliases_processed": facts.len(), "message": "success" });
    done(inner, facts, StatusCode::CREATED, body)
}

pub(super) fn merge(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    const SHAPE: &str = "'merge_updates' must be an array of objects";
    let list = objects(&asked.body, "merge_updates")?;
    let who = |object: &Value| {
        let alias = || object.get("user_alias").and_then(alias_of).map(Who::UserAlias);
        text(object, "external_id")
            .map(Who::ExternalId)
            .or_else(alias)
            .or_else(|| text(object, "braze_id").map(Who::BrazeId))
            .or_else(|| text(object, "email").map(Who::Email))
            .or_else(|| text(object, "phone").map(Who::Phone))
    };
    let fact = |object: &Value| {
        let gone = who(object.get("identifier_to_merge")?)?;
        Some(Fact::Merged { gone, kept: who(object.get("identifier_to_keep")?)? })
    };
    let facts: Option<Vec<Fact>> = list.iter().map(fact).collect();
    let facts = facts.filter(|facts| !facts.is_empty()).ok_or_else(|| Answer::bad_request(SHAPE))?;
    done(inner, facts, StatusCode::ACCEPTED, json!({ "message": "success" }))
}

pub(super) fn delete(inner: &mut Inner, _: &Options, asked: &Asked) -> Result<Answer, Answer> {
    let kinds: [Kind; 5] = [
        ("external_ids", |id| id.as_str().map(|id| Who::ExternalId(id.to_owned()))),
        ("user_aliases", |alias| alias_of(alias).map(Who::UserAlias)),
        ("braze_ids", |id| id.as_str().map(|id| Who::BrazeId(id.to_owned()))),
        ("email_addresses", |object| text(object, "email").map(Who::Email)),
        ("phone_numbers", |object| text(object, "phone").map(Who::Phone)),
    ];
    let mut given = kinds.iter().filter_map(|(key, who)| Some((asked.body.get(*key)?.as_array()?, who)));
    let (Some((list, who)), None) = (given.next(), given.next()) else {
        return Err(Answer::bad_request("exactly one kind of identifier must be given"));
    };
    if list.len() > OBJECTS_MAX {
        return Err(Answer::bad_request("The max number of ids per request was exceeded"));
    }
    let facts: Option<Vec<Fact>> =
        list.iter().map(|object| Some(Fact::Deleted { who: who(object)? })).collect();
    let facts = facts.ok_or_else(|| Answer::bad_request("an identifier is not as it should be"))?;
    let body = json!({ "deleted": facts.len(), "message": "success" });
    done(inner, facts, StatusCode::CREATED, body)
}
