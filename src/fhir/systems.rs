//! The system URIs of identifiers and codes: what says whose number or word it is.

/// NHS number (UK Core Patient).
pub const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";
/// ODS code of an organisation (UK Core Organization).
pub const ODS: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
/// ODS code of a site (UK Core Organization).
pub const ODS_SITE: &str = "https://fhir.nhs.uk/Id/ods-site-code";
/// National job roles (CareConnect-SDSJobRoleName-1): health coach, link worker, co-ordinator.
pub const JOB_ROLE: &str = "https://fhir.nhs.uk/STU3/CodeSystem/CareConnect-SDSJobRoleName-1";
/// SNOMED CT.
pub const SNOMED: &str = "http://snomed.info/sct";
/// Units of measure.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// What a UsageContext is about: an age range, a programme, ...
pub const USAGE_CONTEXT: &str = "http://terminology.hl7.org/CodeSystem/usage-context-type";

/// The reference of a referral that a person can read out, e.g. `LW-7K3M-92QX`.
pub const REFERRAL_REFERENCE: &str = "https://livewell.example/Id/referral-reference";
/// Our identifier on every resource written into a practice's record.
pub const RECORD: &str = "https://livewell.example/Id/record";

/// What a person of Live Well does: `health-coach`, `link-worker`, ...
pub const ROLE: &str = "https://livewell.example/CodeSystem/role";
/// How a person came to be referred: `ServiceRequest.category`.
pub const ENTRY_ROUTE: &str = "https://livewell.example/CodeSystem/entry-route";
/// What a Task asks for: `Task.code`.
pub const TASK_CODE: &str = "https://livewell.example/CodeSystem/task-code";
/// What came of a Task.
pub const TASK_OUTCOME: &str = "https://livewell.example/CodeSystem/task-outcome";
/// What has to be recorded: `Task.input.type` and `Task.output.type`.
pub const TASK_INPUT: &str = "https://livewell.example/CodeSystem/task-input";
/// What to check about a referral or a record.
pub const REFERRAL_FLAG: &str = "https://livewell.example/CodeSystem/referral-flag";
/// Channels that HL7 has no connection type for: `mesh`.
pub const CONNECTION_TYPE: &str = "https://livewell.example/CodeSystem/connection-type";
/// What a message to or from a practice is about: `write-back`, `record-filed`, ...
pub const MESSAGE_EVENT: &str = "https://livewell.example/CodeSystem/message-event";
/// Where something that leaves the service is.
pub const DELIVERY_STATE: &str = "https://livewell.example/CodeSystem/delivery-state";
/// The word of the audit trail for what was done, beside what it is in FHIR: `$claim`, `delivery delivered`.
pub const AUDITED: &str = "https://livewell.example/CodeSystem/audited-interaction";
/// The ids of clients, as `livewell client add` gives them.
pub const CLIENT: &str = "https://livewell.example/Id/client";
/// Published PAM cut-offs, by variant.
pub const PAM_CUT_OFFS: &str = "https://livewell.example/CodeSystem/pam-cut-offs";
/// The canonical base of our StructureDefinitions and extensions.
pub const STRUCTURE_DEFINITION: &str = "https://livewell.example/StructureDefinition/";
