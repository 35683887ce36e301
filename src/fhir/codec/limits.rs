//! How large a document may be before it is refused unread.

use serde::Deserialize;

/// The sizes above which a document is refused. A parsed tree of tiny values takes 30 to 60 times its text, so the
/// number of values is limited as well as the number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one document (8 MiB).
    pub bytes: usize,
    /// JSON values, or XML elements and attributes, in one document (500,000).
    pub values: usize,
    /// Objects and arrays inside each other (64). JSON stops at 126, whatever is set here.
    pub depth: usize,
    /// Issues said in one answer (100). For those who check a document; reading stops at the first.
    pub issues: usize,
    /// Members of an `entry`, as in a Bundle (5,000).
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 8 * 1024 * 1024, values: 500_000, depth: 64, issues: 100, entries: 5_000 }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_set_has_its_default() {
        let limits: Limits = toml::from_str("values = 9").unwrap();
        assert_eq!(limits, Limits { values: 9, ..Limits::default() });
        assert!(toml::from_str::<Limits>("valeus = 9").is_err());
    }
}
