//! The values of a parameter, by its value type and modifier.

use super::compare;
use super::criterion::{Criterion, Persons, Span, Unit, Word};
use super::grammar::{Context, composite};
use super::parameters::{Compares, Param};
use super::rows::moment;
use super::text::{beginning, bounded, folded};
use super::words::{alternatives, parts, token, unescaped};
use crate::fhir::check::is_resource_type;
use crate::fhir::systems::NHS_NUMBER;

/// Codes that `:in` takes from a value set at most.
const LARGEST_VALUE_SET: usize = 400;
/// Types that the id alone of a reference is tried with.
const MOST_TARGETS: usize = 16;

/// Why a value or a modifier does not fit its parameter.
pub(super) struct Unfit(pub(super) String);

impl Unfit {
    pub(super) fn new(text: impl Into<String>) -> Unfit {
        Unfit(text.into())
    }
}

pub(super) fn criterion(
    context: &Context<'_>,
    param: &Param,
    modifier: Option<&str>,
    value: &str,
) -> Result<Criterion, Unfit> {
    match (param.compares, modifier) {
        (Compares::Token, _) => tokens(context, param, modifier, value),
        (Compares::Reference, _) => references(context, param, modifier, value),
        (Compares::String, None) => strings(param, value, |text| Word::Begins(beginning(&folded(text)).to_owned())),
        (Compares::String, Some("contains")) => {
            strings(param, value, |text| Word::Contains(beginning(&folded(text)).to_owned()))
        }
        (Compares::String, Some("exact")) => strings(param, value, |text| Word::Is {
            value: beginning(&folded(text)).to_owned(),
            system: Some(bounded(text)),
        }),
        (Compares::Uri, None | Some("below" | "above")) => Ok(uris(param, modifier, value)),
        (Compares::Date, None) => {
            let spans = each(value, |one| {
                compare::times(one, context.now).ok_or_else(|| Unfit::new("This is not a FHIR date or time."))
            })?;
            Ok(Criterion::Times { params: named(param, ""), any: spans.into_iter().flatten().collect() })
        }
        (Compares::Number | Compares::Quantity, None) => {
            let number = param.compares == Compares::Number;
            let read = |one: &str| match compare::quantity(one) {
                Some((_, unit)) if number && unit != Unit::default() => Err(Unfit::new("This is a number alone.")),
                Some(quantity) => Ok(quantity),
                None => Err(Unfit::new("This is a number, or number|system|code, with a prefix or without.")),
            };
            let any = each(value, read)?
                .into_iter()
                .flat_map(|(spans, unit)| spans.into_iter().map(move |span| (span, unit.clone())).collect::<Vec<_>>());
            Ok(Criterion::Numbers { params: named(param, ""), any: any.collect() })
        }
        (Compares::Composite, None) => {
            Ok(Criterion::Pairs { params: named(param, ""), any: composite(context, param, value)? })
        }
        (_, Some(_)) => Err(no_modifier(param)),
    }
}

fn each<T>(value: &str, read: impl Fn(&str) -> Result<T, Unfit>) -> Result<Vec<T>, Unfit> {
    alternatives(value).into_iter().map(|one| read(&unescaped(one))).collect()
}

fn no_modifier(param: &Param) -> Unfit {
    let known = match param.compares {
        Compares::Token => ":not, :text, :in, :not-in, :of-type (identifiers) and :missing",
        Compares::Reference => ":identifier, :missing and the name of a type",
        Compares::String => ":exact, :contains and :missing",
        Compares::Uri => ":below, :above and :missing",
        _ => ":missing",
    };
    Unfit::new(format!("This parameter is not searched with that modifier. It has {known}."))
}

/// The codes under which a parameter's values stand.
fn named(param: &Param, further: &str) -> Vec<String> {
    param.stands.iter().map(|code| format!("{code}{further}")).collect()
}

fn words(param: &Param, further: &str, any: Vec<Word>, not: bool) -> Criterion {
    Criterion::Words { params: named(param, further), any, not }
}

