//! The Patient Activation Measure: score, level, and the published cut-offs between levels.
//!
//! The score comes from the licensed tool; item text and scoring table are licensed and are not here.

use serde_json::Value;

use crate::fhir::codes::CodeTable;
use crate::fhir::outcome::{Invalid, Issue, IssueCode};
use crate::fhir::{Resource, profiles, systems};

/// A score from 0.0 to 100.0, in tenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score(u16);

impl Score {
    /// Reads a decimal as written: 0 to 100 with at most one decimal (`55.0` and `55.10` are `55` and `55.1`).
    pub fn parse(decimal: &str) -> Option<Score> {
        let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let tenth = fraction.bytes().next()?;
        if !digits(whole) || whole.len() > 3 || !digits(fraction) || fraction.bytes().skip(1).any(|b| b != b'0') {
            return None;
        }
        let tenths = whole.parse::<u16>().ok()? * 10 + u16::from(tenth - b'0');
        (tenths <= 1000).then_some(Score(tenths))
    }

    /// The score in tenths, 0 to 1000.
    pub fn tenths(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Where the levels 2, 3 and 4 begin. Two variants are published and a score from 67.1 to 72.4 has another level in each,
/// so a pathway names the one it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOffs {
    variant: String,
    from: [Score; 3],
}

impl CutOffs {
    /// The embedded cut-offs of this variant: `A` (older papers, PMC5665291 and PMC2955177) or `B` (current, sralab.org).
    pub fn named(variant: &str) -> Option<CutOffs> {
        CutOffs::from_code_system(&profiles::resource("CodeSystem", "pam-cut-offs")?, variant)
    }

    /// The cut-offs of this variant in a CodeSystem shaped like the embedded `pam-cut-offs`: a concept for the variant with
    /// the properties `level-2-from`, `level-3-from` and `level-4-from`, rising.
    pub fn from_code_system(code_system: &Resource, variant: &str) -> Option<CutOffs> {
        let concept =
            code_system.all("concept").into_iter().find(|c| c.get("code").and_then(Value::as_str) == Some(variant))?;
        let from = |property: &str| {
            let properties = concept.get("property")?.as_array()?;
            let said = properties.iter().find(|p| p.get("code").and_then(Value::as_str) == Some(property))?;
            Score::parse(&said.get("valueDecimal")?.to_string())
        };
        let from = [from("level-2-from")?, from("level-3-from")?, from("level-4-from")?];
        from.is_sorted().then(|| CutOffs { variant: variant.to_owned(), from })
    }

    /// The variant's name.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// The level of a score, 1 to 4.
    pub fn level(&self, score: Score) -> u8 {
        self.from.iter().fold(1, |level, from| level + u8::from(score >= *from))
    }
}

/// What a PAM Observation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamReading {
    /// The score as sent.
    pub score: Score,
    /// The level as sent.
    pub supplied_level: Option<u8>,
    /// The level of the score by the cut-offs of the pathway.
    pub level: u8,
    /// Which cut-offs gave `level`.
    pub variant: String,
}

impl PamReading {
    /// Reads an Observation. `None` when it is not a PAM score, or says with `dataAbsentReason` why there is none.
    ///
    /// Refused as unprocessable: a score that is missing, outside 0 to 100 or with more than one decimal, a bound
    /// (`comparator`), a unit that is not that of a score, a level that is not a whole number from 1 to 4.
    pub fn read(observation: &Resource, codes: &CodeTable, cut_offs: &CutOffs) -> Result<Option<PamReading>, Invalid> {
        let fields = observation.value();
        let is_pam =
            observation.kind() == "Observation" && fields.get("code").is_some_and(|code| codes.is("pam-score", code));
        if !is_pam || (fields.get("valueQuantity").is_none() && fields.get("dataAbsentReason").is_some()) {
            return Ok(None);
        }
        let score = read_score(fields)?;
        let supplied_level = read_level(fields, codes)?;
        let level = cut_offs.level(score);
        Ok(Some(PamReading { score, supplied_level, level, variant: cut_offs.variant.clone() }))
    }

    /// The level to show: as sent, else by the cut-offs.
    pub fn shown_level(&self) -> u8 {
        self.supplied_level.unwrap_or(self.level)
    }

    /// Whether the level sent is another than that of the cut-offs: both are kept and the reading is flagged
    /// (`pam-level-disagrees`).
    pub fn level_disagrees(&self) -> bool {
        self.supplied_level.is_some_and(|supplied| supplied != self.level)
    }
}

