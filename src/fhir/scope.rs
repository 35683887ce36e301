//! Scopes: which interactions a client may have with which resource types (SMART App Launch 2, scopes for systems).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::check::is_resource_type;

/// The longest scope list that is read, in octets.
pub const MAX_OCTETS: usize = 8192;
/// The type that stands for all.
const ANY: &str = "*";
/// The letters of SMART v2, in the only order they may come in.
const LETTERS: [(char, Interaction); 5] = [
    ('c', Interaction::Create),
    ('r', Interaction::Read),
    ('u', Interaction::Update),
    ('d', Interaction::Delete),
    ('s', Interaction::Search),
];

/// What one asks to do with a resource, in SMART's five kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interaction {
    /// Type-level create.
    Create,
    /// Instance-level read, vread and history.
    Read,
    /// Instance-level update and patch.
    Update,
    /// Instance-level delete.
    Delete,
    /// Type-level search and history, system-level search and history.
    Search,
}

impl Interaction {
    /// Its letter in a scope.
    pub fn letter(self) -> char {
        match self {
            Interaction::Create => 'c',
            Interaction::Read => 'r',
            Interaction::Update => 'u',
            Interaction::Delete => 'd',
            Interaction::Search => 's',
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Why a scope list cannot be read. `position` counts the scopes from 1; what they said is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    #[error("The scope list is longer than {MAX_OCTETS} octets; ask for fewer scopes.")]
    TooLong,
    #[error("Scope {position} contains a character that no scope may contain; separate scopes with one space.")]
    Character { position: usize },
    #[error(
        "Scope {position} is not system/Type.letters with a resource type or * and letters of cruds in that order, \
         each once (for example system/ServiceRequest.crs), nor the older .read, .write or .*."
    )]
    Malformed { position: usize },
    #[error(
        "Scope {position} names no resource type of FHIR R4; name one, for example system/ServiceRequest.crs, or * for all."
    )]
    UnknownType { position: usize },
    #[error("Scope {position} narrows by a search query, which is not offered; ask for the type without a query.")]
    Narrowed { position: usize },
    #[error("Scope {position} is not a system scope; only system/ scopes are registered here.")]
    NotSystem { position: usize },
}

/// A set of system scopes: for each resource type, or for all, the interactions it allows.
///
/// Displayed in canonical form: SMART v2, `*` first, then by type, each once, nothing that `*` already says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Bits of [`Interaction`] by type; never zero. `*` sorts before every type.
    by_type: BTreeMap<String, u8>,
}

impl Scopes {
    /// Everything with every type.
    pub fn all() -> Scopes {
        let every = LETTERS.iter().fold(0, |bits, (_, interaction)| bits | interaction.bit());
        Scopes { by_type: BTreeMap::from([(ANY.to_owned(), every)]) }
    }

    /// Reads a requested list. Scopes with other prefixes (`patient/`, `user/`, `launch`, `openid`) are passed over:
    /// they are never granted here. A malformed `system/` scope is an error and never read as something near it.
    pub fn parse(list: &str) -> Result<Scopes, InvalidScope> {
        Scopes::read(list, |_| Ok(()), |_| true)
    }

    /// Reads a list that is being registered, where a scope that could never be granted is a mistake.
    pub fn parse_registration(list: &str) -> Result<Scopes, InvalidScope> {
        Scopes::read(list, not_system, |kind| kind == ANY || is_resource_type(kind))
    }

    fn read(
        list: &str,
        foreign: impl Fn(usize) -> Result<(), InvalidScope>,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Scopes, InvalidScope> {
        if list.len() > MAX_OCTETS {
            return Err(InvalidScope::TooLong);
        }
        let mut by_type = BTreeMap::new();
        for (index, scope) in list.split(' ').filter(|scope| !scope.is_empty()).enumerate() {
            let position = index + 1;
            if !scope.bytes().all(is_scope_character) {
                return Err(InvalidScope::Character { position });
            }
            match scope.strip_prefix("system/") {
                None => foreign(position)?,
                Some(rest) if rest.contains('?') => return Err(InvalidScope::Narrowed { position }),
                Some(rest) => {
                    let (resource_type, bits) = system_scope(rest).ok_or(InvalidScope::Malformed { position })?;
                    if !is_known(resource_type) {
                        return Err(InvalidScope::UnknownType { position });
                    }
                    *by_type.entry(resource_type.to_owned()).or_default() |= bits;
                }
            }
        }
        Ok(Scopes::canonical(by_type))
    }

    /// What of this request a client registered for `registered` gets: the intersection. `None` when that is nothing,
    /// which the token endpoint answers with `invalid_scope`.
    pub fn granted(&self, registered: &Scopes) -> Option<Scopes> {
        let types = self.by_type.keys().chain(registered.by_type.keys());
        let by_type = types.map(|t| (t.clone(), self.bits(t) & registered.bits(t))).collect();
        Some(Scopes::canonical(by_type)).filter(|granted| !granted.is_empty())
    }

    /// Whether the interaction with this resource type is among them.
    pub fn allows(&self, resource_type: &str, interaction: Interaction) -> bool {
        self.bits(resource_type) & interaction.bit() != 0
    }

    /// Whether they allow nothing at all.
    pub fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    fn bits(&self, resource_type: &str) -> u8 {
        let of = |name: &str| self.by_type.get(name).copied().unwrap_or_default();
        of(resource_type) | of(ANY)
    }

    fn canonical(mut by_type: BTreeMap<String, u8>) -> Scopes {
        let any = by_type.get(ANY).copied().unwrap_or_default();
        by_type.retain(|name, bits| if name == ANY { *bits != 0 } else { *bits & !any != 0 });
        for bits in by_type.values_mut() {
            *bits |= any;
        }
        Scopes { by_type }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (resource_type, bits)) in self.by_type.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}system/{resource_type}.")?;
            for (letter, interaction) in LETTERS {
                if bits & interaction.bit() != 0 {
                    write!(f, "{letter}")?;
                }
            }
        }
        Ok(())
    }
}

