//! From what a search asks to SQL over the index.
//!
//! The row filter is compiled into every part that looks at another resource: what a chain, a `_has` or a person's
//! identifier leads through is seen as the caller sees it, so that a search tells nothing that reading would not.

use std::collections::BTreeSet;

use super::query::Query;
use super::{At, Sight};
use crate::fhir::search::{
    Column, Criterion, Link, Pair, Persons, QueueTest, Second, Span, Table, Unit, Word, column_target,
};
use crate::pathway::referral::priority_rank;

/// Adds ` where r.kind = ...` and all that restricts `resource r`, the row filter last.
pub(super) fn matching(query: &mut Query, kind: &str, criteria: &[Criterion], sight: &Sight) {
    query.push(" where r.kind = ").bind(kind).push(" and not r.deleted");
    for criterion in criteria {
        restrict(query, kind, criterion, sight);
    }
    sight.restrict(query);
}

/// Adds ` and ...`: one condition on `resource r`.
pub(super) fn restrict(query: &mut Query, kind: &str, criterion: &Criterion, sight: &Sight) {
    match criterion {
        Criterion::Ids(ids) => {
            list(query.push(" and r.id in "), ids);
        }
        Criterion::LastUpdated(from, before) => {
            query.push(" and r.updated_at >= ").bind(*from).push(" and r.updated_at < ").bind(*before);
        }
        Criterion::Words { params, any, not: true } => {
            query.push(" and not exists (select 1 from lookup l where l.id = r.id and l.kind = ").bind(kind);
            list(query.push(" and l.param in "), params);
            words(query.push(" and "), any);
            query.push(")");
        }
        Criterion::Missing { link, table, missing } => absent(query, kind, link, *table, *missing),
        other => {
            query.push(" and r.id in (");
            ids(query, kind, other, sight);
            query.push(")");
        }
    }
}

/// A statement that answers the ids of resources of this kind of which the condition holds.
fn ids(query: &mut Query, kind: &str, criterion: &Criterion, sight: &Sight) {
    match criterion {
        Criterion::Words { params, any, not: false } => {
            rows(query.push("select l.id from lookup l where l.kind = "), kind, params);
            words(query.push(" and "), any);
        }
        Criterion::Times { params, any } => {
            rows(query.push("select l.id from lookup_time l where l.kind = "), kind, params);
            one_of(query, any, span);
        }
        Criterion::Numbers { params, any } => {
            rows(query.push("select l.id from lookup_number l where l.kind = "), kind, params);
            one_of(query, any, |query, (at, unit)| {
                span(query, at);
                unit_is(query, unit, ["l.system = ", "l.code = ", "l.unit = "]);
            });
        }
        Criterion::Pairs { params, any } => {
            rows(query.push("select l.id from lookup_pair l where l.kind = "), kind, params);
            one_of(query, any, pair);
        }
        Criterion::Persons(named) => {
            of_people(query, kind, |query| persons(query, named, sight));
        }
        Criterion::Chain { link, kind: target, criteria } => chain(query, kind, link, target, criteria, sight),
        Criterion::Has { link, kind: from, criteria } => has(query, kind, link, from, criteria, sight),
        Criterion::Any(any) if !any.is_empty() => {
            for (at, one) in any.iter().enumerate() {
                query.push(if at == 0 { "" } else { " union all " });
                ids(query, kind, one, sight);
            }
        }
        Criterion::Queue(test) => {
            query.push("select t.id from task t where 1 = 1");
            queue(query, test);
        }
        Criterion::Ids(_)
        | Criterion::LastUpdated(..)
        | Criterion::Missing { .. }
        | Criterion::Words { not: true, .. } => {
            query.push("select r.id from resource r where r.kind = ").bind(kind);
            restrict(query, kind, criterion, sight);
        }
        Criterion::Any(_) | Criterion::Nothing => {
            query.push("select '' where 1 = 0");
        }
    }
}

