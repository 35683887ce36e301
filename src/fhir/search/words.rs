//! The separators of a search value and what escapes them (<https://hl7.org/fhir/R4/search.html#escaping>).

/// The parts between the separators that no backslash escapes; escapes are kept.
pub(super) fn parts(text: &str, separator: char) -> Vec<&str> {
    let (mut from, mut escaped, mut found) = (0, false, Vec::new());
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            found.extend(text.get(from..at));
            from = at + c.len_utf8();
        }
    }
    found.extend(text.get(from..));
    found
}

/// The alternatives of a value; empty ones say nothing.
pub fn alternatives(value: &str) -> Vec<&str> {
    let mut all = parts(value, ',');
    all.retain(|part| !part.is_empty());
    all
}

/// Parameters that restrict one search, and values in all of them together. Each value becomes a condition of one
/// statement, and databases bound how deep those nest (SQLite: 1,000, which some 490 alternatives reach).
const PARAMETERS: usize = 50;
const VALUES: usize = 200;

/// Why a search is too much, where it is.
pub fn too_much<'a>(filters: impl IntoIterator<Item = &'a (String, String)>) -> Option<String> {
    let (mut parameters, mut values) = (0, 0);
    for (_, value) in filters {
        parameters += 1;
        values += alternatives(value).len();
    }
    if parameters > PARAMETERS {
        return Some(format!("A search takes at most {PARAMETERS} parameters. Search for less at once."));
    }
    (values > VALUES).then(|| format!("A search takes at most {VALUES} values in all. Search for less at once."))
}

/// The text that an escaped one means.
pub(super) fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    out
}

/// `system|code`, `|code`, `system|` or `code`: the system (where it is said) and the code.
pub(super) fn token(text: &str) -> (Option<String>, String) {
    match parts(text, '|').as_slice() {
        [_] => (None, unescaped(text)),
        [system, ..] => {
            let code = text.get(system.len() + 1..).unwrap_or_default();
            (Some(unescaped(system)), unescaped(code))
        }
        [] => (None, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_that_is_escaped_separates_nothing() {
        assert_eq!(alternatives(r"a\,b,,c"), [r"a\,b", "c"]);
        assert_eq!(token(r"http://x|a\|b"), (Some("http://x".to_owned()), "a|b".to_owned()));
        assert_eq!(token("|a"), (Some(String::new()), "a".to_owned()));
        assert_eq!(token("x|"), (Some("x".to_owned()), String::new()));
        assert_eq!(token(r"\"), (None, String::new()));
        assert_eq!(parts("å$b", '$'), ["å", "b"]);
    }
}
