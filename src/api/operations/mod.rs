//! FHIR operations: which there are, where each is called, and what it takes.
//!
//! One table: the doors read their parameters by it, and `/fhir/metadata` and `/openapi.json` say what it says.

pub(super) mod code_systems;
pub(super) mod concept_maps;
mod definitions;
pub(super) mod everything;
pub(super) mod inputs;
pub(super) mod meta;
pub(super) mod validate;
pub(super) mod value_sets;

/// An operation that is served.
pub(super) struct Operation {
    /// Without `$`.
    pub name: &'static str,
    /// The types it is for; none: every type that is served.
    pub on: &'static [&'static str],
    /// Called on the whole: `/fhir/$name`.
    pub on_system: bool,
    /// Called on a type: `/fhir/Type/$name`.
    pub on_type: bool,
    /// Called on one resource: `/fhir/Type/id/$name`.
    pub on_instance: bool,
    /// Changes something, so it is POSTed only.
    pub changes: bool,
    /// The canonical of its OperationDefinition.
    pub definition: &'static str,
    /// Its parameters, each with its FHIR type.
    pub takes: &'static [(&'static str, &'static str)],
}

impl Operation {
    /// Whether it is called on this type or its resources.
    pub(super) fn is_on(&self, kind: &str) -> bool {
        self.on.is_empty() || self.on.contains(&kind)
    }

    /// The parameters that fit into a URL: those of a simple type.
    pub(super) fn simple(&self) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        self.takes.iter().filter(|(_, kind)| kind.starts_with(|c: char| c.is_ascii_lowercase()))
    }

    /// Where it is called, how, and with what, in a sentence.
    pub(super) fn documentation(&self) -> String {
        let place = match (self.on_system, self.on_type, self.on_instance) {
            (true, ..) => "On all, on the type or on one resource",
            (_, true, true) => "On the type or on one resource",
            (_, true, false) => "On the type",
            (_, false, _) => "On one resource",
        };
        let methods = if self.changes { "POST" } else { "GET or POST" };
        let takes: Vec<&str> = self.takes.iter().map(|(name, _)| *name).collect();
        let takes = if takes.is_empty() { "no parameters".to_owned() } else { takes.join(", ") };
        format!("{place}, by {methods}. Takes {takes}.")
    }
}

/// Every operation.
pub(super) const ALL: [&Operation; 20] = [
    &CLAIM_NEXT,
    &CLAIM,
    &RELEASE,
    &COMPLETE,
    &STATUS,
    &DELIVERIES,
    &VALIDATE,
    &META,
    &META_ADD,
    &META_DELETE,
    &EVERYTHING,
    &EXPAND,
    &VALIDATE_IN_VALUE_SET,
    &VALIDATE_IN_CODE_SYSTEM,
    &LOOKUP,
    &SUBSUMES,
    &TRANSLATE,
    &SUBSCRIPTION_STATUS,
    &EVENTS,
    &NEW_SECRET,
];

pub(super) const CLAIM_NEXT: Operation = Operation {
    name: "claim-next",
    on: &["Task"],
    on_system: false,
    on_type: true,
    on_instance: false,
    changes: true,
    definition: "https://livewell.example/OperationDefinition/Task-claim-next",
    takes: &[("role", "code"), ("location", "Reference"), ("practice", "code")],
};

pub(super) const CLAIM: Operation = Operation {
    name: "claim",
    on: &["Task"],
    on_system: false,
    on_type: false,
    on_instance: true,
    changes: true,
    definition: "https://livewell.example/OperationDefinition/Task-claim",
    takes: &[],
};

pub(super) const RELEASE: Operation =
    Operation { name: "release", definition: "https://livewell.example/OperationDefinition/Task-release", ..CLAIM };

pub(super) const COMPLETE: Operation = Operation {
    name: "complete",
    definition: "https://livewell.example/OperationDefinition/Task-complete",
    takes: &[("outcome", "code"), ("output", "Reference"), ("note", "string")],
    ..CLAIM
};

