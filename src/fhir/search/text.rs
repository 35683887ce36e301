//! How text is compared in a search.

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Bytes of a value that are indexed as they are: a database refuses an index entry of some 2,700 bytes.
const LONGEST: usize = 500;

/// A string as it is compared: without case, accents and extra blanks (<https://hl7.org/fhir/R4/search.html#string>).
pub(super) fn folded(text: &str) -> String {
    let bare: String = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect();
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text, or where it is too long for an index, its beginning and what tells it from others that begin so.
pub(super) fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}~{digest}", beginning(text))
}

/// As much of a text as an index holds.
pub(super) fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_blanks_make_no_difference() {
        assert_eq!(folded("  Zoë   O\u{2019}Brien-MÜLLER "), "zoe o\u{2019}brien-muller");
        assert_eq!(folded("ﬁn"), "fin");
    }

    #[test]
    fn a_text_too_long_for_an_index_is_told_from_others_that_begin_like_it() {
        let (one, other) = (format!("{}a", "é".repeat(400)), format!("{}b", "é".repeat(400)));
        assert!(bounded(&one).len() < 560);
        assert_ne!(bounded(&one), bounded(&other));
        assert_eq!(bounded("short"), "short");
    }
}