pub(super) fn list<T: AsRef<str>>(query: &mut Query, values: &[T]) {
    query.push("(");
    if values.is_empty() {
        query.push("null");
    }
    for (at, value) in values.iter().enumerate() {
        query.push(if at == 0 { "" } else { ", " }).bind(value.as_ref());
    }
    query.push(")");
}

fn rows(query: &mut Query, kind: &str, params: &[String]) {
    list(query.bind(kind).push(" and l.param in "), params);
}

fn one_of<T>(query: &mut Query, any: &[T], mut one: impl FnMut(&mut Query, &T)) {
    query.push(" and (1 = 0");
    for test in any {
        query.push(" or (1 = 1");
        one(query, test);
        query.push(")");
    }
    query.push(")");
}

fn words(query: &mut Query, any: &[Word]) {
    // In one list where only the value counts: databases bound how deep alternatives nest.
    let (plain, other): (Vec<_>, Vec<_>) = any.iter().partition(|word| matches!(word, Word::Is { system: None, .. }));
    let plain = plain.into_iter().filter_map(|word| match word {
        Word::Is { value, .. } => Some(value),
        _ => None,
    });
    list(query.push("(l.value in "), &plain.collect::<Vec<_>>());
    for word in other {
        query.push(" or ");
        word_is(query, word, "l.value", "l.system");
    }
    query.push(")");
}

fn word_is(query: &mut Query, word: &Word, value: &'static str, system: &'static str) {
    match word {
        Word::Is { value: wanted, system: None } => {
            query.push(value).push(" = ").bind(wanted.as_str());
        }
        Word::Is { value: wanted, system: Some(of) } => {
            query.push("(").push(value).push(" = ").bind(wanted.as_str());
            query.push(" and ").push(system).push(" = ").bind(of.as_str()).push(")");
        }
        Word::Of(of) => {
            query.push(system).push(" = ").bind(of.as_str());
        }
        Word::Begins(start) => {
            query.push("(").push(value).push(" >= ").bind(start.as_str());
            query.push(" and ").push(value).push(" < ").bind(format!("{start}\u{10FFFF}")).push(")");
        }
        Word::Contains(part) => {
            // Both databases know this sign for "any text"; the escape makes what was asked for mean itself.
            let escaped: String =
                part.chars().flat_map(|c| matches!(c, '%' | '_' | '!').then_some('!').into_iter().chain([c])).collect();
            query.push(value).push(" like ").bind(format!("%{escaped}%")).push(" escape '!'");
        }
    }
}

/// ` and ...`: the interval of `l` lies so. Bounds that restrict nothing are left out.
fn span<T: Copy + PartialEq + Ends + Into<super::query::Bind>>(query: &mut Query, at: &Span<T>) {
    let ends = [(" and l.low >= ", at.low.0, T::LEAST), (" and l.low <= ", at.low.1, T::MOST)];
    let high = [(" and l.high >= ", at.high.0, T::LEAST), (" and l.high <= ", at.high.1, T::MOST)];
    for (text, bound, nothing) in ends.into_iter().chain(high) {
        if bound != nothing {
            query.push(text).bind(bound);
        }
    }
}

/// The bounds that restrict nothing.
trait Ends {
    const LEAST: Self;
    const MOST: Self;
}

impl Ends for i64 {
    const LEAST: i64 = i64::MIN;
    const MOST: i64 = i64::MAX;
}

impl Ends for f64 {
    const LEAST: f64 = f64::MIN;
    const MOST: f64 = f64::MAX;
}

