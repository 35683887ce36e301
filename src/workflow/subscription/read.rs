//! What a Subscription asks for, read from the resource; what cannot be done is refused with the element that asks for it.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::fhir::search::Filter;
use crate::fhir::when::start_of;
use crate::fhir::{IssueCode, Resource, path};
use crate::pathway::notification::{BACKPORT, Content};
use crate::pathway::topic::Topic;

use super::super::{Error, House, Result};

/// The extension of `Subscription.channel` in which a subscriber says its own secret.
pub(super) const SECRET: &str = "https://livewell.example/StructureDefinition/webhook-secret";
/// Longest endpoint, header and filter that is kept, in characters.
const LONGEST: usize = 2000;
/// Headers, and filters, of one Subscription at most.
const MOST: usize = 20;
/// Events in one notification at most.
const MOST_EVENTS: i64 = 100;
/// Shortest and longest silence before a heartbeat, in seconds: a minute to 30 days.
const HEARTBEAT: (i64, i64) = (60, 30 * 86_400);
/// Longest an attempt may take, in seconds: the channel's own limit.
const LONGEST_ATTEMPT: i64 = 20;

/// What a Subscription asks for.
pub(super) struct Wanted {
    /// The topic's canonical URL, '' for a plain R4 criteria.
    pub topic: String,
    pub filters: Vec<String>,
    /// The types it hears of, each once.
    pub kinds: Vec<String>,
    pub content: Content,
    pub endpoint: String,
    /// `None` where none were sent: they are never given back, so that whoever reads and writes does not lose them.
    pub headers: Option<Vec<(String, String)>>,
    pub secret: Option<String>,
    pub heartbeat: i64,
    pub timeout: i64,
    pub max_count: i64,
    pub ends_at: Option<DateTime<Utc>>,
}

/// Takes what is asked for out of a Subscription, and out of the resource what is never told: headers and secret.
pub(super) fn take(house: &House, resource: &mut Resource, at: &str) -> Result<Wanted> {
    let (topic, filters, kinds) = hears(house, resource, at)?;
    let channel = resource.value()["channel"].clone();
    if path::text(&channel, "type") != Some("rest-hook") || channel.get("_type").is_some() {
        return Err(refused(
            IssueCode::NotSupported,
            format!("{at}.channel.type"),
            "Notifications are sent by rest-hook here, and by no other channel.",
        ));
    }
    let wanted = Wanted {
        content: content(house, &channel, !topic.is_empty(), at)?,
        endpoint: endpoint(house, &channel, at)?,
        headers: headers(&channel, at)?,
        secret: secret(house, &channel, at)?,
        heartbeat: seconds(&channel, "backport-heartbeat-period", HEARTBEAT, at)?,
        timeout: seconds(&channel, "backport-timeout", (1, 3600), at)?.min(LONGEST_ATTEMPT),
        max_count: number(&channel, "backport-max-count").unwrap_or(1).clamp(1, MOST_EVENTS),
        ends_at: resource.text("end").and_then(start_of),
        topic,
        filters,
        kinds,
    };
    let fields = resource.value_mut()["channel"].as_object_mut();
    if let Some(channel) = fields {
        channel.shift_remove("header");
        channel.shift_remove("_header");
        if let Some(extensions) = channel.get_mut("extension").and_then(Value::as_array_mut) {
            extensions.retain(|e| path::text(e, "url") != Some(SECRET));
            if extensions.is_empty() {
                channel.shift_remove("extension");
            }
        }
    }
    Ok(wanted)
}

fn refused(code: IssueCode, at: String, text: impl Into<String>) -> Error {
    Error::rule(code, at, text)
}

/// Topic, filters and types.
fn hears(house: &House, resource: &Resource, at: &str) -> Result<(String, Vec<String>, Vec<String>)> {
    let criteria = resource.text("criteria").unwrap_or_default();
    let place = format!("{at}.criteria");
    let filter = |text: &str| {
        if text.len() > LONGEST {
            return Err(refused(
                IssueCode::TooLong,
                place.clone(),
                format!("A filter has at most {LONGEST} characters."),
            ));
        }
        Filter::parse(text, &house.fhir_base(), 0).map_err(|why| refused(IssueCode::NotSupported, place.clone(), why))
    };
    let Some(topic) = house.topics.iter().find(|topic| topic.url == criteria) else {
        if criteria.contains("://") {
            let known: Vec<&str> = house.topics.iter().map(|topic| topic.url.as_str()).collect();
            return Err(refused(
                IssueCode::NotSupported,
                place,
                format!("There is no such topic here. There are: {}.", known.join(", ")),
            ));
        }
        let kind = filter(criteria)?.kind().to_owned();
        return Ok((String::new(), vec![criteria.to_owned()], vec![kind]));
    };
    let extensions = path::all(resource.value(), "_criteria.extension");
    let wanted = format!("{BACKPORT}backport-filter-criteria");
    let filters: Vec<String> = extensions
        .into_iter()
        .filter(|e| path::text(e, "url") == Some(wanted.as_str()))
        .map(|e| path::text(e, "valueString").unwrap_or_default().to_owned())
        .collect();
    if filters.len() > MOST {
        return Err(refused(IssueCode::TooLong, place, format!("A Subscription has at most {MOST} filters.")));
    }
    for text in &filters {
        can_filter(topic, &filter(text)?, text, &place)?;
    }
    Ok((topic.url.clone(), filters, topic.kinds().into_iter().map(str::to_owned).collect()))
}