/// Reads what [`Scopes`] displays, as it comes back from the database. What was registered before types were looked at still
/// reads, so that nobody is shut out.
impl FromStr for Scopes {
    type Err = InvalidScope;

    fn from_str(list: &str) -> Result<Scopes, InvalidScope> {
        Scopes::read(list, not_system, |_| true)
    }
}

fn not_system(position: usize) -> Result<(), InvalidScope> {
    Err(InvalidScope::NotSystem { position })
}

/// `scope-token` of RFC 6749 appendix A.4.
fn is_scope_character(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)
}

/// The type and the interactions of `Type.letters`.
fn system_scope(text: &str) -> Option<(&str, u8)> {
    let (resource_type, letters) = text.split_once('.')?;
    let is_type = resource_type == ANY
        || resource_type.starts_with(|first: char| first.is_ascii_uppercase())
            && resource_type.bytes().all(|byte| byte.is_ascii_alphabetic())
            && resource_type.len() <= 64;
    let bits = match letters {
        // SMART v1, and what v2 says it means.
        "read" => Interaction::Read.bit() | Interaction::Search.bit(),
        "write" => Interaction::Create.bit() | Interaction::Update.bit() | Interaction::Delete.bit(),
        "*" => LETTERS.iter().fold(0, |bits, (_, interaction)| bits | interaction.bit()),
        letters => letters_in_order(letters)?,
    };
    is_type.then_some((resource_type, bits))
}

