//! R4's invariants that only ask which elements are there, as a table: decided from the bits the walk has set anyway.

use super::tables::Type;

/// How elements of one object depend on each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// At least one of them.
    AnyOf,
    /// One of them and no other.
    ExactlyOne,
    /// Not more than one of them.
    AtMostOne,
    /// All or none.
    Together,
    /// The first needs the last.
    Needs,
}
use Form::{AnyOf, AtMostOne, ExactlyOne, Needs, Together};

/// Type, key of the constraint in R4, form, elements (choices without `[x]`).
type Said = (&'static str, &'static str, Form, &'static [&'static str]);

const RULES: &[Said] = &[
    ("Age", "age-1", Needs, &["value", "code"]),
    ("Appointment", "app-2", Together, &["start", "end"]),
    ("Appointment.participant", "app-1", AnyOf, &["type", "actor"]),
    ("AppointmentResponse", "apr-1", AnyOf, &["participantType", "actor"]),
    ("Attachment", "att-1", Needs, &["data", "contentType"]),
    ("AuditEvent.entity", "sev-1", AtMostOne, &["name", "query"]),
    ("Bundle.entry", "bdl-5", AnyOf, &["resource", "request", "response"]),
    ("CapabilityStatement", "cpb-1", AnyOf, &["rest", "messaging", "document"]),
    ("CapabilityStatement", "cpb-2", AnyOf, &["description", "software", "implementation"]),
    ("CarePlan.activity", "cpl-3", AtMostOne, &["detail", "reference"]),
    ("Composition.section", "cmp-1", AnyOf, &["text", "entry", "section"]),
    ("Composition.section", "cmp-2", AtMostOne, &["emptyReason", "entry"]),
    ("Condition.evidence", "con-2", AnyOf, &["code", "detail"]),
    ("Condition.stage", "con-1", AnyOf, &["summary", "assessment"]),
    ("Consent", "ppc-1", AnyOf, &["policy", "policyRule"]),
    ("ContactPoint", "cpt-2", Needs, &["value", "system"]),
    ("Count", "cnt-3", Needs, &["value", "code"]),
    ("DataRequirement.codeFilter", "drq-1", ExactlyOne, &["path", "searchParam"]),
    ("DataRequirement.dateFilter", "drq-2", ExactlyOne, &["path", "searchParam"]),
    ("Distance", "dis-1", Needs, &["value", "code"]),
    ("Duration", "drt-1", Needs, &["code", "value"]),
    ("ElementDefinition.slicing", "eld-1", AnyOf, &["discriminator", "description"]),
    ("Expression", "exp-1", AnyOf, &["expression", "reference"]),
    ("Extension", "ext-1", ExactlyOne, &["value", "extension"]),
    ("FamilyMemberHistory", "fhs-1", AtMostOne, &["age", "born"]),
    ("FamilyMemberHistory", "fhs-2", Needs, &["estimatedAge", "age"]),
    ("Goal.target", "gol-1", Needs, &["detail", "measure"]),
    ("Immunization.education", "imm-1", AnyOf, &["documentType", "reference"]),
    ("ImmunizationRecommendation.recommendation", "imr-1", AnyOf, &["vaccineCode", "targetDisease"]),
    ("InsurancePlan", "ipn-1", AnyOf, &["identifier", "name"]),
    ("List", "lst-1", AtMostOne, &["emptyReason", "entry"]),
    ("MedicationAdministration.dosage", "mad-1", AnyOf, &["dose", "rate"]),
    ("MolecularSequence.referenceSeq", "msq-5", Together, &["chromosome", "genomeBuild"]),
    ("Observation", "obs-6", AtMostOne, &["dataAbsentReason", "value"]),
    ("Observation.referenceRange", "obs-3", AnyOf, &["low", "high", "text"]),
    ("OperationDefinition.parameter", "opd-1", AnyOf, &["type", "part"]),
    ("Organization", "org-1", AnyOf, &["identifier", "name"]),
    ("Parameters.parameter", "inv-1", ExactlyOne, &["value", "resource", "part"]),
    ("Patient.contact", "pat-1", AnyOf, &["name", "telecom", "address", "organization"]),
    ("Quantity", "qty-3", Needs, &["code", "system"]),
    ("Questionnaire.item", "que-11", AtMostOne, &["answerOption", "initial"]),
    ("Questionnaire.item", "que-4", AtMostOne, &["answerOption", "answerValueSet"]),
    ("QuestionnaireResponse.item", "qrs-1", AtMostOne, &["answer", "item"]),
    ("Ratio", "rat-1", Together, &["numerator", "denominator"]),
    ("Ratio", "rat-1", AnyOf, &["numerator", "extension"]),
    ("RequestGroup.action", "rqg-1", ExactlyOne, &["resource", "action"]),
    ("SearchParameter", "spd-1", Needs, &["xpath", "xpathUsage"]),
    ("ServiceRequest", "prr-1", Needs, &["orderDetail", "code"]),
    ("StructureDefinition", "sdf-6", AnyOf, &["snapshot", "differential"]),
    ("StructureDefinition.mapping", "sdf-2", AnyOf, &["name", "uri"]),
    ("Timing.repeat", "tim-1", Needs, &["duration", "durationUnit"]),
    ("Timing.repeat", "tim-10", AtMostOne, &["timeOfDay", "when"]),
    ("Timing.repeat", "tim-2", Needs, &["period", "periodUnit"]),
    ("Timing.repeat", "tim-6", Needs, &["periodMax", "period"]),
    ("Timing.repeat", "tim-7", Needs, &["durationMax", "duration"]),
    ("Timing.repeat", "tim-8", Needs, &["countMax", "count"]),
    ("Timing.repeat", "tim-9", Needs, &["offset", "when"]),
    ("TriggerDefinition", "trd-1", AtMostOne, &["data", "timing"]),
    ("TriggerDefinition", "trd-2", Needs, &["condition", "data"]),
    ("ValueSet.compose.include", "vsd-1", AnyOf, &["valueSet", "system"]),
    ("ValueSet.compose.include", "vsd-2", Needs, &["concept", "system"]),
    ("ValueSet.compose.include", "vsd-2", Needs, &["filter", "system"]),
    ("ValueSet.compose.include", "vsd-3", AtMostOne, &["concept", "filter"]),
    ("ValueSet.expansion.contains", "vsd-10", Needs, &["code", "system"]),
    ("ValueSet.expansion.contains", "vsd-6", AnyOf, &["code", "display"]),
];