pub(super) const STATUS: Operation = Operation {
    name: "status",
    on: &["ServiceRequest"],
    on_system: false,
    on_type: false,
    on_instance: true,
    changes: false,
    definition: "https://livewell.example/OperationDefinition/ServiceRequest-status",
    takes: &[],
};

pub(super) const DELIVERIES: Operation = Operation {
    name: "deliveries",
    definition: "https://livewell.example/OperationDefinition/ServiceRequest-deliveries",
    ..STATUS
};

/// <https://hl7.org/fhir/R4/resource-operation-validate.html>
pub(super) const VALIDATE: Operation = Operation {
    name: "validate",
    on: &[],
    on_system: false,
    on_type: true,
    on_instance: true,
    changes: false,
    definition: "http://hl7.org/fhir/OperationDefinition/Resource-validate",
    takes: &[("resource", "Resource"), ("mode", "code"), ("profile", "uri")],
};

/// <https://hl7.org/fhir/R4/resource-operation-meta.html>
pub(super) const META: Operation = Operation {
    name: "meta",
    on: &[],
    on_system: true,
    on_type: true,
    on_instance: true,
    changes: false,
    definition: "http://hl7.org/fhir/OperationDefinition/Resource-meta",
    takes: &[],
};

/// <https://hl7.org/fhir/R4/resource-operation-meta-add.html>
pub(super) const META_ADD: Operation = Operation {
    name: "meta-add",
    on_system: false,
    on_type: false,
    changes: true,
    definition: "http://hl7.org/fhir/OperationDefinition/Resource-meta-add",
    takes: &[("meta", "Meta")],
    ..META
};

/// <https://hl7.org/fhir/R4/resource-operation-meta-delete.html>
pub(super) const META_DELETE: Operation = Operation {
    name: "meta-delete",
    definition: "http://hl7.org/fhir/OperationDefinition/Resource-meta-delete",
    ..META_ADD
};

/// <https://hl7.org/fhir/R4/patient-operation-everything.html>
pub(super) const EVERYTHING: Operation = Operation {
    name: "everything",
    on: &["Patient"],
    on_system: false,
    on_type: false,
    on_instance: true,
    changes: false,
    definition: "http://hl7.org/fhir/OperationDefinition/Patient-everything",
    takes: &[
        ("start", "date"),
        ("end", "date"),
        ("_since", "instant"),
        ("_type", "code"),
        ("_count", "integer"),
        ("_page", "string"),
    ],
};

/// <https://hl7.org/fhir/R4/valueset-operation-expand.html>
pub(super) const EXPAND: Operation = Operation {
    name: "expand",
    on: &["ValueSet"],
    on_system: false,
    on_type: true,
    on_instance: true,
    changes: false,
    definition: "http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    takes: &[
        ("url", "uri"),
        ("valueSet", "ValueSet"),
        ("valueSetVersion", "string"),
        ("filter", "string"),
        ("offset", "integer"),
        ("count", "integer"),
        ("activeOnly", "boolean"),
        ("includeDesignations", "boolean"),
    ],
};

/// <https://hl7.org/fhir/R4/valueset-operation-validate-code.html>
pub(super) const VALIDATE_IN_VALUE_SET: Operation = Operation {
    name: "validate-code",
    definition: "http://hl7.org/fhir/OperationDefinition/ValueSet-validate-code",
    takes: &[
        ("url", "uri"),
        ("valueSet", "ValueSet"),
        ("valueSetVersion", "string"),
        ("code", "code"),
        ("system", "uri"),
        ("display", "string"),
        ("coding", "Coding"),
        ("codeableConcept", "CodeableConcept"),
    ],
    ..EXPAND
};