fn tokens(context: &Context<'_>, param: &Param, modifier: Option<&str>, value: &str) -> Result<Criterion, Unfit> {
    match modifier {
        None | Some("not") => {
            let any = alternatives(value).into_iter().filter_map(|one| coded(param, token(one))).collect();
            Ok(words(param, "", any, modifier.is_some()))
        }
        Some("text") => {
            strings(param, value, |text| Word::Begins(beginning(&folded(text)).to_owned())).map(|found| match found {
                Criterion::Words { any, .. } => words(param, ":text", any, false),
                other => other,
            })
        }
        Some("in" | "not-in") => {
            let codes = (context.value_set)(&unescaped(value))
                .ok_or_else(|| Unfit::new("This value set is not one of ours, or cannot be listed."))?;
            if codes.len() > LARGEST_VALUE_SET {
                let text = format!("A search takes value sets of at most {LARGEST_VALUE_SET} codes.");
                return Err(Unfit::new(text));
            }
            let any = codes.into_iter().filter_map(|(system, code)| coded(param, (Some(system), code))).collect();
            Ok(words(param, "", any, modifier == Some("not-in")))
        }
        Some("of-type") => {
            let read = |one: &&str| match parts(one, '|').as_slice() {
                [system, code, value] if !code.is_empty() && !value.is_empty() => Ok(Word::Is {
                    value: bounded(&format!("{}|{}", unescaped(code), unescaped(value))),
                    system: Some(bounded(&unescaped(system))),
                }),
                _ => Err(Unfit::new(":of-type takes system|code|value, of the identifier's type and its value.")),
            };
            let any: Result<Vec<_>, _> = alternatives(value).iter().map(read).collect();
            Ok(words(param, ":of-type", any?, false))
        }
        Some(_) => Err(no_modifier(param)),
    }
}

/// A token of this parameter. A bare code belongs to the systems of its required value set; in another it is none.
fn coded(param: &Param, (system, code): (Option<String>, String)) -> Option<Word> {
    let system = match system {
        Some(system) if !param.systems.is_empty() && !system.is_empty() => {
            param.systems.contains(&system.as_str()).then(String::new).map(Some)?
        }
        other => other.map(|system| bounded(&system)),
    };
    Some(match (system, code.is_empty()) {
        (Some(system), true) => Word::Of(system),
        (system, _) => Word::Is { value: bounded(&code), system },
    })
}

fn strings(param: &Param, value: &str, word: impl Fn(&str) -> Word) -> Result<Criterion, Unfit> {
    let read = |one: &str| {
        if folded(one).is_empty() { Err(Unfit::new("This value has no letter to be found by.")) } else { Ok(word(one)) }
    };
    Ok(words(param, "", each(value, read)?, false))
}

fn uris(param: &Param, modifier: Option<&str>, value: &str) -> Criterion {
    let mut any = Vec::new();
    for uri in alternatives(value).into_iter().map(unescaped) {
        match modifier {
            Some("below") => any.push(Word::Begins(format!("{}/", beginning(uri.trim_end_matches('/'))))),
            Some(_) => {
                let scheme = uri.find("://").map_or(0, |at| at + 3);
                let parents = uri.char_indices().filter(|(at, c)| *c == '/' && *at >= scheme);
                any.extend(parents.filter_map(|(at, _)| uri.get(..at)).take(32).map(|u| Word::of_value(bounded(u))));
            }
            None => any.extend(versions_of(param, &uri)),
        }
        any.push(Word::of_value(bounded(&uri)));
    }
    words(param, "", any, false)
}

/// Any version of a canonical that names none.
fn versions_of(param: &Param, canonical: &str) -> Option<Word> {
    (param.is_canonical() && !canonical.contains('|')).then(|| Word::Begins(format!("{}|", beginning(canonical))))
}

/// `Type/id` of a reference into this service, relative or absolute; `None` for anything else.
pub(super) fn local<'a>(base: &str, reference: &'a str) -> Option<(&'a str, &'a str)> {
    let relative = match reference.strip_prefix(base).filter(|_| !base.is_empty()) {
        Some(rest) => rest.strip_prefix('/')?,
        None => reference,
    };
    let relative = relative.split("/_history/").next()?;
    let (kind, id) = relative.split_once('/')?;
    (is_resource_type(kind) && !id.is_empty() && !id.contains('/')).then_some((kind, id))
}

