//! The one code table: clinical and national codes by name.
//!
//! No code stands in a `.rs` file: several national ones are not yet verified and a deployment supplies its own, so the
//! table is data (`fhir-profiles/codes.json`) and everything else says the name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::systems::SNOMED;

static EMBEDDED: LazyLock<CodeTable> = LazyLock::new(|| CodeTable {
    codes: rows(include_str!("../../fhir-profiles/codes.json")).expect("the embedded code table is read by a test"),
});

/// One code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// What the software calls it, e.g. `pam-score`.
    pub name: String,
    /// The system URI.
    pub system: String,
    /// The code in that system.
    pub code: String,
    /// The system's own term.
    pub display: String,
    /// Whether it was read in a published code system or value set. What is not must be checked before use.
    pub verified: bool,
    /// Where it was seen, or why it is not verified.
    pub source: String,
}

impl Code {
    /// As a FHIR Coding.
    pub fn coding(&self) -> Value {
        json!({ "system": self.system, "code": self.code, "display": self.display })
    }

    /// As a FHIR CodeableConcept with its text.
    pub fn concept(&self) -> Value {
        json!({ "coding": [self.coding()], "text": self.display })
    }

    /// Whether a CodeableConcept carries this code.
    pub fn is_in(&self, concept: &Value) -> bool {
        concept.get("coding").and_then(Value::as_array).is_some_and(|codings| {
            codings.iter().any(|coding| {
                coding.get("system").and_then(Value::as_str) == Some(&self.system)
                    && coding.get("code").and_then(Value::as_str) == Some(&self.code)
            })
        })
    }
}

/// All codes the software knows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeTable {
    codes: BTreeMap<String, Code>,
}

/// Why a code table cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeTableError {
    #[error(
        "The code table is not readable ({0}). It is a JSON object with codes: rows of name, system, code, display, verified and source."
    )]
    Unreadable(String),
    #[error("The code table has {0} twice. Keep one of the rows.")]
    Twice(String),
    #[error("The code table gives {0} no system, code or display. Fill them in, or leave the row out.")]
    Incomplete(String),
    #[error("The code table gives {0} a SNOMED CT code that fails its check digit. Check it on a terminology server.")]
    CheckDigit(String),
}

impl CodeTable {
    /// The table that comes with the software.
    pub fn embedded() -> &'static CodeTable {
        &EMBEDDED
    }

    /// The table that comes with the software, with the rows of `text` in place of those of the same name. So every name
    /// of the embedded table is always there.
    pub fn parse(text: &str) -> Result<CodeTable, CodeTableError> {
        let mut codes = EMBEDDED.codes.clone();
        codes.extend(rows(text)?);
        Ok(CodeTable { codes })
    }

    /// The code of this name.
    pub fn code(&self, name: &str) -> Option<&Code> {
        self.codes.get(name)
    }

    /// The code of this name as a FHIR Coding.
    pub fn coding(&self, name: &str) -> Option<Value> {
        self.code(name).map(Code::coding)
    }

    /// The code of this name as a FHIR CodeableConcept with its text.
    pub fn concept(&self, name: &str) -> Option<Value> {
        self.code(name).map(Code::concept)
    }

    /// Whether a CodeableConcept carries the code of this name.
    pub fn is(&self, name: &str, concept: &Value) -> bool {
        self.code(name).is_some_and(|code| code.is_in(concept))
    }

    /// The codes that were not read in a published code system or value set, by name.
    pub fn unverified(&self) -> impl Iterator<Item = &Code> {
        self.codes.values().filter(|code| !code.verified)
    }
}

/// Reads and checks the rows of a table.
fn rows(text: &str) -> Result<BTreeMap<String, Code>, CodeTableError> {
    #[derive(Deserialize)]
    struct Table {
        codes: Vec<Code>,
    }
    let table: Table = serde_json::from_str(text).map_err(|e| CodeTableError::Unreadable(e.to_string()))?;
    let mut codes = BTreeMap::new();
    for code in table.codes {
        if [&code.name, &code.system, &code.code, &code.display].into_iter().any(|field| field.trim().is_empty()) {
            return Err(CodeTableError::Incomplete(code.name));
        }
        if code.system == SNOMED && !is_snomed(&code.code) {
            return Err(CodeTableError::CheckDigit(code.name));
        }
        if let Some(first) = codes.insert(code.name.clone(), code) {
            return Err(CodeTableError::Twice(first.name));
        }
    }
    Ok(codes)
}

