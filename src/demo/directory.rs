//! The demo directory: who takes part, read from the same FHIR Bundle that `livewell load` takes.

use serde_json::{Value, json};

use crate::fhir::path;
use crate::fhir::systems::ODS;

/// The directory as a transaction Bundle of PUTs, and what the demo has to know of it.
#[derive(Clone, Debug)]
pub struct Directory {
    bundle: Value,
}

/// A practice that refers to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Practice {
    /// ODS code, `TESTA1`.
    pub ods: String,
    pub name: String,
    /// Where its people are looked after; a practice without one has its work done by any health coach.
    pub locality: Option<Locality>,
}

/// A locality of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locality {
    /// `Location/north`.
    pub reference: String,
    pub name: String,
}

/// A member of staff in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staff {
    /// `PractitionerRole/coach-north`.
    pub reference: String,
    pub name: String,
}

/// The directory is not one with which the demo can be played.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryUnfit {
    #[error("the demo directory is not readable as JSON")]
    Unreadable(#[from] serde_json::Error),
    #[error("the demo directory has no {0}")]
    Lacks(&'static str),
}

impl Directory {
    /// The directory that comes with the product: `fhir-profiles/demo/directory.json`.
    pub fn embedded() -> Result<Directory, DirectoryUnfit> {
        Directory::read(include_str!("../../fhir-profiles/demo/directory.json"))
    }

    /// Reads the Bundle.
    pub fn read(text: &str) -> Result<Directory, DirectoryUnfit> {
        Ok(Directory { bundle: serde_json::from_str(text)? })
    }

    /// ODS code of the Live Well organisation: the one that manages the localities.
    pub fn live_well(&self) -> Result<String, DirectoryUnfit> {
        let manager = self.of("Location").find_map(|l| path::text(l, "managingOrganization.reference"));
        let ours = manager.and_then(|reference| self.named(reference)).and_then(ods);
        ours.ok_or(DirectoryUnfit::Lacks("organisation that manages its localities"))
    }

    /// Every organisation but ours, in the order of the directory.
    pub fn practices(&self) -> Result<Vec<Practice>, DirectoryUnfit> {
        let ours = self.live_well()?;
        let practices = self.of("Organization").filter_map(|organization| {
            let name = path::text(organization, "name").unwrap_or_default().to_owned();
            Some(Practice { ods: ods(organization)?, name, locality: self.locality(organization) })
        });
        Ok(practices.filter(|practice| practice.ods != ours).collect())
    }

    /// The first who works in `role` (`https://livewell.example/CodeSystem/role`) in this locality.
    pub fn staff(&self, role: &str, locality: &Locality) -> Result<Staff, DirectoryUnfit> {
        let fits = |found: &&Value| {
            path::all(found, "code.coding.code").contains(&&json!(role))
                && path::all(found, "location.reference").contains(&&json!(locality.reference))
        };
        let found = self.of("PractitionerRole").find(fits).ok_or(DirectoryUnfit::Lacks("health coach there"))?;
        let name = path::text(found, "practitioner.display").unwrap_or(role).to_owned();
        Ok(Staff { reference: reference(found), name })
    }

    /// The Bundle to load, with an Endpoint for each practice at the address that `address` gives for its ODS code.
    pub fn with_endpoints(mut self, address: impl Fn(&str) -> String) -> Result<Value, DirectoryUnfit> {
        let practices = self.practices()?;
        let mut endpoints = Vec::new();
        let entries = self.bundle.get_mut("entry").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let Some(organization) = entry.get_mut("resource").filter(|r| is(r, "Organization")) else { continue };
            let Some(practice) = ods(organization).and_then(|code| practices.iter().find(|p| p.ods == code)) else {
                continue;
            };
            let id = format!("fhir-{}", practice.ods.to_lowercase());
            organization["endpoint"] = json!([{ "reference": format!("Endpoint/{id}") }]);
            endpoints.push(endpoint(&id, practice, &reference(organization), &address(&practice.ods)));
        }
        // Before the organisations that refer to them.
        if let Some(entries) = self.bundle.get_mut("entry").and_then(Value::as_array_mut) {
            entries.splice(0..0, endpoints);
        }
        Ok(self.bundle)
    }

    fn of(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        path::all(&self.bundle, "entry.resource").into_iter().filter(move |resource| is(resource, kind))
    }

    fn named(&self, wanted: &str) -> Option<&Value> {
        path::all(&self.bundle, "entry.resource").into_iter().find(|resource| reference(resource) == wanted)
    }

    fn locality(&self, organization: &Value) -> Option<Locality> {
        let practice = reference(organization);
        let affiliation = self
            .of("OrganizationAffiliation")
            .find(|a| path::text(a, "participatingOrganization.reference") == Some(&practice))?;
        let location = self.named(path::text(affiliation, "location.reference")?)?;
        let name = path::text(location, "name").unwrap_or_default().to_owned();
        Some(Locality { reference: reference(location), name })
    }
}

