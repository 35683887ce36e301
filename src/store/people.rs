//! People: one row for each person Live Well works with.

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

    /// A new person. [`StoreError::Conflict`] when the NHS number is taken.
    pub async fn insert_person(&mut self, person: &PersonRow) -> Result<(), StoreError> {
        sql!(
            self,
            execute,
            "insert into person (id, nhs_number, birth_date, family, practice, locality) values ($1, $2, $3, $4, $5, $6)",
            &person.id,
            &person.nhs_number,
            &person.birth_date,
            &person.family,
            &person.practice,
            &person.locality
        )?;
        Ok(())
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
