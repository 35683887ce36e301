//! What every act works with: the codes, the pathway, the organisation.

use crate::fhir::codes::CodeTable;
use crate::fhir::nhs_number::Checking;
use crate::pathway::pam::CutOffs;
use crate::pathway::plan::Plan;

/// The rules of this deployment, fixed at start.
pub struct House {
    pub codes: CodeTable,
    pub plan: Plan,
    /// ODS code of the Live Well organisation.
    pub organization: String,
    /// Origin under which the service is reached, without `/fhir`.
    pub base_url: String,
    /// The PAM cut-offs by which levels are told.
    pub pam: CutOffs,
    /// How an NHS number with a wrong check digit is taken.
    pub nhs_numbers: Checking,
}

impl House {
    /// `Type/id` of a reference into this service, relative or absolute; `None` for anything else.
    pub fn local<'a>(&self, reference: &'a str) -> Option<(&'a str, &'a str)> {
        let relative = match reference.strip_prefix(self.base_url.as_str()) {
            Some(rest) => rest.strip_prefix("/fhir/")?,
            None => reference,
        };
        let relative = relative.split("/_history/").next()?;
        let (kind, id) = relative.split_once('/')?;
        (crate::fhir::check::is_resource_type(kind) && !id.is_empty() && !id.contains('/')).then_some((kind, id))
    }
}
