//! What a submission is going to ask first, read before its unit of work begins: on SQLite writers take turns, and on
//! PostgreSQL each question in a transaction is a round trip.
//!
//! That somebody is not there yet can be built on: unique keys guard it, so a unit that was overtaken fails as a lost race
//! and the act is done again. So can that nobody listens: who subscribes meanwhile hears of what comes after. What is
//! there is read again in the unit, where nobody changes it meanwhile.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::fhir::nhs_number::NhsNumber;
use crate::fhir::systems::{NHS_NUMBER, ODS};
use crate::fhir::{Resource, path};
use crate::pathway::identity::ods_code;
use crate::store::{PersonRow, Practice, Questions, ReferralRow, Store};

use super::refer::business_identifiers;
use super::{Actor, Ask, House, Result, Submission, Unit};

/// Questions of one submission that are asked ahead at most; a larger one asks as it goes.
const MOST: usize = 40;

/// What is known before a unit begins.
#[derive(Default)]
pub(super) struct Ahead {
    /// NHS numbers that nobody has.
    people: HashSet<String>,
    /// Business identifiers under which the caller sent no referral.
    referrals: HashSet<(String, String)>,
    /// Practices by ODS code; `None` where the directory has none.
    pub(super) practices: HashMap<String, Option<Practice>>,
    /// The spells that this unit begins, by person.
    pub(super) spells: HashMap<String, String>,
    /// No subscription listened.
    pub(super) unheard: bool,
}

impl Ahead {
    /// Looks up what these requests are going to ask.
    pub(super) async fn of(
        store: &Store,
        house: &House,
        actor: &Actor,
        now: DateTime<Utc>,
        submission: &Submission,
    ) -> Result<Ahead> {
        let mut questions = Questions {
            sender: actor.organization.clone(),
            ours: house.organization(),
            now: now.into(),
            listened: true,
            ..Questions::default()
        };
        for entry in &submission.entries {
            if let Ask::Create(resource) = &entry.ask {
                asks(resource, house, &mut questions);
            }
        }
        if questions.is_empty() || questions.len() > MOST {
            return Ok(Ahead::default());
        }
        let mut found = store.look().await?.found(&questions).await?;
        let Questions { referrals, people, practices, .. } = questions;
        Ok(Ahead {
            people: people.into_iter().filter(|number| !found.people.contains(number)).collect(),
            referrals: referrals.into_iter().filter(|identifier| !found.referrals.contains(identifier)).collect(),
            practices: practices
                .into_iter()
                .map(|ods| {
                    let practice = found.practices.remove(&ods);
                    (ods, practice)
                })
                .collect(),
            spells: HashMap::new(),
            unheard: !found.listened,
        })
    }
}

/// What a new resource is going to ask.
fn asks(resource: &Resource, house: &House, questions: &mut Questions) {
    let people: Vec<Resource> = match resource.kind() {
        "Patient" => vec![resource.clone()],
        "ServiceRequest" => {
            questions.referrals.extend(business_identifiers(resource));
            questions.practices.insert(questions.sender.clone());
            let contained = resource.all("contained").into_iter().filter_map(|c| Resource::from_value(c.clone()).ok());
            let named = number(resource.value().get("subject").and_then(|subject| subject.get("identifier")), house);
            questions.people.extend(named);
            contained.filter(|c| c.kind() == "Patient").collect()
        }
        _ => return,
    };
    for person in people {
        questions.people.extend(person.all("identifier").into_iter().filter_map(|i| number(Some(i), house)));
        let practice = person.all("generalPractitioner").into_iter().find_map(|reference| {
            (path::text(reference, "identifier.system") == Some(ODS))
                .then(|| path::text(reference, "identifier.value"))
                .flatten()
        });
        questions.practices.extend(practice.map(ods_code));
    }
}

/// The NHS number in an identifier, as it is looked for.
fn number(identifier: Option<&serde_json::Value>, house: &House) -> Option<String> {
    let identifier = identifier.filter(|i| path::text(i, "system") == Some(NHS_NUMBER))?;
    let number = NhsNumber::parse_as(path::text(identifier, "value")?, house.nhs_numbers).ok()?;
    Some(number.as_str().to_owned())
}

impl Unit<'_> {
    /// The person with this NHS number.
    pub(super) async fn person_by_nhs_number(&mut self, number: &str) -> Result<Option<PersonRow>> {
        if self.ahead.people.contains(number) {
            return Ok(None);
        }
        Ok(self.tx.person_by_nhs_number(number).await?)
    }

    /// A new person.
    pub(super) async fn insert_person(&mut self, person: &PersonRow) -> Result<()> {
        self.ahead.people.clear();
        Ok(self.tx.insert_person(person).await?)
    }

    /// Changes what is known of a person.
    pub(super) async fn update_person(&mut self, person: &PersonRow) -> Result<()> {
        self.ahead.people.clear();
        Ok(self.tx.update_person(person).await?)
    }

    /// The referral that the caller sent under one of these business identifiers.
    pub(super) async fn referral_by_identifier(
        &mut self,
        identifiers: &[(String, String)],
    ) -> Result<Option<ReferralRow>> {
        if identifiers.iter().all(|identifier| self.ahead.referrals.contains(identifier)) {
            return Ok(None);
        }
        Ok(self.tx.referral_by_identifier(&self.actor.organization, identifiers).await?)
    }

    /// A new referral with its business identifiers.
    pub(super) async fn insert_referral(
        &mut self,
        referral: &ReferralRow,
        identifiers: &[(String, String)],
    ) -> Result<()> {
        self.ahead.referrals.clear();
        Ok(self.tx.insert_referral(referral, identifiers).await?)
    }

    /// Further business identifiers of a referral; those it has stay.
    pub(super) async fn insert_identifiers(
        &mut self,
        referral: &ReferralRow,
        identifiers: &[(String, String)],
    ) -> Result<()> {
        self.ahead.referrals.clear();
        Ok(self.tx.insert_referral_identifiers(&referral.sender, &referral.id, identifiers).await?)
    }
}