/// One rule of the table, for one type.
pub(super) struct PresenceRule {
    key: &'static str,
    form: Form,
    names: &'static [&'static str],
    bits: u64,
    /// The bits of the first and the last element.
    ends: (u64, u64),
}

/// The rules of a type; a specialised datatype (Age of Quantity) has those of its base too.
pub(super) fn rules_of(of: &Type, base: &str) -> Vec<PresenceRule> {
    let said = RULES.iter().filter(|(name, ..)| *name == of.name || (*name == base && base == "Quantity"));
    said.map(|(_, key, form, names)| {
        let bits = names.iter().map(|name| of.bit(name)).fold(0, |all, bit| all | bit);
        let end = |name: Option<&&str>| name.map_or(0, |name| of.bit(name));
        PresenceRule { key, form: *form, names, bits, ends: (end(names.first()), end(names.last())) }
    })
    .collect()
}

impl PresenceRule {
    /// Why the elements that are there break the rule, if they do.
    pub(super) fn broken_by(&self, seen: u64) -> Option<String> {
        let there = (seen & self.bits).count_ones();
        let names = self.names.join(", ");
        let says = match self.form {
            AnyOf if there == 0 => format!("at least one of {names} is needed"),
            ExactlyOne if there != 1 => format!("exactly one of {names} is needed"),
            AtMostOne if there > 1 => format!("only one of {names} is allowed"),
            Together if there != 0 && there != self.bits.count_ones() => format!("{names} come together or not at all"),
            Needs if seen & self.ends.0 != 0 && seen & self.ends.1 == 0 => match self.names {
                [first, .., last] => format!("{first} needs {last}"),
                _ => return None,
            },
            _ => return None,
        };
        Some(format!("R4 rule {}: {says}.", self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::tables;
    use super::*;

    #[test]
    fn every_rule_names_a_type_and_elements_of_r4() {
        for (name, key, _, elements) in RULES {
            let of = tables().named(name).unwrap_or_else(|| panic!("{key}: no type {name}"));
            for element in *elements {
                assert_ne!(of.bit(element), 0, "{key}: {name} has no {element}");
            }
        }
    }
}
