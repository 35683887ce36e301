//! What every act works with: the codes, the pathway, the organisation.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use crate::fhir::codes::CodeTable;
use crate::fhir::nhs_number::Checking;
use crate::fhir::systems::ODS;
use crate::fhir::terminology::Terminology;
use crate::pathway::pam::CutOffs;
use crate::pathway::plan::Plan;
use crate::pathway::role::RoleMap;
use crate::pathway::topic::Topic;
use crate::pathway::write_back::Preferences;
use crate::store::Store;

use super::{Attempts, Result};

/// The rules of this deployment, fixed at start, and the organisation they are for.
pub struct House {
    pub rules: Rules,
    pub attempts: Attempts,
    /// What the code systems and value sets at hand say.
    pub terminology: Arc<Terminology>,
    /// ODS code of the Live Well organisation, '' while it is neither configured nor in the directory.
    organization: RwLock<String>,
}

/// The rules of this deployment.
pub struct Rules {
    pub codes: CodeTable,
    pub plan: Plan,
    /// Origin under which the service is reached, without `/fhir`.
    pub base_url: String,
    /// The PAM cut-offs by which levels are told.
    pub pam: CutOffs,
    /// How an NHS number with a wrong check digit is taken.
    pub nhs_numbers: Checking,
    /// What practices want written into their records, by ODS code; the others the default.
    pub preferences: BTreeMap<String, Preferences>,
    /// What national job roles are at Live Well.
    pub roles: RoleMap,
    /// What can be subscribed to.
    pub topics: Vec<Topic>,
    /// Whether a notification may carry the resource itself.
    pub full_resource: bool,
    pub webhooks: Webhooks,
}

/// Says whether an address may be called, or why not.
type MayCall = dyn Fn(&str) -> std::result::Result<(), String> + Send + Sync;

/// What acts must know of the channel by which subscribers are notified.
pub struct Webhooks {
    /// Whether an address may be called, or why not.
    pub may_call: Box<MayCall>,
    /// Whether a text is a secret that can sign.
    pub is_secret: fn(&str) -> bool,
    /// A new secret; none where the machine's random source failed.
    pub new_secret: fn() -> Option<String>,
}

impl House {
    /// The rules, for the Live Well organisation with this ODS code ('' while it is not known).
    pub fn new(rules: Rules, organization: String) -> House {
        House {
            rules,
            attempts: Attempts::default(),
            terminology: Arc::default(),
            organization: RwLock::new(organization),
        }
    }

    /// The same, with the code systems and value sets at hand.
    pub fn knowing(self, terminology: &Arc<Terminology>) -> House {
        House { terminology: Arc::clone(terminology), ..self }
    }

    /// What the practice with this ODS code wants written into its record.
    pub fn preferences(&self, practice: &str) -> &Preferences {
        static USUAL: LazyLock<Preferences> = LazyLock::new(Preferences::default);
        self.rules.preferences.get(practice).unwrap_or(&USUAL)
    }

    /// ODS code of the Live Well organisation.
    pub fn organization(&self) -> String {
        self.organization.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Learns which organisation is Live Well's from the directory, where it was not configured: the one that the
    /// localities name as theirs.
    pub async fn learn_organization(&self, store: &Store) -> Result<()> {
        if !self.organization().is_empty() {
            return Ok(());
        }
        let mut tx = store.read().await?;
        for locality in tx.directory("Location").await? {
            let Some(id) =
                locality.text("managingOrganization.reference").and_then(|r| r.strip_prefix("Organization/"))
            else {
                continue;
            };
            if let Some(organization) = tx.directory_resource("Organization", id).await?
                && let Some(ods) = organization.identifier(ODS)
            {
                ods.clone_into(&mut self.organization.write().unwrap_or_else(PoisonError::into_inner));
                return Ok(());
            }
        }
        Ok(())
    }

    /// The base of the FHIR API.
    pub fn fhir_base(&self) -> String {
        format!("{}/fhir", self.rules.base_url)
    }

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

impl Deref for House {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}