fn unit_is(query: &mut Query, unit: &Unit, [system, code, as_written]: [&'static str; 3]) {
    if let Some(of) = &unit.system {
        query.push(" and ").push(system).bind(of.as_str());
    }
    match (&unit.system, &unit.code) {
        (Some(_), Some(wanted)) => {
            query.push(" and ").push(code).bind(wanted.as_str());
        }
        (None, Some(wanted)) => {
            query.push(" and (").push(code).bind(wanted.as_str());
            query.push(" or ").push(as_written).bind(wanted.as_str()).push(")");
        }
        (_, None) => {}
    }
}

fn pair(query: &mut Query, pair: &Pair) {
    word_is(query.push(" and "), &pair.first, "l.value", "l.system");
    match &pair.second {
        Second::Word(word) => word_is(query.push(" and "), word, "l.other", "l.other_system"),
        Second::Range(spans, unit) => {
            one_of(query, spans, span);
            unit_is(query, unit, ["l.other_system = ", "l.other = ", "l.other = "]);
        }
    }
}

/// `missing`: nothing of the resource leads there.
fn absent(query: &mut Query, kind: &str, link: &Link, table: Table, missing: bool) {
    query.push(if missing { " and not (" } else { " and (" });
    query.push("exists (select 1 from ").push(match table {
        Table::Words => "lookup",
        Table::Times => "lookup_time",
        Table::Numbers => "lookup_number",
        Table::Pairs => "lookup_pair",
    });
    query.push(" l where l.id = r.id and l.kind = ").bind(kind);
    list(query.push(" and l.param in "), &link.params);
    query.push(if link.person { ") or r.person <> '')" } else { "))" });
}

/// Ids of the resources of a kind that are about one of the people a statement answers.
fn of_people(query: &mut Query, kind: &str, people: impl FnOnce(&mut Query)) {
    query.push("select q.id from resource q where q.kind = ").bind(kind).push(" and q.person <> '' and q.person in (");
    people(query);
    query.push(")");
}

/// The people who are named so. The number of a person is no secret to who asks by it, and the rows it leads to are
/// filtered: an answer without rows is the same for a person who is not there and one the caller may not see.
pub(super) fn persons(query: &mut Query, named: &Persons, sight: &Sight) {
    query.push("select p.id from person p where p.id in ");
    list(query, &named.patients);
    if !named.nhs_numbers.is_empty() {
        list(query.push(" union select p.id from person p where p.nhs_number in "), &named.nhs_numbers);
    }
    if !named.patients.is_empty() {
        let criteria = [Criterion::Ids(named.patients.clone())];
        query.push(" union ");
        people_of_patients(query, &criteria, sight);
    }
    if !named.identifiers.is_empty() {
        let word =
            |(system, value): &(Option<String>, String)| Word::Is { value: value.clone(), system: system.clone() };
        let any = named.identifiers.iter().map(word).collect();
        let criteria = [Criterion::Words { params: vec!["identifier".to_owned()], any, not: false }];
        query.push(" union ");
        people_of_patients(query, &criteria, sight);
    }
}

/// The people whose Patient, ours or a sender's, the caller may see and is so.
pub(super) fn people_of_patients(query: &mut Query, criteria: &[Criterion], sight: &Sight) {
    query.push("select r.person from resource r");
    matching(query, "Patient", criteria, sight);
    query.push(" and r.person <> ''");
}

fn chain(query: &mut Query, kind: &str, link: &Link, target: &str, criteria: &[Criterion], sight: &Sight) {
    if let Some(column) = link.column {
        query.push("select t.id from task t where ").push(column_name(column)).push(" in (");
        query.push(if column == Column::Owner { "select 'PractitionerRole/' || r.id" } else { "select r.id" });
        matching(query.push(" from resource r"), target, criteria, sight);
        query.push(")");
        return;
    }
    rows(query.push("select l.id from lookup l where l.kind = "), kind, &link.params);
    query.push(" and l.value in (select ").bind(format!("{target}/")).push(" || r.id from resource r");
    matching(query, target, criteria, sight);
    query.push(")");
    if link.person && target == "Patient" {
        query.push(" union all ");
        of_people(query, kind, |query| people_of_patients(query, criteria, sight));
    }
}

fn has(query: &mut Query, kind: &str, link: &Link, from: &str, criteria: &[Criterion], sight: &Sight) {
    if let Some(column) = link.column {
        match column {
            Column::Owner => query.push("select substr(t.owner, 18)"),
            other => query.push("select ").push(column_name(other)),
        };
        query.push(" from task t where t.id in (select r.id from resource r");
        matching(query, from, criteria, sight);
        query.push(") and ").push(column_name(column)).push(" <> ''");
        return;
    }
    let to = format!("{kind}/");
    // Characters, and every character of a resource type is one byte.
    let behind = i64::try_from(to.len()).unwrap_or(0) + 1;
    query
        .push("select substr(l.value, cast(")
        .bind(behind)
        .push(" as integer)) from lookup l where l.kind = ")
        .bind(from);
    list(query.push(" and l.param in "), &link.params);
    query.push(" and l.value >= ").bind(to.as_str()).push(" and l.value < ").bind(format!("{kind}0"));
    query.push(" and l.id in (select r.id from resource r");
    matching(query, from, criteria, sight);
    query.push(")");
    if link.person && kind == "Patient" {
        query.push(
            " union all select q.id from resource q where q.kind = 'Patient' and q.person <> '' and q.person in (",
        );
        query.push("select r.person from resource r");
        matching(query, from, criteria, sight);
        query.push(" and r.person <> '')");
    }
}

/// Ids of the resources of a kind that refer by one of these links to one of these (type, id).
pub(super) fn referring(query: &mut Query, kind: &str, links: &[Link], to: &BTreeSet<(String, String)>, sight: &Sight) {
    let params: Vec<&String> = links.iter().flat_map(|link| &link.params).collect();
    let values: Vec<String> = to.iter().map(|(kind, id)| format!("{kind}/{id}")).collect();
    list(query.push("select l.id from lookup l where l.kind = ").bind(kind).push(" and l.param in "), &params);
    list(query.push(" and l.value in "), &values);
    for column in links.iter().filter_map(|link| link.column) {
        let ids = to.iter().filter(|(kind, _)| Some(kind.as_str()) == column_target(column));
        let ids = ids.map(|(kind, id)| if column == Column::Owner { format!("{kind}/{id}") } else { id.clone() });
        query.push(" union all select t.id from task t where ").push(column_name(column));
        list(query.push(" in "), &ids.collect::<Vec<_>>());
    }
    let patients: Vec<String> = to.iter().filter(|(kind, _)| kind == "Patient").map(|(_, id)| id.clone()).collect();
    if links.iter().any(|link| link.person) && !patients.is_empty() {
        query.push(" union all ");
        of_people(query, kind, |query| people_of_patients(query, &[Criterion::Ids(patients)], sight));
    }
}

pub(super) fn column_name(column: Column) -> &'static str {
    match column {
        Column::Status => "t.status",
        Column::Code => "t.code",
        Column::Role => "t.role",
        Column::Priority => "t.priority",
        Column::Owner => "t.owner",
        Column::Referral => "t.referral",
        Column::Locality => "t.locality",
        Column::Due => "t.due",
    }
}

