//! The short narrative of an entry, made from its codes' terms, times and figures; never from free text.

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::Contents;
use crate::fhir::{Resource, path};

/// The resource's `text`: status `generated`, one escaped paragraph.
pub(super) fn of(resource: &Resource, contents: &Contents<'_>) -> Value {
    let mut said = vec![resource.kind().to_owned()];
    for element in terms_in(resource.kind()) {
        said.extend(terms(resource.value(), element));
    }
    said.extend(figure(resource.value()));
    for component in resource.all("component") {
        let value = figure(component).or_else(|| terms(component, "valueCodeableConcept").into_iter().next());
        if let (Some(term), Some(value)) = (terms(component, "code").into_iter().next(), value) {
            said.push(format!("{term} {value}"));
        }
    }
    let status = resource.text("status").or_else(|| resource.text("lifecycleStatus"));
    said.extend(status.map(str::to_owned));
    said.extend(date(resource));
    let by = [&contents.author.display, &contents.organization.display];
    said.extend(by.into_iter().flatten().cloned());
    let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>{}</p></div>", escaped(&said.join(", ")));
    json!({ "status": "generated", "div": div })
}

/// The coded elements that say what happened, in the order of saying.
fn terms_in(kind: &str) -> &'static [&'static str] {
    match kind {
        "Encounter" => &["class", "type", "serviceType", "reasonCode"],
        "Observation" => &["code", "valueCodeableConcept", "interpretation"],
        "Goal" => &["category", "description", "achievementStatus"],
        "CarePlan" => &["category", "activity.detail.code"],
        "Consent" => &["scope", "category", "provision.code"],
        "ServiceRequest" => &["category", "code", "reasonCode"],
        "Communication" => &["category", "topic", "medium", "reasonCode"],
        _ => &[],
    }
}

/// The first term of each CodeableConcept (or Coding) at the path.
fn terms(root: &Value, dotted: &str) -> Vec<String> {
    let concepts = path::all(root, dotted).into_iter();
    concepts
        .filter_map(|c| path::text(c, "coding.display").or_else(|| path::text(c, "display")))
        .map(str::to_owned)
        .collect()
}

/// The value of an Observation or component, where it is a number.
fn figure(root: &Value) -> Option<String> {
    if let Some(quantity) = root.get("valueQuantity") {
        let number = quantity.get("value").filter(|v| v.is_number())?;
        let unit = quantity.get("code").or_else(|| quantity.get("unit")).and_then(Value::as_str);
        // UCUM annotations ({score}) have no meaning to a reader.
        let unit = unit.filter(|u| !u.starts_with('{')).map(|u| format!(" {u}")).unwrap_or_default();
        return Some(format!("{number}{unit}"));
    }
    root.get("valueInteger").filter(|v| v.is_number()).map(Value::to_string)
}

fn date(resource: &Resource) -> Option<String> {
    let elements = [
        "period.start",
        "effectiveDateTime",
        "effectivePeriod.start",
        "startDate",
        "sent",
        "dateTime",
        "authoredOn",
        "created",
        "authored",
    ];
    let said = elements.into_iter().find_map(|e| resource.text(e))?;
    let day = said.get(..10).and_then(|d| NaiveDate::parse_from_str(d, "%Y-%m-%d").ok());
    // Years and months are said as they are; anything else is not a date.
    let partial = || (said.len() <= 7 && said.chars().all(|c| c.is_ascii_digit() || c == '-')).then(|| said.to_owned());
    day.map(|d| d.format("%-d %B %Y").to_string()).or_else(partial)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XHTML, where the div has to be well-formed.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
