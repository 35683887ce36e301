//! What to check about a new referral. Nobody is turned away: a check is a sentence on the first Task, never a refusal.
//!
//! The criteria are those of "Let's Live Well in Rushcliffe, The Model": 18 years or above; living in Rushcliffe or
//! registered with a GP there; one or more long-term conditions, or isolated, lonely or anxious about going out; carers
//! included. "Referrals from anywhere and anyone, nobody turned away."

use chrono::{Datelike, NaiveDate};

use super::Plan;
use crate::fhir::Resource;

/// Something for the person who makes the first contact to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A code of the referral-flag system.
    pub code: &'static str,
    /// A sentence without patient data.
    pub text: String,
}

/// What is known of the person when the referral arrives.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// `Patient.birthDate` as sent: a year, a month or a day.
    pub birth_date: Option<&'a str>,
    /// What is known of their practice.
    pub practice: Practice,
    /// Whether the referral says why, see [`states_a_reason`].
    pub reason_stated: bool,
}

/// What is known of the practice a person is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Practice {
    /// It belongs to one of our localities.
    Local,
    /// It is known, and no locality is known for it.
    Elsewhere,
    /// Nobody said which it is.
    Unknown,
}

/// What to check before or at the first contact, on the day `today`.
pub fn assess(plan: &Plan, person: &Person<'_>, today: NaiveDate) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |code, text: &str| checks.push(Check { code, text: text.to_owned() });
    if let Some(min_age) = plan.min_age() {
        match person.birth_date.and_then(birth_range) {
            None => check("birth-date-unknown", "The birth date is not known. Ask for it."),
            Some((earliest, _)) if age(earliest, today) < min_age => check(
                "not-eligible-age",
                &format!(
                    "The person is under {min_age}. Contact them, and signpost or advise where the service does not fit."
                ),
            ),
            Some((_, latest)) if age(latest, today) < min_age => {
                check("birth-date-unknown", &format!("The person may be under {min_age}. Ask for the birth date."));
            }
            Some(_) => {}
        }
    }
    match person.practice {
        Practice::Local => {}
        Practice::Elsewhere => check(
            "practice-not-in-area",
            "No locality is known for the person's practice. Ask whether they live in the area, and signpost or advise where not.",
        ),
        Practice::Unknown => check("no-practice", "The person's practice is not known. Ask where they are registered."),
    }
    if !person.reason_stated {
        check("no-reason-stated", "No condition or reason is stated. Ask what the person would like help with.");
    }
    checks
}

/// Whether a ServiceRequest says why: a reason, a note, or supporting information.
pub fn states_a_reason(request: &Resource) -> bool {
    ["reasonCode", "reasonReference", "note", "supportingInfo"].into_iter().any(|field| !request.all(field).is_empty())
}

/// The first and last day that a FHIR date can mean.
fn birth_range(date: &str) -> Option<(NaiveDate, NaiveDate)> {
    let day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    match date.len() {
        10 => day(date).map(|exact| (exact, exact)),
        7 => {
            let first = day(&format!("{date}-01"))?;
            Some((first, first.checked_add_months(chrono::Months::new(1))?.pred_opt()?))
        }
        4 => Some((day(&format!("{date}-01-01"))?, day(&format!("{date}-12-31"))?)),
        _ => None,
    }
}

/// Completed years; someone born on 29 February is a year older on 1 March of other years.
fn age(born: NaiveDate, today: NaiveDate) -> u32 {
    let had_birthday = (today.month(), today.day()) >= (born.month(), born.day());
    let years = today.year() - born.year() - i32::from(!had_birthday);
    u32::try_from(years).unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fhir::profiles;

    fn codes(birth_date: Option<&str>, practice: Practice, reason_stated: bool) -> Vec<&'static str> {
        let plan = Plan::from_resource(&profiles::resource("PlanDefinition", "llwir").unwrap()).unwrap();
        let today = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let checks = assess(&plan, &Person { birth_date, practice, reason_stated }, today);
        checks.into_iter().map(|check| check.code).collect()
    }

    #[test]
    fn an_adult_of_the_area_with_a_reason_needs_no_check() {
        assert!(codes(Some("1950-06-01"), Practice::Local, true).is_empty());
    }

    #[test]
    fn eighteen_is_counted_to_the_day() {
        let local = |date| codes(Some(date), Practice::Local, true);
        assert!(local("2008-03-01").is_empty());
        assert_eq!(local("2008-03-02"), ["not-eligible-age"]);
        assert!(local("2008-02-29").is_empty());
    }

    #[test]
    fn a_partial_birth_date_flags_what_is_certain_and_asks_about_the_rest() {
        let local = |date| codes(Some(date), Practice::Local, true);
        assert!(local("2007").is_empty());
        assert_eq!(local("2008"), ["birth-date-unknown"]);
        assert_eq!(local("2009"), ["not-eligible-age"]);
        assert!(local("2008-02").is_empty());
        assert_eq!(local("2008-03"), ["birth-date-unknown"]);
        assert_eq!(local("2008-04"), ["not-eligible-age"]);
        assert_eq!(local("2027-01-01"), ["not-eligible-age"]);
    }

    #[test]
    fn what_is_not_known_is_asked_for() {
        assert_eq!(codes(None, Practice::Unknown, false), ["birth-date-unknown", "no-practice", "no-reason-stated"]);
        assert_eq!(codes(Some("soon"), Practice::Elsewhere, true), ["birth-date-unknown", "practice-not-in-area"]);
        assert_eq!(codes(Some("１９９０"), Practice::Local, true), ["birth-date-unknown"]);
    }

    #[test]
    fn every_check_is_a_code_of_the_flag_system_and_says_nothing_of_the_person() {
        let flags = profiles::resource("CodeSystem", "referral-flag").unwrap();
        let known: Vec<_> =
            flags.all("concept.code").into_iter().filter_map(|c| c.as_str().map(str::to_owned)).collect();
        for code in
            ["not-eligible-age", "birth-date-unknown", "practice-not-in-area", "no-practice", "no-reason-stated"]
        {
            assert!(known.iter().any(|k| k == code), "{code}");
        }
    }

    #[test]
    fn a_reason_is_a_reason_however_it_is_given() {
        let request = |fields| Resource::from_value(fields).unwrap();
        assert!(!states_a_reason(&request(json!({ "resourceType": "ServiceRequest" }))));
        assert!(states_a_reason(&request(
            json!({ "resourceType": "ServiceRequest", "reasonCode": [{ "text": "lonely" }] })
        )));
        assert!(states_a_reason(&request(json!({ "resourceType": "ServiceRequest", "note": [{ "text": "lonely" }] }))));
    }
}