/// ` and ...`: a condition on `task t`.
pub(super) fn queue(query: &mut Query, test: &QueueTest) {
    match test {
        QueueTest::Is { column: Column::Priority, any, not } => {
            query.push(if *not { " and t.priority not in (" } else { " and t.priority in (" });
            for (at, code) in any.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).bind(i64::from(priority_rank(code)));
            }
            query.push(")");
        }
        QueueTest::Is { column, any, not } => {
            query.push(" and ").push(column_name(*column)).push(if *not { " not in " } else { " in " });
            list(query, any);
        }
        QueueTest::Due(any) => {
            query.push(" and (1 = 0");
            for (from, before) in any {
                query.push(" or (t.due >= ").bind(At(*from)).push(" and t.due < ").bind(At(*before)).push(")");
            }
            query.push(")");
        }
        QueueTest::Overdue { now, is } => {
            query.push(if *is { " and " } else { " and not " });
            query.push("(t.open and t.held_at = 0 and t.due < ").bind(*now).push(")");
        }
        QueueTest::Empty { column, is } => {
            let kept_as_text = column_target(*column).is_some() || matches!(column, Column::Role | Column::Code);
            match (kept_as_text, is) {
                (true, true) => query.push(" and ").push(column_name(*column)).push(" = ''"),
                (true, false) => query.push(" and ").push(column_name(*column)).push(" <> ''"),
                (false, true) => query.push(" and 1 = 0"),
                (false, false) => query,
            };
        }
    }
}
