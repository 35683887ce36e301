//! The NHS number: ten digits, the last one a check digit.

use std::fmt;

/// A person's NHS number, ten digits without spaces.
///
/// It identifies a person: `Debug` hides it, there is no `Display`, and [`NhsNumber::as_str`] says it where it must be said.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NhsNumber(String);

/// How a wrong check digit is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checking {
    /// Refuse it. The default.
    #[default]
    Strict,
    /// Keep it; the caller flags it. A quarter of the NHS numbers in published examples fail, so a deployment that
    /// tries out such examples needs this.
    Lenient,
}

/// Why something is not an NHS number. The text says which rule failed and never the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NhsNumberError {
    #[error("An NHS number has digits only, with spaces or hyphens between them at most. Send the ten digits.")]
    NotDigits,
    #[error("An NHS number has 10 digits, this one has {found}. Send the ten digits.")]
    NotTenDigits { found: usize },
    #[error(
        "The NHS number fails its check digit: digit 10 must be 11 minus the remainder by 11 of digits 1 to 9 weighted \
         10 to 2. Check it with the person or on the Personal Demographics Service."
    )]
    CheckDigit,
    #[error(
        "The NHS number can have no check digit: digits 1 to 9 give the check value 10, with which none is issued. Check \
         it with the person or on the Personal Demographics Service."
    )]
    NoCheckDigit,
    #[error("Ten equal digits are nobody's NHS number. Leave it out where it is not known.")]
    EqualDigits,
}

impl NhsNumber {
    /// Reads an NHS number, refusing a wrong check digit.
    pub fn parse(text: &str) -> Result<NhsNumber, NhsNumberError> {
        NhsNumber::parse_as(text, Checking::Strict)
    }

    /// Reads an NHS number. Spaces and hyphens are dropped; ten equal digits stand for an unknown one and are always refused (they
    /// all pass the check, as 999 999 9999 shows).
    ///
    /// The rule is the NHS Data Dictionary's: digits 1 to 9 weighted 10 to 2, the check digit is 11 minus the remainder
    /// of the sum by 11, with 11 written 0 and 10 never issued.
    pub fn parse_as(text: &str, checking: Checking) -> Result<NhsNumber, NhsNumberError> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NhsNumberError::NotDigits);
        }
        if digits.len() != 10 {
            return Err(NhsNumberError::NotTenDigits { found: digits.len() });
        }
        if digits.bytes().all(|b| digits.as_bytes().first() == Some(&b)) {
            return Err(NhsNumberError::EqualDigits);
        }
        match (check(&digits), checking) {
            (Err(why), Checking::Strict) => Err(why),
            _ => Ok(NhsNumber(digits)),
        }
    }

    /// The ten digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ten digits as people read them: `999 000 0018`.
    pub fn spaced(&self) -> String {
        let (area, rest) = self.0.split_at(3);
        let (group, tail) = rest.split_at(3);
        format!("{area} {group} {tail}")
    }

    /// Whether it lies in 999 000 0000 to 999 999 9999, which is never issued to a person.
    pub fn is_test(&self) -> bool {
        self.0.starts_with("999")
    }

    /// Whether the check digit is right; a lenient reading may have kept a wrong one.
    pub fn check_digit_holds(&self) -> bool {
        check(&self.0).is_ok()
    }
}

/// Applies the check digit rule to ten digits.
fn check(digits: &str) -> Result<(), NhsNumberError> {
    let mut values = digits.bytes().map(|b| u32::from(b - b'0'));
    let sum: u32 = values.by_ref().take(9).zip((2..=10).rev()).map(|(digit, weight)| digit * weight).sum();
    match (11 - sum % 11, values.next()) {
        (10, _) => Err(NhsNumberError::NoCheckDigit),
        (expected, Some(found)) if expected % 11 == found => Ok(()),
        _ => Err(NhsNumberError::CheckDigit),
    }
}

impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[nhs number]")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_check_digit_decides() {
        for right in ["9990000018", "9990000026", "9990000034", "9990000042", "9000000009", "9434765919"] {
            assert!(NhsNumber::parse(right).is_ok(), "{right}");
        }
        assert_eq!(NhsNumber::parse("9990000019"), Err(NhsNumberError::CheckDigit));
        assert_eq!(NhsNumber::parse("3478526985"), Err(NhsNumberError::CheckDigit));
    }

    #[test]
    fn a_number_whose_check_value_is_ten_is_never_issued() {
        for last in 0..10 {
            assert_eq!(NhsNumber::parse(&format!("999000000{last}")), Err(NhsNumberError::NoCheckDigit));
        }
    }

    #[test]
    fn spaces_and_hyphens_are_how_people_write_it() {
        let number = NhsNumber::parse(" 999 000-0018 ").unwrap();
        assert_eq!(number.as_str(), "9990000018");
        assert_eq!(number.spaced(), "999 000 0018");
        assert!(number.is_test());
    }

    #[test]
    fn what_is_not_ten_digits_says_so() {
        assert_eq!(NhsNumber::parse(""), Err(NhsNumberError::NotTenDigits { found: 0 }));
        assert_eq!(NhsNumber::parse("99900000181"), Err(NhsNumberError::NotTenDigits { found: 11 }));
        assert_eq!(NhsNumber::parse("999000001x"), Err(NhsNumberError::NotDigits));
        assert_eq!(NhsNumber::parse("９９９００００１８"), Err(NhsNumberError::NotDigits));
    }

    #[test]
    fn ten_equal_digits_pass_the_check_and_are_refused_all_the_same() {
        for digit in 0..10 {
            let equal = digit.to_string().repeat(10);
            assert!(check(&equal).is_ok());
            assert_eq!(NhsNumber::parse_as(&equal, Checking::Lenient), Err(NhsNumberError::EqualDigits));
        }
    }

    #[test]
    fn a_lenient_reading_keeps_a_wrong_check_digit_and_knows_it() {
        let kept = NhsNumber::parse_as("9990000019", Checking::Lenient).unwrap();
        assert!(!kept.check_digit_holds());
        assert_eq!(NhsNumber::parse_as("12345", Checking::Lenient), Err(NhsNumberError::NotTenDigits { found: 5 }));
    }

    #[test]
    fn it_never_shows_itself_unasked() {
        let number = NhsNumber::parse("9990000018").unwrap();
        assert!(!format!("{number:?}").contains("999"));
        for error in [NhsNumberError::CheckDigit, NhsNumberError::NoCheckDigit, NhsNumberError::EqualDigits] {
            assert!(!error.to_string().contains("999"));
        }
    }
}