fn refuse(expression: impl Into<String>, code: IssueCode, text: &str) -> Invalid {
    Invalid::unprocessable(Issue::error(code, expression, text))
}

fn read_score(fields: &Value) -> Result<Score, Invalid> {
    let value = fields.get("valueQuantity").and_then(|quantity| quantity.get("value")).ok_or_else(|| {
        refuse(
            "Observation.valueQuantity.value",
            IssueCode::Required,
            "A PAM score is a valueQuantity with a value from 0 to 100, or a dataAbsentReason.",
        )
    })?;
    let said = |member: &str| fields.get("valueQuantity")?.get(member)?.as_str();
    if said("comparator").is_some() {
        return Err(refuse(
            "Observation.valueQuantity.comparator",
            IssueCode::Value,
            "A PAM score is the number that the licensed tool gives, not a bound of it. Leave the comparator out.",
        ));
    }
    // The unit may be absent; another one would make the number mean something else. Where there is a code, the text
    // beside it is only how it is shown.
    match (said("code"), said("unit")) {
        (Some(code), _) if said("system") == Some(systems::UCUM) && !["{score}", "1"].contains(&code) => {
            return Err(refuse(
                "Observation.valueQuantity.code",
                IssueCode::Value,
                "The unit of a PAM score is {score} (http://unitsofmeasure.org).",
            ));
        }
        (None, Some(unit)) if !["{score}", "score", "points"].contains(&unit.trim().to_lowercase().as_str()) => {
            return Err(refuse(
                "Observation.valueQuantity.unit",
                IssueCode::Value,
                "The unit of a PAM score is score, with the code {score} (http://unitsofmeasure.org). Send it so, or leave \
                 it out.",
            ));
        }
        _ => {}
    }
    value.as_number().and_then(|number| Score::parse(&number.to_string())).ok_or_else(|| {
        refuse(
            "Observation.valueQuantity.value",
            IssueCode::Value,
            "A PAM score is a number from 0 to 100 with at most one decimal, as the licensed tool gives it.",
        )
    })
}