fn is(resource: &Value, kind: &str) -> bool {
    path::text(resource, "resourceType") == Some(kind)
}

fn reference(resource: &Value) -> String {
    let part = |name: &str| path::text(resource, name).unwrap_or_default();
    format!("{}/{}", part("resourceType"), part("id"))
}

fn ods(organization: &Value) -> Option<String> {
    let mut identifiers = path::all(organization, "identifier").into_iter();
    let code = identifiers.find(|i| path::text(i, "system") == Some(ODS))?;
    path::text(code, "value").map(str::to_owned)
}

fn endpoint(id: &str, practice: &Practice, organization: &str, address: &str) -> Value {
    json!({
        "fullUrl": format!("https://livewell.example/fhir/Endpoint/{id}"),
        "resource": {
            "resourceType": "Endpoint",
            "id": id,
            "status": "active",
            "connectionType": {
                "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
                "code": "hl7-fhir-rest",
            },
            "name": format!("Record of {}", practice.name),
            "managingOrganization": { "reference": organization },
            "payloadType": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type",
                "code": "any",
            }]}],
            "address": address,
        },
        "request": { "method": "PUT", "url": format!("Endpoint/{id}") },
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let organization = |id: &str, code: &str| {
            json!({ "resource": { "resourceType": "Organization", "id": id, "name": id,
                "identifier": [{ "system": ODS, "value": code }] } })
        };
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
            organization("ours", "TESTLW"),
            { "resource": { "resourceType": "Location", "id": "north", "name": "North",
                "managingOrganization": { "reference": "Organization/ours" } } },
            organization("a", "TESTA1"),
            { "resource": { "resourceType": "OrganizationAffiliation", "id": "a-north",
                "participatingOrganization": { "reference": "Organization/a" },
                "location": [{ "reference": "Location/north" }] } },
            organization("b", "TESTA2"),
            { "resource": { "resourceType": "PractitionerRole", "id": "coach",
                "practitioner": { "display": "Nora Coachnorth" },
                "code": [{ "coding": [{ "code": "health-coach" }] }],
                "location": [{ "reference": "Location/north" }] } },
        ]});
        Directory::read(&bundle.to_string()).unwrap()
    }

    #[test]
    fn practices_are_the_others_each_with_its_locality() {
        let practices = directory().practices().unwrap();
        let north = Locality { reference: "Location/north".into(), name: "North".into() };
        let found: Vec<_> = practices.iter().map(|p| (p.ods.as_str(), p.locality.as_ref())).collect();
        assert_eq!(found, [("TESTA1", Some(&north)), ("TESTA2", None)]);
        assert_eq!(directory().staff("health-coach", &north).unwrap().reference, "PractitionerRole/coach");
        assert!(directory().staff("link-worker", &north).is_err());
    }

    #[test]
    fn every_practice_gets_an_endpoint_and_refers_to_it() {
        let bundle = directory().with_endpoints(|ods| format!("http://127.0.0.1:1/{ods}/fhir")).unwrap();
        let entries = bundle["entry"].as_array().unwrap();
        assert_eq!(entries.len(), 8);
        assert_eq!(entries[0]["resource"]["address"], "http://127.0.0.1:1/TESTA1/fhir");
        let referring: Vec<_> = path::all(&bundle, "entry.resource.endpoint.reference");
        assert_eq!(referring, [&json!("Endpoint/fhir-testa1"), &json!("Endpoint/fhir-testa2")]);
    }
}
