//! A referral that is sent again under its business identifier: known by its content, in whichever of its newest
//! versions its sender wrote it and whichever way it went in.

use serde_json::Value;

use crate::fhir::systems::REFERRAL_REFERENCE;
use crate::fhir::{Resource, path};
use crate::store::{HistoryOf, HistoryPage, ReferralRow, Sight};

use super::refer::subject_of;
use super::transaction::Sent;
use super::{Result, Unit};

/// Versions that are looked through, newest first: a sender changes a referral now and then before work begins.
const VERSIONS: i64 = 50;

/// Whether a ServiceRequest that is sent by itself says what its sender wrote in some version of this referral. Whom it is
/// about is compared by who that is: a Bundle names them by its own entry, and a single resource by number.
pub(super) async fn says_the_same(
    unit: &mut Unit<'_>,
    sent: &Sent,
    request: &Resource,
    before: &ReferralRow,
    expression: &str,
) -> Result<bool> {
    let versions = versions(unit, &before.id).await?;
    let content = content(request);
    if versions.contains(&content) {
        return Ok(true);
    }
    if !versions.into_iter().any(|version| differ_in_subject_only(version, content.clone())) {
        return Ok(false);
    }
    let found = subject_of(unit, sent, request, false, expression).await?;
    Ok(found.person.id == before.person)
}

async fn versions(unit: &mut Unit<'_>, referral: &str) -> Result<Vec<Value>> {
    let of = HistoryOf::Instance("ServiceRequest".to_owned(), referral.to_owned());
    let page = HistoryPage { since: None, at: None, after: None, limit: VERSIONS };
    let (rows, _) = unit.tx.history(&of, &page, &Sight::Everything).await?;
    Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.body).ok()).map(as_sent).collect())
}

fn content(request: &Resource) -> Value {
    as_sent(request.value().clone())
}

/// A version without what is ours: id, meta and the reference we gave it.
fn as_sent(mut version: Value) -> Value {
    let Some(fields) = version.as_object_mut() else { return version };
    fields.shift_remove("id");
    fields.shift_remove("meta");
    if let Some(identifiers) = fields.get_mut("identifier").and_then(Value::as_array_mut) {
        identifiers.retain(|identifier| path::text(identifier, "system") != Some(REFERRAL_REFERENCE));
    }
    version
}

/// Whether two say the same, but for how the person is named. Where both bring their Patient along, what those say counts:
/// a telephone number that changed is no resend.
fn differ_in_subject_only(mut one: Value, mut other: Value) -> bool {
    match (take_patient(&mut one), take_patient(&mut other)) {
        (Some(patient), Some(of_the_other)) if patient != of_the_other => false,
        _ => one == other,
    }
}

/// Takes out the subject, and the Patient that came within to say who that is.
fn take_patient(version: &mut Value) -> Option<Value> {
    let fields = version.as_object_mut()?;
    let subject = fields.shift_remove("subject")?;
    let id = path::text(&subject, "reference")?.strip_prefix('#')?;
    let contained = fields.get_mut("contained")?.as_array_mut()?;
    let at = contained.iter().position(|one| path::text(one, "id") == Some(id))?;
    let patient = contained.remove(at);
    if contained.is_empty() {
        fields.shift_remove("contained");
    }
    Some(patient)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_ours_and_how_the_person_is_named_is_no_difference() {
        let stored = json!({
            "resourceType": "ServiceRequest", "id": "a", "meta": { "versionId": "2" }, "status": "active",
            "identifier": [{ "system": "urn:s", "value": "1" }, { "system": REFERRAL_REFERENCE, "value": "LW-1" }],
            "subject": { "reference": "Patient/b" },
        });
        let sent = json!({
            "resourceType": "ServiceRequest", "status": "active", "identifier": [{ "system": "urn:s", "value": "1" }],
            "contained": [{ "resourceType": "Patient", "id": "p" }], "subject": { "reference": "#p" },
        });
        assert!(differ_in_subject_only(as_sent(stored.clone()), sent.clone()));
        assert_ne!(as_sent(stored), sent);
        let mut moved = sent.clone();
        moved["contained"][0]["telecom"] = json!([{ "value": "2" }]);
        assert!(!differ_in_subject_only(moved, sent.clone()), "what is said of the person counts");
        let mut other = sent.clone();
        other["contained"] = json!([{ "resourceType": "Practitioner", "id": "q" }]);
        assert!(!differ_in_subject_only(other, sent));
    }
}
