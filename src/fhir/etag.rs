//! Entity tags: which version of a resource a caller means (<https://hl7.org/fhir/R4/http.html#concurrency>).

/// The tags of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any version, as long as there is one.
    Any,
    /// These versions. A tag that no version here has (`W/"abc"`) is left out: it matches nothing.
    Versions(Vec<i64>),
}

impl Tags {
    /// Reads `W/"3"`, a list of such, or `*`; leniently also `"3"` and `3`. `None` when it is none of these.
    pub fn parse(text: &str) -> Option<Tags> {
        if text.trim() == "*" {
            return Some(Tags::Any);
        }
        let tags: Vec<&str> = text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
        if tags.is_empty() {
            return None;
        }
        let versions = tags.into_iter().map(version).collect::<Option<Vec<_>>>()?;
        Some(Tags::Versions(versions.into_iter().flatten().collect()))
    }

    /// Whether they name this version. Comparison is weak, as FHIR's tags are.
    pub fn name(&self, version: i64) -> bool {
        match self {
            Tags::Any => true,
            Tags::Versions(versions) => versions.contains(&version),
        }
    }
}

/// The version of one tag; `Some(None)` for a tag that is none of ours.
fn version(tag: &str) -> Option<Option<i64>> {
    let bare = tag.strip_prefix("W/").unwrap_or(tag);
    match bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('"') && inner.bytes().all(|b| b.is_ascii_graphic()) => Some(inner.parse().ok()),
        Some(_) => None,
        None => bare.parse().ok().map(Some),
    }
}

/// The weak tag of a version.
pub fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_in_every_dress_and_nonsense_is_told_from_them() {
        let these = |versions: &[i64]| Some(Tags::Versions(versions.to_vec()));
        for (text, read) in [
            ("*", Some(Tags::Any)),
            ("W/\"3\"", these(&[3])),
            ("\"3\"", these(&[3])),
            (" 3 ", these(&[3])),
            ("W/\"1\", W/\"2\",\"7\"", these(&[1, 2, 7])),
            ("W/\"abc\"", these(&[])),
            ("W/\"abc\", W/\"2\"", these(&[2])),
            ("", None),
            (",", None),
            ("W/", None),
            ("\"", None),
            ("\"3", None),
            ("W/\"3\" W/\"4\"", None),
            ("one", None),
            ("*, W/\"1\"", None),
        ] {
            assert_eq!(Tags::parse(text), read, "{text}");
        }
        assert!(Tags::Any.name(9) && Tags::Versions(vec![1, 2]).name(2) && !Tags::Versions(vec![1]).name(2));
    }
}