fn read_level(fields: &Value, codes: &CodeTable) -> Result<Option<u8>, Invalid> {
    let components = fields.get("component").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let level = |(_, component): &(usize, &Value)| component.get("code").is_some_and(|c| codes.is("pam-level", c));
    let Some((at, component)) = components.iter().enumerate().find(level) else { return Ok(None) };
    if component.get("dataAbsentReason").is_some() {
        return Ok(None);
    }
    let said = component.get("valueInteger").and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    match said {
        Some(level @ 1..=4) => Ok(Some(level)),
        _ => Err(refuse(
            format!("Observation.component[{at}].valueInteger"),
            IssueCode::Value,
            "A PAM level is a valueInteger from 1 to 4. Leave the component out where it is not known.",
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn observation(quantity: &str, level: Option<&str>) -> Resource {
        let codes = CodeTable::embedded();
        let mut fields =
            json!({ "resourceType": "Observation", "status": "final", "code": codes.concept("pam-score") });
        fields["valueQuantity"] = serde_json::from_str(quantity).unwrap();
        if let Some(level) = level {
            let level: Value = serde_json::from_str(level).unwrap();
            fields["component"] = json!([{ "code": codes.concept("pam-level"), "valueInteger": level }]);
        }
        Resource::from_value(fields).unwrap()
    }

    fn read(resource: &Resource, variant: &str) -> Result<Option<PamReading>, Invalid> {
        PamReading::read(resource, CodeTable::embedded(), &CutOffs::named(variant).unwrap())
    }

    fn score(text: &str) -> Score {
        Score::parse(text).unwrap()
    }

    #[test]
    fn the_published_edges_of_both_variants() {
        let a = CutOffs::named("A").unwrap();
        let b = CutOffs::named("B").unwrap();
        for (at, in_a, in_b) in [
            ("0", 1, 1),
            ("47.0", 1, 1),
            ("47.1", 2, 2),
            ("55.1", 2, 2),
            ("55.2", 3, 3),
            ("67.0", 3, 3),
            ("67.1", 4, 3),
            ("72.4", 4, 3),
            ("72.5", 4, 4),
            ("100", 4, 4),
        ] {
            assert_eq!((a.level(score(at)), b.level(score(at))), (in_a, in_b), "{at}");
        }
        assert_eq!(CutOffs::named("C"), None);
    }

    #[test]
    fn a_score_has_one_decimal_between_0_and_100() {
        for (text, tenths) in [("0", 0), ("56.4", 564), ("56.40", 564), ("100.0", 1000), ("7", 70)] {
            assert_eq!(Score::parse(text).map(Score::tenths), Some(tenths), "{text}");
        }
        for wrong in ["", "-1", "100.1", "101", "56.45", "5e1", "56.", ".5", "1000", "99999999999", "+5", "a"] {
            assert_eq!(Score::parse(wrong), None, "{wrong}");
        }
        assert_eq!(score("56.40").to_string(), "56.4");
    }

    #[test]
    fn a_level_that_disagrees_is_kept_and_known() {
        let resource =
            observation(r#"{"value":70.0,"code":"{score}","system":"http://unitsofmeasure.org"}"#, Some("4"));
        let reading = read(&resource, "B").unwrap().unwrap();
        assert_eq!((reading.supplied_level, reading.level, reading.shown_level()), (Some(4), 3, 4));
        assert!(reading.level_disagrees());
        let reading = read(&resource, "A").unwrap().unwrap();
        assert!(!reading.level_disagrees());
        let reading = read(&observation(r#"{"value":70.0}"#, None), "B").unwrap().unwrap();
        assert_eq!((reading.shown_level(), reading.level_disagrees()), (3, false));
    }

    #[test]
    fn what_cannot_be_a_score_is_refused_by_name() {
        for quantity in [r#"{"value":100.1}"#, r#"{"value":-0.1}"#, r#"{"value":56.45}"#, r#"{"value":"56"}"#, r#"{}"#]
        {
            let refused = read(&observation(quantity, None), "B").unwrap_err();
            let issue = refused.issues.first().unwrap();
            assert_eq!(issue.expression.as_deref(), Some("Observation.valueQuantity.value"), "{quantity}");
        }
        let percent = observation(r#"{"value":56,"code":"%","system":"http://unitsofmeasure.org"}"#, None);
        let refused = read(&percent, "B").unwrap_err();
        assert_eq!(refused.issues.first().unwrap().expression.as_deref(), Some("Observation.valueQuantity.code"));
    }

    #[test]
    fn a_bound_is_no_score_and_a_unit_said_in_words_is_that_of_a_score() {
        let refused = |quantity: &str| {
            let refused = read(&observation(quantity, None), "B").unwrap_err();
            refused.issues.first().unwrap().expression.clone().unwrap()
        };
        assert_eq!(refused(r#"{"value":56.4,"comparator":"<"}"#), "Observation.valueQuantity.comparator");
        for unit in ["%", "kg", "per cent"] {
            let quantity = json!({ "value": 56.4, "unit": unit }).to_string();
            assert_eq!(refused(&quantity), "Observation.valueQuantity.unit", "{unit}");
        }
        for unit in ["{score}", "score", "Points"] {
            let quantity = json!({ "value": 56.4, "unit": unit }).to_string();
            assert!(read(&observation(&quantity, None), "B").unwrap().is_some(), "{unit}");
        }
        // Where there is a code, the unit is what it says, in whatever words.
        let coded = json!({ "value": 56.4, "unit": "PAM-13", "code": "{score}", "system": systems::UCUM }).to_string();
        assert!(read(&observation(&coded, None), "B").unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_a_level_is_refused_by_name() {
        for level in ["0", "5", "2.5", "\"2\"", "-1", "260"] {
            let refused = read(&observation(r#"{"value":56.4}"#, Some(level)), "B").unwrap_err();
            let expression = refused.issues.first().unwrap().expression.clone();
            assert_eq!(expression.as_deref(), Some("Observation.component[0].valueInteger"), "{level}");
        }
    }

    #[test]
    fn what_is_not_a_pam_score_is_none_of_its_business() {
        let weight =
            json!({ "resourceType": "Observation", "code": { "text": "weight" }, "valueQuantity": { "value": 900 } });
        assert_eq!(read(&Resource::from_value(weight).unwrap(), "B"), Ok(None));
        let mut refused = observation("{}", None);
        refused.map_mut().remove("valueQuantity");
        refused.map_mut().insert("dataAbsentReason".into(), json!({ "text": "did not want to" }));
        assert_eq!(read(&refused, "B"), Ok(None));
    }
}