/// <https://hl7.org/fhir/R4/codesystem-operation-validate-code.html>
pub(super) const VALIDATE_IN_CODE_SYSTEM: Operation = Operation {
    name: "validate-code",
    on: &["CodeSystem"],
    definition: "http://hl7.org/fhir/OperationDefinition/CodeSystem-validate-code",
    takes: &[
        ("url", "uri"),
        ("version", "string"),
        ("code", "code"),
        ("display", "string"),
        ("coding", "Coding"),
        ("codeableConcept", "CodeableConcept"),
    ],
    ..EXPAND
};

/// <https://hl7.org/fhir/R4/codesystem-operation-lookup.html>
pub(super) const LOOKUP: Operation = Operation {
    name: "lookup",
    on_instance: false,
    definition: "http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
    takes: &[("code", "code"), ("system", "uri"), ("version", "string"), ("coding", "Coding"), ("property", "code")],
    ..VALIDATE_IN_CODE_SYSTEM
};

/// <https://hl7.org/fhir/R4/codesystem-operation-subsumes.html>
pub(super) const SUBSUMES: Operation = Operation {
    name: "subsumes",
    definition: "http://hl7.org/fhir/OperationDefinition/CodeSystem-subsumes",
    takes: &[
        ("codeA", "code"),
        ("codeB", "code"),
        ("system", "uri"),
        ("version", "string"),
        ("codingA", "Coding"),
        ("codingB", "Coding"),
    ],
    ..VALIDATE_IN_CODE_SYSTEM
};

/// <https://hl7.org/fhir/R4/conceptmap-operation-translate.html>
pub(super) const TRANSLATE: Operation = Operation {
    name: "translate",
    on: &["ConceptMap"],
    definition: "http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
    takes: &[
        ("url", "uri"),
        ("code", "code"),
        ("system", "uri"),
        ("source", "uri"),
        ("coding", "Coding"),
        ("codeableConcept", "CodeableConcept"),
        ("target", "uri"),
        ("targetsystem", "uri"),
        ("reverse", "boolean"),
    ],
    ..EXPAND
};

/// <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html>
pub(super) const SUBSCRIPTION_STATUS: Operation = Operation {
    name: "status",
    on: &["Subscription"],
    on_system: false,
    on_type: true,
    on_instance: true,
    changes: false,
    definition: "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
    takes: &[("id", "id"), ("status", "code")],
};

/// <https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html>
pub(super) const EVENTS: Operation = Operation {
    name: "events",
    on_type: false,
    definition: "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-events",
    takes: &[("eventsSinceNumber", "string"), ("eventsUntilNumber", "string"), ("content", "code")],
    ..SUBSCRIPTION_STATUS
};

pub(super) const NEW_SECRET: Operation = Operation {
    name: "new-secret",
    on_type: false,
    changes: true,
    definition: "https://livewell.example/OperationDefinition/Subscription-new-secret",
    takes: &[],
    ..SUBSCRIPTION_STATUS
};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fhir::profiles;

    #[test]
    fn an_operation_of_ours_is_what_its_definition_says() {
        let ours: Vec<_> = profiles::resources().into_iter().filter(|r| r.kind() == "OperationDefinition").collect();
        for definition in &ours {
            let of_table = ALL.iter().find(|o| Some(o.definition) == definition.text("url")).unwrap();
            let said = definition.value();
            assert_eq!(definition.text("code"), Some(of_table.name));
            assert_eq!(definition.all("resource"), of_table.on, "{}", of_table.name);
            let flags = ["system", "type", "instance", "affectsState"].map(|name| said[name] == true);
            assert_eq!(
                flags,
                [of_table.on_system, of_table.on_type, of_table.on_instance, of_table.changes],
                "{}",
                of_table.name
            );
            let takes = definition.all("parameter").into_iter().filter(|p| p["use"] == "in");
            let takes: Vec<_> = takes.map(|p| (p["name"].as_str().unwrap(), p["type"].as_str().unwrap())).collect();
            assert_eq!(takes, of_table.takes, "{}", of_table.name);
        }
        let in_table = ALL.iter().filter(|o| o.definition.starts_with("https://livewell.example/")).count();
        assert_eq!(ours.len(), in_table);
    }
}