/// Refuses a filter that the topic does not offer.
fn can_filter(topic: &Topic, filter: &Filter, text: &str, place: &str) -> Result<()> {
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let names =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split(['=', ':']).next().unwrap_or(pair));
    for name in names {
        if !topic.filters().iter().any(|(kind, code)| kind == filter.kind() && code == name) {
            let offered: Vec<String> = topic.filters().iter().map(|(kind, code)| format!("{kind}?{code}")).collect();
            return Err(refused(
                IssueCode::NotSupported,
                place.to_owned(),
                format!("This topic is not filtered by that. It is filtered by: {}.", offered.join(", ")),
            ));
        }
    }
    Ok(())
}

fn content(house: &House, channel: &Value, by_topic: bool, at: &str) -> Result<Content> {
    let place = format!("{at}.channel.payload");
    match channel.get("payload").and_then(Value::as_str) {
        Some("application/fhir+json" | "application/json") => {}
        None if !by_topic => return Ok(Content::Empty),
        _ => {
            let text = "Notifications are application/fhir+json: say so in channel.payload.";
            return Err(refused(IssueCode::NotSupported, place, text));
        }
    }
    let wanted = format!("{BACKPORT}backport-payload-content");
    let said =
        path::all(channel, "_payload.extension").into_iter().find(|e| path::text(e, "url") == Some(wanted.as_str()));
    let Some(said) = said else { return Ok(Content::IdOnly) };
    match Content::from_code(path::text(said, "valueCode").unwrap_or_default()) {
        Some(Content::FullResource) if !house.full_resource => Err(refused(
            IssueCode::NotSupported,
            place,
            "This service sends no resources in notifications, so that what it is about leaves only to who asks with a \
             token. Take id-only, and read what it names.",
        )),
        Some(content) => Ok(content),
        None => Err(refused(IssueCode::CodeInvalid, place, "The content is empty, id-only or full-resource.")),
    }
}

fn endpoint(house: &House, channel: &Value, at: &str) -> Result<String> {
    let place = format!("{at}.channel.endpoint");
    let endpoint = path::text(channel, "endpoint").unwrap_or_default();
    if endpoint.is_empty() || endpoint.len() > LONGEST {
        return Err(refused(IssueCode::Required, place, "Say the https address that notifications are sent to."));
    }
    (house.webhooks.may_call)(endpoint).map_err(|why| refused(IssueCode::Value, place, why))?;
    Ok(endpoint.to_owned())
}

fn headers(channel: &Value, at: &str) -> Result<Option<Vec<(String, String)>>> {
    let Some(said) = channel.get("header") else { return Ok(None) };
    let lines: Vec<&str> = said.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let wrong = || {
        refused(
            IssueCode::Value,
            format!("{at}.channel.header"),
            format!(
                "A header is `Name: value` in visible characters; at most {MOST} of {LONGEST} characters are kept."
            ),
        )
    };
    if lines.len() > MOST {
        return Err(wrong());
    }
    let read = |line: &&str| {
        let (name, value) = line.split_once(':')?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let is_value = value.bytes().all(|b| (0x20..0x7f).contains(&b));
        (is_name && is_value && line.len() <= LONGEST).then(|| (name.to_owned(), value.to_owned()))
    };
    lines.iter().map(read).collect::<Option<Vec<_>>>().map(Some).ok_or_else(wrong)
}

fn secret(house: &House, channel: &Value, at: &str) -> Result<Option<String>> {
    let said = path::all(channel, "extension").into_iter().find(|e| path::text(e, "url") == Some(SECRET));
    let Some(secret) = said.map(|e| path::text(e, "valueString").unwrap_or_default()) else { return Ok(None) };
    match (house.webhooks.is_secret)(secret) {
        true => Ok(Some(secret.to_owned())),
        false => Err(refused(
            IssueCode::Value,
            format!("{at}.channel.extension"),
            "A webhook secret is `whsec_` and the base64 of 24 to 64 random bytes.",
        )),
    }
}

fn number(channel: &Value, name: &str) -> Option<i64> {
    let url = format!("{BACKPORT}{name}");
    let said = path::all(channel, "extension").into_iter().find(|e| path::text(e, "url") == Some(url.as_str()))?;
    let value = said.get("valueUnsignedInt").or(said.get("valuePositiveInt")).or(said.get("valueInteger"));
    Some(value.and_then(Value::as_i64).unwrap_or(-1))
}

fn seconds(channel: &Value, name: &str, (least, most): (i64, i64), at: &str) -> Result<i64> {
    match number(channel, name) {
        None | Some(0) => Ok(0),
        Some(seconds) if (least..=most).contains(&seconds) => Ok(seconds),
        Some(_) => Err(refused(
            IssueCode::Value,
            format!("{at}.channel.extension"),
            format!("{name} is from {least} to {most} seconds here."),
        )),
    }
}

/// Scheme, host and port of an address: headers and secrets stay with the system they were given for.
pub(super) fn origin(endpoint: &str) -> &str {
    let after = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[after..].find(['/', '?', '#']).map_or(endpoint.len(), |at| after + at);
    &endpoint[..end]
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_ends_where_the_path_begins() {
        for (endpoint, expected) in [
            ("https://a.example/hook?x=1", "https://a.example"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("https://a.example?x=/y", "https://a.example"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(origin(endpoint), expected);
        }
        assert_ne!(origin("https://a.example/x"), origin("https://a.example.evil/x"));
    }
}
