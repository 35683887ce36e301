//! The practice's own Patient: found by NHS number, cross-checked by birth date and family name (GP Connect: the
//! consumer SHALL cross-check the patient before it writes).

use std::collections::BTreeMap;

use serde_json::Value;

use super::PatientMatch;
use super::look::{is_id, resources};
use super::session::Session;
use crate::fhir::path;
use crate::fhir::systems::NHS_NUMBER;
use crate::pathway::delivery::{Reason, Verdict, Why};

/// The reference of the practice's Patient, `Patient/…`.
pub(super) async fn find(session: &mut Session<'_>, wanted: &PatientMatch) -> Result<String, Verdict> {
    let token = format!("{NHS_NUMBER}|{}", wanted.nhs_number);
    // In the body first: URLs end up in logs.
    let mut answer = session.search("Patient", &[("identifier", &token)]).await?;
    if matches!(answer.status, 404 | 405 | 415 | 501) {
        answer = session.get(session.search_url("Patient", "identifier", &token)).await?;
    }
    if answer.status != 200 {
        return Err(session.refusal(&answer));
    }
    let bundle = answer.json().map_err(|why| session.retry(None, why))?;
    let found = matching(&bundle, &wanted.nhs_number).map_err(|why| session.retry(None, why))?;
    let reason = match found.iter().next() {
        None => Reason::PatientNotFound,
        Some(_) if found.len() > 1 => Reason::SeveralPatients,
        Some((_, patient)) if !same_birth_date(patient, wanted) => Reason::BirthDateDiffers,
        Some((_, patient)) if !same_family(patient, wanted) => Reason::FamilyNameDiffers,
        Some((id, _)) => return Ok(format!("Patient/{id}")),
    };
    Err(Verdict::NeedsPerson { reason })
}

/// The Patients in a search result that carry the NHS number, by id. A server that ignores a search parameter answers
/// with everybody, so what it found is not taken on trust. Inactive records are not written to.
fn matching<'a>(bundle: &'a Value, nhs_number: &str) -> Result<BTreeMap<&'a str, &'a Value>, Why> {
    let carries = |patient: &&Value| {
        path::all(patient, "identifier").into_iter().any(|i| {
            let value = i.get("value").and_then(Value::as_str).unwrap_or_default();
            i.get("system").and_then(Value::as_str) == Some(NHS_NUMBER)
                && value.chars().filter(|c| !c.is_whitespace()).eq(nhs_number.chars())
        })
    };
    let patients = resources(bundle, "Patient")?.into_iter().filter(carries);
    let active = patients.filter(|p| p.get("active") != Some(&Value::Bool(false)));
    Ok(active.filter_map(|p| Some((p.get("id").and_then(Value::as_str).filter(|id| is_id(id))?, p))).collect())
}

/// Equal as far as both sides say; a side that says nothing does not differ.
fn same_birth_date(patient: &Value, wanted: &PatientMatch) -> bool {
    let (Some(theirs), Some(ours)) = (path::text(patient, "birthDate"), wanted.birth_date.as_deref()) else {
        return true;
    };
    let both = theirs.len().min(ours.len());
    theirs.get(..both) == ours.get(..both)
}

/// One of the practice's names for the person, former ones included, is ours.
fn same_family(patient: &Value, wanted: &PatientMatch) -> bool {
    let ours = wanted.family.as_deref().map(folded).unwrap_or_default();
    let theirs = path::all(patient, "name.family").into_iter().filter_map(Value::as_str);
    let theirs: Vec<String> = theirs.map(folded).filter(|name| !name.is_empty()).collect();
    ours.is_empty() || theirs.is_empty() || theirs.contains(&ours)
}

/// A name without case, accents, spaces, hyphens and apostrophes: `O’Brien-Núñez` is `obriennunez`.
fn folded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()) {
        match c {
            'à'..='å' | 'ā' | 'ă' | 'ą' => out.push('a'),
            'æ' => out.push_str("ae"),
            'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => out.push('c'),
            'ď' | 'đ' | 'ð' => out.push('d'),
            'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => out.push('e'),
            'ĝ' | 'ğ' | 'ġ' | 'ģ' => out.push('g'),
            'ĥ' | 'ħ' => out.push('h'),
            'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => out.push('i'),
            'ĵ' => out.push('j'),
            'ķ' => out.push('k'),
            'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => out.push('l'),
            'ñ' | 'ń' | 'ņ' | 'ň' => out.push('n'),
            'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => out.push('o'),
            'œ' => out.push_str("oe"),
            'ŕ' | 'ŗ' | 'ř' => out.push('r'),
            'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => out.push('s'),
            'ß' => out.push_str("ss"),
            'ţ' | 'ť' | 'ŧ' | 'ț' => out.push('t'),
            'þ' => out.push_str("th"),
            'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => out.push('u'),
            'ŵ' => out.push('w'),
            'ý' | 'ÿ' | 'ŷ' => out.push('y'),
            'ź' | 'ż' | 'ž' => out.push('z'),
            // A separate accent, as decomposed text has them, is not alphanumeric and is gone already.
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(birth_date: &str, family: &str) -> PatientMatch {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PatientMatch { nhs_number: "9990000018".into(), birth_date: some(birth_date), family: some(family) }
    }

    #[test]
    fn names_are_the_same_whatever_the_accents_case_and_marks() {
        let same = [
            ("O'Brien", "OBRIEN"),
            ("Núñez", "nunez"),
            ("Smith-Jones", "Smith Jones"),
            ("Łukasz", "lukasz"),
            ("Nun\u{303}ez", "Núñez"),
            ("Straße", "STRASSE"),
            ("Ørsted", "orsted"),
        ];
        for (a, b) in same {
            assert!(
                same_family(&json!({ "name": [{ "family": "Other" }, { "family": a }] }), &wanted("", b)),
                "{a} {b}"
            );
        }
        for (a, b) in [("Smith", "Smyth"), ("Patel", "Pate"), ("Ivanov", "Иванов")] {
            assert!(!same_family(&json!({ "name": [{ "family": a }] }), &wanted("", b)), "{a} {b}");
        }
        assert!(
            same_family(&json!({}), &wanted("", "Smith"))
                && same_family(&json!({ "name": [{ "family": "Smith" }] }), &wanted("", ""))
        );
    }

    #[test]
    fn birth_dates_are_compared_as_far_as_both_say() {
        for (theirs, ours, same) in [
            ("1951-04-22", "1951-04-22", true),
            ("1951-04-22", "1951", true),
            ("1951", "1951-04-22", true),
            ("1951-04-22", "1951-04-23", false),
            ("1951-04", "1951-05-01", false),
        ] {
            assert_eq!(same_birth_date(&json!({ "birthDate": theirs }), &wanted(ours, "")), same, "{theirs} {ours}");
        }
        assert!(same_birth_date(&json!({}), &wanted("1951-04-22", "")));
    }
}