fn letters_in_order(letters: &str) -> Option<u8> {
    let mut still = LETTERS.iter();
    let mut bits = 0;
    for letter in letters.chars() {
        let (_, interaction) = still.find(|(next, _)| *next == letter)?;
        bits |= interaction.bit();
    }
    (bits != 0).then_some(bits)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes(list: &str) -> Scopes {
        Scopes::parse(list).unwrap()
    }

    /// Every arrangement of one to five different letters of `cruds`.
    fn arrangements() -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..5 {
            let until = all.len();
            for index in from..until {
                for letter in "cruds".chars().filter(|l| !all[index].contains(*l)).collect::<Vec<_>>() {
                    all.push(format!("{}{letter}", all[index]));
                }
            }
            from = until;
        }
        all.split_off(1)
    }

    #[test]
    fn of_the_325_arrangements_of_cruds_the_31_in_order_are_read_and_294_refused() {
        let all = arrangements();
        assert_eq!(all.len(), 325);
        let mut read = 0;
        for letters in &all {
            let in_order = "cruds".chars().filter(|l| letters.contains(*l)).collect::<String>() == *letters;
            let text = format!("system/Task.{letters}");
            match Scopes::parse(&text) {
                Ok(scopes) => {
                    read += 1;
                    assert!(in_order, "{text} was read");
                    assert_eq!(scopes.to_string(), text);
                    for (letter, interaction) in LETTERS {
                        assert_eq!(scopes.allows("Task", interaction), letters.contains(letter), "{text} {letter}");
                        assert!(!scopes.allows("Patient", interaction));
                    }
                }
                Err(error) => {
                    assert!(!in_order, "{text} was refused");
                    assert_eq!(error, InvalidScope::Malformed { position: 1 });
                }
            }
        }
        assert_eq!((read, all.len() - read), (31, 294));
    }

    #[test]
    fn the_older_words_mean_what_version_2_says() {
        assert_eq!(scopes("system/Patient.read").to_string(), "system/Patient.rs");
        assert_eq!(scopes("system/Patient.write").to_string(), "system/Patient.cud");
        assert_eq!(scopes("system/Patient.*").to_string(), "system/Patient.cruds");
        assert_eq!(scopes("system/*.read").to_string(), "system/*.rs");
        assert_eq!(scopes("system/*.*").to_string(), "system/*.cruds");
        assert_eq!(scopes("system/Patient.read system/Patient.write").to_string(), "system/Patient.cruds");
    }

    #[test]
    fn a_malformed_system_scope_is_never_read_as_something_near_it() {
        for text in [
            "system/",
            "system/.rs",
            "system/Task",
            "system/Task.",
            "system/Task.rr",
            "system/Task.rsx",
            "system/Task.RS",
            "system/task.rs",
            "system/Task.rs.rs",
            "system/Task/rs",
            "system/Ta*.rs",
            "system/**.rs",
            "system/Task.r*",
            "system/Task.readwrite",
            "system/Task.Read",
            "system/Task .rs",
            "system/Task1.rs",
            "system/Task.rs,c",
            "system/Task.all",
        ] {
            assert!(Scopes::parse(text).is_err(), "{text}");
            assert!(Scopes::parse(&format!("system/Patient.rs {text}")).is_err(), "{text} after a good one");
        }
        assert_eq!(
            Scopes::parse("system/Patient.rs system/Observation.rs?category=laboratory"),
            Err(InvalidScope::Narrowed { position: 2 })
        );
        for text in
            ["system/Task.rs\tsystem/Patient.rs", "system/Task.rs\n", "system/T\u{e4}sk.rs", "a\"b", "a\\b", "\0"]
        {
            assert_eq!(Scopes::parse(text), Err(InvalidScope::Character { position: 1 }), "{text:?}");
        }
        assert_eq!(Scopes::parse(&"system/Task.rs ".repeat(1000)), Err(InvalidScope::TooLong));
    }

    #[test]
    fn scopes_of_people_and_launches_are_never_granted() {
        let asked =
            scopes("openid fhirUser launch patient/*.cruds user/Task.rs offline_access SYSTEM/Task.rs system/Task.r");
        assert_eq!(asked.to_string(), "system/Task.r");
        assert!(scopes("openid patient/*.cruds").is_empty());
        assert_eq!(scopes("patient/*.cruds").granted(&scopes("system/*.cruds")), None);
        assert_eq!(
            Scopes::parse_registration("system/Task.rs user/Task.rs"),
            Err(InvalidScope::NotSystem { position: 2 })
        );
        assert_eq!(Scopes::parse_registration("sytem/Task.rs"), Err(InvalidScope::NotSystem { position: 1 }));
    }

    #[test]
    fn a_type_that_does_not_exist_is_not_registered_and_shuts_out_nobody_who_is() {
        for text in ["system/Foo.r", "system/Referral.cruds", "system/Tasks.rs"] {
            let refused = Scopes::parse_registration(&format!("system/*.r {text}"));
            assert_eq!(refused, Err(InvalidScope::UnknownType { position: 2 }), "{text}");
            // Kept from before, or only asked for, it grants nothing.
            assert_eq!(scopes(text).granted(&scopes("system/Task.cruds")), None);
            assert!(text.parse::<Scopes>().is_ok());
        }
        assert!("user/Task.rs".parse::<Scopes>().is_err());
        assert!(Scopes::parse_registration("system/*.cruds system/ServiceRequest.rs").is_ok());
    }

    #[test]
    fn what_is_granted_is_what_is_both_asked_and_registered() {
        for (asked, registered, granted) in [
            ("system/Task.cruds", "system/Task.rs", Some("system/Task.rs")),
            ("system/Task.rs", "system/Task.cud", None),
            ("system/Task.rs", "system/Patient.rs", None),
            ("", "system/*.cruds", None),
            ("system/*.rs", "system/Task.r system/Patient.cs", Some("system/Patient.s system/Task.r")),
            ("system/Task.cr system/Patient.rs", "system/*.rs", Some("system/Patient.rs system/Task.r")),
            ("system/*.cruds", "system/*.rs system/Task.u", Some("system/*.rs system/Task.rus")),
            ("system/*.r system/Task.u", "system/*.u system/Patient.r", Some("system/Patient.r system/Task.u")),
            ("system/*.r", "system/*.r system/Task.r", Some("system/*.r")),
            ("system/Task.read", "system/Task.*", Some("system/Task.rs")),
        ] {
            let answer = scopes(asked).granted(&scopes(registered)).map(|scopes| scopes.to_string());
            assert_eq!(answer.as_deref(), granted, "{asked} of {registered}");
        }
    }

    fn any_scopes() -> impl Strategy<Value = Scopes> {
        prop::collection::btree_map("(\\*|Task|Patient|Observation)", 1u8..32, 0..4).prop_map(Scopes::canonical)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn granting_never_adds_and_never_loses(asked in any_scopes(), registered in any_scopes()) {
            let granted = asked.granted(&registered).unwrap_or_default();
            for resource_type in ["Task", "Patient", "Observation", "Consent"] {
                for (_, interaction) in LETTERS {
                    let both = asked.allows(resource_type, interaction) && registered.allows(resource_type, interaction);
                    prop_assert_eq!(granted.allows(resource_type, interaction), both);
                }
            }
            prop_assert_eq!(granted.to_string().parse::<Scopes>().unwrap(), granted);
        }

        #[test]
        fn no_text_stops_the_reader(text in "\\PC{0,60}|(system/[A-Za-z*.?]{0,12} ?){0,4}") {
            if let Ok(scopes) = Scopes::parse(&text) {
                prop_assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
            }
        }
    }
}
