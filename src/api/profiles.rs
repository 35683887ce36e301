//! Which profiles a resource is checked against when it is sent, and what becomes of one that breaks them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::ProfileMode;
use crate::config::Profiles as Settings;
use crate::fhir::check::Profiles;
use crate::fhir::{Invalid, InvalidKind, Issue, Resource, Severity, profiles};

/// The definitions at hand, and the settings that say what they are for.
pub struct ProfileChecks {
    pub known: Profiles,
    settings: Settings,
    /// The canonicals by which resources of a type are checked, whatever they claim.
    by_type: BTreeMap<String, Vec<String>>,
}

impl ProfileChecks {
    pub fn new(known: Profiles, settings: Settings) -> ProfileChecks {
        let ours = profiles::CHECKED.iter().map(|(kind, id)| ((*kind).to_owned(), vec![profiles::canonical(id)]));
        let mut by_type: BTreeMap<String, Vec<String>> = ours.collect();
        by_type.extend(settings.types.clone());
        ProfileChecks { known, settings, by_type }
    }

    /// The canonicals by which resources of this type are checked, whatever they claim.
    pub(super) fn of_type(&self, kind: &str) -> &[String] {
        self.by_type.get(kind).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a resource that this organisation (ODS) sends breaks: warnings, where it is taken all the same.
    ///
    /// # Errors
    /// It breaks a profile, and what this organisation sends is refused for that.
    pub(super) fn judge(&self, resource: &Resource, sender: &str, max: usize) -> Result<Vec<Issue>, Invalid> {
        let mode = self.settings.mode_for(sender);
        if mode == ProfileMode::Off {
            return Ok(Vec::new());
        }
        let mut issues = self.broken_by(resource, &[], max);
        if mode == ProfileMode::Reject && issues.iter().any(|issue| issue.severity == Severity::Error) {
            return Err(Invalid { issues, kind: InvalidKind::Unprocessable });
        }
        issues.iter_mut().for_each(|issue| issue.severity = Severity::Warning);
        Ok(issues)
    }

    /// What a resource, and each resource in it where it is a Bundle, breaks of the profiles of its type, of those it
    /// claims, and of `also`. Profiles nobody here knows say nothing.
    pub(super) fn broken_by(&self, resource: &Resource, also: &[&str], max: usize) -> Vec<Issue> {
        let mut issues = self.one(resource, also, max);
        let entries = resource.value().get("entry").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (at, entry) in entries.iter().enumerate().filter(|_| resource.kind() == "Bundle") {
            if issues.len() >= max {
                break;
            }
            if let Some(Ok(inner)) = entry.get("resource").map(|inner| Resource::from_value(inner.clone())) {
                let found = self.broken_by(&inner, &[], max - issues.len()).into_iter();
                issues.extend(found.map(|issue| issue.under(&format!("Bundle.entry[{at}].resource"))));
            }
        }
        issues
    }

    fn one(&self, resource: &Resource, also: &[&str], max: usize) -> Vec<Issue> {
        let claimed = resource.all("meta.profile").into_iter().filter_map(Value::as_str);
        let of_type = self.of_type(resource.kind()).iter().map(String::as_str);
        let mut canonicals: Vec<&str> = Vec::new();
        for canonical in claimed.chain(of_type).chain(also.iter().copied()) {
            if !canonicals.contains(&canonical) && self.known.knows(canonical) {
                canonicals.push(canonical);
            }
        }
        self.known.check_all(&canonicals, resource, max)
    }
}