/// Whether this is shaped like a SNOMED CT identifier: 6 to 18 digits with a right Verhoeff check digit (SNOMED CT
/// Technical Implementation Guide, "Check-digit"). A right digit does not prove the meaning.
fn is_snomed(code: &str) -> bool {
    const F: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    if !(6..=18).contains(&code.len()) || !code.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let sum = code.bytes().rev().enumerate().fold(0u8, |sum, (place, byte)| {
        let permuted = (0..place % 8).fold(byte - b'0', |digit, _| F[usize::from(digit)]);
        dihedral(sum, permuted)
    });
    sum == 0
}

/// Multiplies in the dihedral group of order ten.
fn dihedral(a: u8, b: u8) -> u8 {
    match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_has_what_the_software_says_by_name() {
        let table = CodeTable::embedded();
        for name in [
            "pam-score",
            "pam-level",
            "telephone-encounter",
            "did-not-attend",
            "failed-encounter-no-answer",
            "letter-encounter",
            "home-visit",
            "social-prescribing-referral",
            "category-survey",
            "class-ambulatory",
            "class-virtual",
            "class-home",
            "job-health-coach",
            "consent-privacy",
        ] {
            assert!(table.code(name).is_some(), "{name}");
        }
        assert!(table.unverified().any(|code| code.name == "pam-score"));
        assert!(table.unverified().any(|code| code.name == "pam-level"));
    }

    #[test]
    fn a_code_is_found_among_several_codings_by_system_and_code() {
        let table = CodeTable::embedded();
        let score = table.code("pam-score").unwrap();
        let concept = json!({ "coding": [
            { "system": "https://other.example", "code": "1" },
            { "system": score.system, "code": score.code },
        ] });
        assert!(table.is("pam-score", &concept));
        assert!(!table.is("pam-level", &concept));
        assert!(!table.is("unknown", &concept));
        let elsewhere = json!({ "coding": [{ "system": "https://other.example", "code": score.code }] });
        assert!(!table.is("pam-score", &elsewhere));
        assert!(!table.is("pam-score", &json!("text")));
    }

    #[test]
    fn a_deployment_replaces_a_row_and_keeps_the_others() {
        let table = CodeTable::parse(
            r#"{"codes":[{"name":"pam-score","system":"https://local.example","code":"P","display":"PAM","verified":true,"source":"ours"}]}"#,
        )
        .unwrap();
        assert_eq!(table.coding("pam-score").unwrap()["code"], "P");
        assert_eq!(table.code("pam-level"), CodeTable::embedded().code("pam-level"));
        assert!(table.unverified().all(|code| code.name != "pam-score"));
    }

    #[test]
    fn a_table_that_cannot_be_used_says_why() {
        let row = |name: &str, code: &str| {
            format!(
                r#"{{"name":"{name}","system":"{SNOMED}","code":"{code}","display":"d","verified":false,"source":""}}"#
            )
        };
        let table = |rows: &[String]| CodeTable::parse(&format!(r#"{{"codes":[{}]}}"#, rows.join(",")));
        assert!(matches!(CodeTable::parse("[]"), Err(CodeTableError::Unreadable(_))));
        let right = row("a", "185317003");
        assert!(table(std::slice::from_ref(&right)).is_ok());
        assert_eq!(table(&[right.clone(), right]), Err(CodeTableError::Twice("a".into())));
        assert_eq!(table(&[row("a", "185317004")]), Err(CodeTableError::CheckDigit("a".into())));
        assert_eq!(table(&[row("a", "104586100000100")]), Err(CodeTableError::CheckDigit("a".into())));
        assert_eq!(table(&[row("a", " ")]), Err(CodeTableError::Incomplete("a".into())));
    }

    #[test]
    fn swapped_digits_of_a_snomed_code_are_noticed() {
        let code = "871731000000106";
        assert!(is_snomed(code));
        let swapped = (0..code.len() - 1).filter_map(|i| {
            let mut bytes = code.as_bytes().to_vec();
            bytes.swap(i, i + 1);
            (bytes != code.as_bytes()).then(|| String::from_utf8(bytes).unwrap())
        });
        for wrong in swapped {
            assert!(!is_snomed(&wrong), "{wrong}");
        }
    }
}
