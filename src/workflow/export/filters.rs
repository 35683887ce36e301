//! `_typeFilter`: of a type only what a search finds, as it was at the moment of the export.

use serde_json::Value;

use crate::fhir::search::Filter;
use crate::fhir::{Invalid, Issue, IssueCode, Resource};
use crate::store::{At, ExportRow};

use super::super::{Error, House, Result};

/// Searches of one export at most.
const MOST: usize = 50;

/// What of each type is exported.
pub(super) struct Filters(Vec<Filter>);

impl Filters {
    pub(super) fn read(house: &House, texts: &[String], at: At) -> Result<Filters> {
        let base = house.fhir_base();
        let read = texts.iter().map(|text| Filter::parse(text, &base, at.0).map_err(|why| refused(&why)));
        Ok(Filters(read.collect::<Result<_>>()?))
    }

    pub(super) fn of(house: &House, row: &ExportRow) -> Result<Filters> {
        let texts: Vec<String> = serde_json::from_str(&row.filters).unwrap_or_default();
        Filters::read(house, &texts, row.taken_at)
    }

    /// Refuses more than one export takes, and those of other types than these, which are exported.
    pub(super) fn fit(&self, types: &[String]) -> Result<()> {
        let named = |filter: &Filter| types.iter().any(|kind| kind == filter.kind());
        if self.0.len() <= MOST && self.0.iter().all(named) {
            return Ok(());
        }
        Err(refused(&format!("_typeFilter restricts types that are exported, by at most {MOST} searches.")))
    }

    /// The bodies of what is exported of a part.
    pub(super) fn pass(&self, kind: &str, resources: Vec<(String, String)>) -> Result<Vec<String>> {
        let filters: Vec<&Filter> = self.0.iter().filter(|filter| filter.kind() == kind).collect();
        let mut bodies = Vec::with_capacity(resources.len());
        for (person, body) in resources {
            if filters.is_empty() || {
                let resource = Resource::from_value(serde_json::from_str(&body).unwrap_or(Value::Null))?;
                filters.iter().any(|filter| filter.matches(&resource, &person))
            } {
                bodies.push(body);
            }
        }
        Ok(bodies)
    }
}

fn refused(why: &str) -> Error {
    Error::Invalid(Invalid::malformed(Issue::error(IssueCode::NotSupported, "_typeFilter", why)))
}
