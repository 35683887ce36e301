//! Referrals to us, the identifiers that make a resend a resend, and the spells they belong to.

use std::collections::BTreeSet;

use super::{At, StoreError, Tx};

/// A ServiceRequest that is a referral to us.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct ReferralRow {
    /// Id of the ServiceRequest.
    pub id: String,
    /// The human-readable reference, e.g. `LW-7K3M-92QX`.
    pub reference: String,
    /// ODS code of the organisation of the sending client.
    pub sender: String,
    /// Digest of what was sent first, by which a resend is known at once.
    pub digest: String,
    /// The submission that brought it, '' when it came alone.
    pub submission: String,
    pub person: String,
    /// ODS code of the practice whose record hears of it, '' for none.
    pub practice: String,
    pub locality: String,
    pub episode: String,
    pub care_plan: String,
    /// `received`, `contacting`, `active`, `closed` or `withdrawn`.
    pub state: String,
    /// The outcome code it closed with, '' while open.
    pub outcome: String,
    pub received_at: At,
    /// Since when it is in this state.
    pub since: At,
}

/// A spell of a person with us.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct EpisodeRow {
    /// Id of the EpisodeOfCare.
    pub id: String,
    pub person: String,
    pub open: bool,
    pub started_at: At,
}

impl Tx {
    /// The referral that is this ServiceRequest.
    pub async fn referral(&mut self, id: &str) -> Result<Option<ReferralRow>, StoreError> {
        let found: Option<ReferralRow> = sql!(
            self,
            fetch_optional,
            "select id, reference, sender, digest, submission, person, practice, locality, episode, care_plan, state, \
             outcome, received_at, since from referral where id = $1",
            id
        )?;
        if let Some(found) = &found {
            self.senders.insert(found.id.clone(), found.sender.clone());
        }
        Ok(found)
    }

    /// The referral with this human-readable reference.
    pub async fn referral_by_reference(&mut self, reference: &str) -> Result<Option<ReferralRow>, StoreError> {
        let found: Option<(String,)> =
            sql!(self, fetch_optional, "select id from referral where reference = $1", reference)?;
        match found {
            Some((id,)) => self.referral(&id).await,
            None => Ok(None),
        }
    }

    /// A person's referrals, newest first.
    pub async fn referrals_of_person(&mut self, person: &str) -> Result<Vec<ReferralRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select id, reference, sender, digest, submission, person, practice, locality, episode, care_plan, state, \
             outcome, received_at, since from referral where person = $1 order by received_at desc, id desc",
            person
        )
    }

    /// The referral this sender sent under one of these business identifiers (system, value).
    pub async fn referral_by_identifier(
        &mut self,
        sender: &str,
        identifiers: &[(String, String)],
    ) -> Result<Option<ReferralRow>, StoreError> {
        for (system, value) in identifiers {
            let found: Option<(String,)> = sql!(
                self,
                fetch_optional,
                "select referral from referral_identifier where sender = $1 and system = $2 and value = $3",
                sender,
                system,
                value
            )?;
            if let Some((id,)) = found {
                return self.referral(&id).await;
            }
        }
        Ok(None)
    }

    /// A new referral with its business identifiers. Put off: [`StoreError::Conflict`] comes with the commit when someone
    /// sent it meanwhile, or its reference is taken.
    pub async fn insert_referral(
        &mut self,
        referral: &ReferralRow,
        identifiers: &[(String, String)],
    ) -> Result<(), StoreError> {
        self.senders.insert(referral.id.clone(), referral.sender.clone());
        let row = vec![
            referral.id.as_str().into(),
            referral.reference.as_str().into(),
            referral.sender.as_str().into(),
            referral.digest.as_str().into(),
            referral.submission.as_str().into(),
            referral.person.as_str().into(),
            referral.practice.as_str().into(),
            referral.locality.as_str().into(),
            referral.episode.as_str().into(),
            referral.care_plan.as_str().into(),
            referral.state.as_str().into(),
            referral.outcome.as_str().into(),
            referral.received_at.into(),
            referral.since.into(),
        ];
        let insert = "referral (id, reference, sender, digest, submission, person, practice, locality, \
                      episode, care_plan, state, outcome, received_at, since)";
        self.put_off(insert, [row], "").await?;
        // A taken one must fail: two that send the same referral at once would otherwise both have sent it first.
        self.add_identifiers(&referral.sender, &referral.id, identifiers, "").await
    }

    /// Further business identifiers of a referral; those it has stay.
    pub async fn insert_referral_identifiers(
        &mut self,
        sender: &str,
        referral: &str,
        identifiers: &[(String, String)],
    ) -> Result<(), StoreError> {
        self.add_identifiers(sender, referral, identifiers, " on conflict do nothing").await
    }

    async fn add_identifiers(
        &mut self,
        sender: &str,
        referral: &str,
        identifiers: &[(String, String)],
        otherwise: &'static str,
    ) -> Result<(), StoreError> {
        let distinct: BTreeSet<_> = identifiers.iter().collect();
        if distinct.is_empty() {
            return Ok(());
        }
        let rows = distinct
            .into_iter()
            .map(|(system, value)| vec![sender.into(), system.as_str().into(), value.as_str().into(), referral.into()]);
        let insert = "referral_identifier (sender, system, value, referral)";
        self.put_off(insert, rows, otherwise).await
    }

    /// Moves a referral on.
    pub async fn update_referral(&mut self, id: &str, state: &str, outcome: &str, since: At) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update referral set state = $2, outcome = $3, since = $4 where id = $1",
            id,
            state,
            outcome,
            since
        )?;
        Ok(())
    }

    /// The person's open spell.
    pub async fn open_episode(&mut self, person: &str) -> Result<Option<EpisodeRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, person, open, started_at from episode where person = $1 and open",
            person
        )
    }

    /// A new spell. Put off: [`StoreError::Conflict`] comes with the commit when the person has an open one.
    pub async fn insert_episode(&mut self, episode: &EpisodeRow) -> Result<(), StoreError> {
        let row = vec![
            episode.id.as_str().into(),
            episode.person.as_str().into(),
            episode.open.into(),
            episode.started_at.into(),
        ];
        self.put_off("episode (id, person, open, started_at)", [row], "").await
    }

    /// Ends a spell.
    pub async fn close_episode(&mut self, id: &str) -> Result<(), StoreError> {
        sql!(self, execute, "update episode set open = $2 where id = $1", id, false)?;
        Ok(())
    }
}
