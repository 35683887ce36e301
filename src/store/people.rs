//! People: one row for each person Live Well works with.

use super::query::Bind;
use super::{StoreError, Tx};

/// A person; `id` is the id of our Patient.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct PersonRow {
    pub id: String,
    /// Absent while who this is has not been settled.
    pub nhs_number: Option<String>,
    /// As FHIR `date`, '' where unknown.
    pub birth_date: String,
    pub family: String,
    /// ODS code of the registered practice, '' where unknown.
    pub practice: String,
    /// Location id of the locality, '' where the practice has none.
    pub locality: String,
}

impl Tx {
    /// The person with this NHS number.
    pub async fn person_by_nhs_number(&mut self, nhs_number: &str) -> Result<Option<PersonRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, nhs_number, birth_date, family, practice, locality from person where nhs_number = $1",
            nhs_number
        )
    }

    /// The person whose Patient of ours this is.
    pub async fn person(&mut self, id: &str) -> Result<Option<PersonRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, nhs_number, birth_date, family, practice, locality from person where id = $1",
            id
        )
    }

    /// A new person. Put off: [`StoreError::Conflict`] comes with the commit when the NHS number is taken.
    pub async fn insert_person(&mut self, person: &PersonRow) -> Result<(), StoreError> {
        let row = vec![
            person.id.as_str().into(),
            Bind::Nullable(person.nhs_number.clone()),
            person.birth_date.as_str().into(),
            person.family.as_str().into(),
            person.practice.as_str().into(),
            person.locality.as_str().into(),
        ];
        let insert = "person (id, nhs_number, birth_date, family, practice, locality)";
        self.put_off(insert, [row], "").await
    }

    /// Changes what is known of a person.
    pub async fn update_person(&mut self, person: &PersonRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "update person set nhs_number = $2, birth_date = $3, family = $4, practice = $5, locality = $6 where id = $1",
            &person.id,
            &person.nhs_number,
            &person.birth_date,
            &person.family,
            &person.practice,
            &person.locality
        )?;
        Ok(())
    }
}
