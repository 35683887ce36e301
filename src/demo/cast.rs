//! Who plays in the demo: invented people, the practices that refer them, and the clients all of them call with.

use super::directory::{Directory, DirectoryUnfit, Locality, Practice, Staff};
use super::keys::DemoKey;
use super::practice::{PatientSeed, PracticeSeed};

/// What a practice's system may do: refer, and see what came of it.
const PRACTICE_SCOPE: &str = "system/ServiceRequest.cruds system/Patient.cruds system/Condition.cruds system/Task.rs \
                              system/Encounter.rs system/Observation.rs";
/// What a coach's system may do: work the queue and record.
const COACH_SCOPE: &str = "system/Task.cruds system/ServiceRequest.rs system/Patient.rs system/Encounter.cruds \
                           system/Observation.cruds system/Goal.cruds system/Consent.cruds";

/// A system that calls the service, to be registered before the demo begins (`livewell client add`).
#[derive(Debug)]
pub struct DemoClient {
    /// `client_id` at the token endpoint.
    pub id: String,
    /// ODS code of the organisation it belongs to.
    pub organization: String,
    /// The scopes it may have, separated by spaces.
    pub scope: String,
    /// The member of staff it is, where it is one: `PractitionerRole/coach-north`.
    pub staff: Option<String>,
    /// What it signs its assertions with.
    pub key: DemoKey,
}

/// How a referral comes in at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A transaction Bundle with the Patient and a Condition.
    Transaction,
    /// A ServiceRequest alone, its Patient contained.
    Contained,
    /// A ServiceRequest alone, its subject by NHS number.
    ByNumber,
}

/// A person referred by a practice.
#[derive(Debug)]
pub struct Sample {
    pub practice: Practice,
    pub client: DemoClient,
    pub person: PatientSeed,
    /// `https://livewell.example/CodeSystem/entry-route`.
    pub route: &'static str,
    /// `http://hl7.org/fhir/request-priority`.
    pub priority: &'static str,
    pub door: Door,
    pub reason: &'static str,
}

/// The health coach who works the referral that is walked.
#[derive(Debug)]
pub struct Coach {
    pub staff: Staff,
    pub locality: Locality,
    pub client: DemoClient,
}

/// Everybody.
#[derive(Debug)]
pub struct Cast {
    /// The referral that is walked through.
    pub walked: Sample,
    /// The ones that wait in the queue meanwhile.
    pub waiting: Vec<Sample>,
    pub coach: Coach,
}

/// NHS number (test range), family, given, birth date, gender, route, priority, door, reason.
type Part = ([&'static str; 7], Door, &'static str);

/// The first practice with a locality has the first part, and so on.
const PARTS: [Part; 4] = [
    (
        ["9990000018", "Testperson", "Ada", "1957-03-04", "female", "ltc-review", "routine"],
        Door::Transaction,
        "Lives with COPD and diabetes; goes out less and less.",
    ),
    (
        ["9990000026", "Samplesson", "Bert", "1949-11-21", "male", "consultation", "urgent"],
        Door::Contained,
        "Recently bereaved, very anxious about leaving the house.",
    ),
    (
        ["9990000034", "Examplewright", "Cleo", "1982-07-15", "female", "self", "routine"],
        Door::ByNumber,
        "Asked for help to become more active.",
    ),
    (
        ["9990000042", "Trialworth", "Dan", "1971-01-30", "male", "carer", "routine"],
        Door::Contained,
        "Cares for his mother and sees nobody else.",
    ),
];

impl Cast {
    /// Gives the parts to the practices of the directory, those with a locality first, and makes everybody's keys.
    pub fn from(directory: &Directory) -> Result<Cast, DirectoryUnfit> {
        let (mut practices, without): (Vec<_>, Vec<_>) =
            directory.practices()?.into_iter().partition(|practice| practice.locality.is_some());
        let locality = practices.first().and_then(|practice| practice.locality.clone());
        let locality = locality.ok_or(DirectoryUnfit::Lacks("practice with a locality"))?;
        practices.extend(without);
        let mut samples = practices.into_iter().zip(PARTS).map(|(practice, part)| sample(practice, part));
        let walked = samples.next().ok_or(DirectoryUnfit::Lacks("practice"))?;
        let staff = directory.staff("health-coach", &locality)?;
        let client = DemoClient {
            id: "demo-coach".to_owned(),
            organization: directory.live_well()?,
            scope: COACH_SCOPE.to_owned(),
            staff: Some(staff.reference.clone()),
            key: DemoKey::generate("demo-coach-1"),
        };
        Ok(Cast { walked, waiting: samples.collect(), coach: Coach { staff, locality, client } })
    }

    /// Every client, to be registered.
    pub fn clients(&self) -> impl Iterator<Item = &DemoClient> {
        let practices = std::iter::once(&self.walked).chain(&self.waiting).map(|sample| &sample.client);
        practices.chain(std::iter::once(&self.coach.client))
    }

    /// What the stand-in practice system knows before the story begins: each practice and its person.
    pub fn seeds(&self) -> Vec<PracticeSeed> {
        let samples = std::iter::once(&self.walked).chain(&self.waiting);
        let seed = |s: &Sample| PracticeSeed { ods: s.practice.ods.clone(), patients: vec![s.person.clone()] };
        samples.map(seed).collect()
    }
}

fn sample(practice: Practice, part: Part) -> Sample {
    let ([nhs_number, family, given, birth_date, gender, route, priority], door, reason) = part;
    let id = format!("demo-{}", practice.ods.to_lowercase());
    let client = DemoClient {
        key: DemoKey::generate(format!("{id}-1")),
        id,
        organization: practice.ods.clone(),
        scope: PRACTICE_SCOPE.to_owned(),
        staff: None,
    };
    let person = PatientSeed {
        nhs_number: nhs_number.to_owned(),
        family: family.to_owned(),
        given: given.to_owned(),
        birth_date: birth_date.to_owned(),
        gender: gender.to_owned(),
    };
    Sample { practice, client, person, route, priority, door, reason }
}