fn references(context: &Context<'_>, param: &Param, modifier: Option<&str>, value: &str) -> Result<Criterion, Unfit> {
    if modifier == Some("identifier") {
        if param.person {
            return Ok(persons_by_identifier(&named(param, ""), value));
        }
        let any = alternatives(value).into_iter().map(|one| identified(token(one))).collect();
        return Ok(words(param, ":identifier", any, false));
    }
    if modifier.is_some_and(|kind| !is_resource_type(kind)) {
        return Err(no_modifier(param));
    }
    let of_kind = modifier.or(param.only);
    let mut any = Vec::new();
    let mut persons = Persons::default();
    for one in alternatives(value).into_iter().map(unescaped) {
        match local(context.base, &one) {
            Some((kind, id)) if of_kind.is_none_or(|only| only == kind) => {
                any.extend([format!("{kind}/{id}"), format!("{}/{kind}/{id}", context.base)]);
                persons.patients.extend((kind == "Patient").then(|| id.to_owned()));
            }
            Some(_) => {}
            None if one.contains(['/', ':']) => {
                if of_kind.is_none_or(|only| one.contains(&format!("/{only}/"))) {
                    any.push(one);
                }
            }
            None => {
                let kinds = of_kind.map_or_else(|| param.targets.clone(), |kind| vec![kind]);
                if kinds.is_empty() || kinds.len() > MOST_TARGETS {
                    return Err(Unfit::new("This reference may lead to many types. Write it as Type/id."));
                }
                persons.patients.extend(kinds.contains(&"Patient").then(|| one.clone()));
                any.extend(kinds.iter().map(|kind| format!("{kind}/{one}")));
            }
        }
    }
    let versions: Vec<Word> = any.iter().filter_map(|one| versions_of(param, one)).collect();
    let any = any.iter().map(|one| Word::of_value(bounded(one))).chain(versions).collect();
    let found = words(param, "", any, false);
    Ok(if param.person && !persons.is_empty() {
        Criterion::Any(vec![Criterion::Persons(persons), found])
    } else {
        found
    })
}

fn identified((system, value): (Option<String>, String)) -> Word {
    match system {
        Some(system) if value.is_empty() => Word::Of(bounded(&system)),
        system => Word::Is { value: bounded(&value), system: system.map(|s| bounded(&s)) },
    }
}

/// That a resource is about someone with one of these identifiers, or says so itself.
pub(super) fn persons_by_identifier(params: &[String], value: &str) -> Criterion {
    let tokens: Vec<_> = alternatives(value).into_iter().map(token).collect();
    let mut persons = Persons::default();
    for (system, value) in &tokens {
        if system.as_deref().is_none_or(|system| system == NHS_NUMBER) {
            persons.nhs_numbers.push(value.chars().filter(|c| !c.is_whitespace() && *c != '-').collect());
        }
        persons.identifiers.push((system.as_deref().map(bounded), bounded(value)));
    }
    let params = params.iter().map(|code| format!("{code}:identifier")).collect();
    let any = tokens.into_iter().map(identified).collect();
    Criterion::Any(vec![Criterion::Persons(persons), Criterion::Words { params, any, not: false }])
}

/// One side of a composite that is a word.
pub(super) fn side(context: &Context<'_>, compares: Compares, value: &str) -> Vec<Word> {
    match compares {
        Compares::String => vec![Word::Begins(beginning(&folded(&unescaped(value))).to_owned())],
        Compares::Reference => {
            let said = unescaped(value);
            let local = local(context.base, &said).map(|(kind, id)| format!("{kind}/{id}"));
            vec![Word::of_value(bounded(&local.unwrap_or(said)))]
        }
        Compares::Uri => vec![Word::of_value(bounded(&unescaped(value)))],
        _ => vec![identified(token(value))],
    }
}

/// The span of times as one of numbers, as composites keep it.
pub(super) fn as_numbers(span: Span<i64>) -> Span<f64> {
    let ends = |(from, to): (i64, i64)| (moment(from).0, moment(to).0);
    Span { low: ends(span.low), high: ends(span.high) }
}
