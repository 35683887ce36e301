//! Search of several types at once: `GET /fhir?_type=A,B&...` and `POST /fhir/_search`
//! (<https://hl7.org/fhir/R4/http.html#search>). What restricts it has to be a parameter of each of the types.

use axum::extract::{Form, State as Extract};
use axum::response::Response;

use super::super::error::Error;
use super::super::format::Format;
use super::super::resources::disclose;
use super::super::state::{Call, State};
use super::request::{Request, refuse};
use super::{Answer, Matched, along, criteria};
use crate::auth::scope::Interaction;
use crate::fhir::search::Criterion;
use crate::store::{Key, Page, Place, Tx};

/// Search by URL.
pub(in crate::api) async fn by_url(Extract(doors): Extract<State>, call: Call) -> Result<Response, Error> {
    let query = call.query.clone();
    search(&doors, &call, query).await
}

/// Search by form.
pub(in crate::api) async fn by_form(
    Extract(doors): Extract<State>,
    mut call: Call,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let query = [call.query.clone(), form].concat();
    call.format = Format::wanted(&call.headers, &query)?;
    search(&doors, &call, query).await
}

async fn search(doors: &State, call: &Call, query: Vec<(String, String)>) -> Result<Response, Error> {
    let (types, rest): (Vec<_>, Vec<_>) = query.into_iter().partition(|(name, _)| name == "_type");
    let mut request = Request::read(call, "", rest)?;
    if request.after.is_none() {
        request.types = kinds(call, &types)?;
    } else if request.types.is_empty() || !types.is_empty() {
        return Err(refuse(
            "",
            "_page",
            "This page link is of another search, or was changed. Begin the search again.",
        ));
    }
    if request.sort.is_some() {
        return Err(refuse("", "_sort", "Several types come in the order of their names and ids. Sort one type."));
    }
    let mut asked = Vec::with_capacity(request.types.len());
    let mut ignored = Vec::new();
    for kind in &request.types {
        call.may(kind, Interaction::Search)?;
        let (criteria, passed_over) = criteria::read(call, kind, &request).await?;
        ignored.extend(passed_over.into_iter().map(|name| format!("{kind}?{name}")));
        asked.push((kind.clone(), criteria));
    }
    disclose(call, "search-system", "", "").await?;
    let includes = request.included("")?;
    let mut tx = doors.store.read().await?;
    let found = page(&mut tx, call, &asked, &request).await?;
    let mut total = request.total.then_some(0);
    for (kind, criteria) in asked.iter().filter(|_| request.total) {
        let counted = tx.count(kind, criteria, &call.actor.sight).await?;
        total = total.map(|all| all + counted);
    }
    let along = along::gather(&mut tx, call, &found.matches, &includes).await?;
    drop(tx);
    Ok(Answer { kind: "", request, matches: found.matches, next: found.next, along, total, ignored }
        .into_response(doors, call))
}

/// The types that are named; every one that the caller may search where none is.
fn kinds(call: &Call, named: &[(String, String)]) -> Result<Vec<String>, Error> {
    let mut kinds: Vec<String> = Vec::new();
    for kind in named.iter().flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|kind| !kind.is_empty()) {
        if !call.doors.types.all().any(|served| served == kind) {
            return Err(refuse("", "_type", "_type names types that are served here; /fhir/metadata lists them."));
        }
        kinds.push(kind.to_owned());
    }
    if named.is_empty() {
        let all = call.doors.types.all().filter(|kind| call.may(kind, Interaction::Search).is_ok());
        kinds.extend(all.map(str::to_owned));
        if kinds.is_empty() {
            call.may("*", Interaction::Search)?;
        }
    } else if kinds.is_empty() {
        return Err(refuse("", "_type", "_type names no type. Name one, or leave it out."));
    }
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

/// A page of the types in their order, each by id: a page neither repeats nor skips while others write.
async fn page(
    tx: &mut Tx,
    call: &Call,
    asked: &[(String, Vec<Criterion>)],
    request: &Request,
) -> Result<Matched, Error> {
    let mut matches = Vec::new();
    let from = request.after.as_ref().and_then(|place| match place.keys.as_slice() {
        [Some(Key::Text(kind))] => Some((kind.as_str(), place.id.as_str())),
        _ => None,
    });
    // One more than is wanted says that there is more.
    let wanted = if request.count == 0 { 0 } else { request.count + 1 };
    for (kind, criteria) in asked.iter().filter(|(kind, _)| from.is_none_or(|(first, _)| kind.as_str() >= first)) {
        let room = wanted - i64::try_from(matches.len()).unwrap_or(wanted);
        if room <= 0 {
            break;
        }
        let after = from.filter(|(first, _)| kind == first);
        let after = after.map(|(_, id)| Place { keys: Vec::new(), id: id.to_owned() });
        let found = tx.search(kind, criteria, &call.actor.sight, &[], &Page { after, limit: room }).await?;
        matches.extend(found.matches);
    }
    let count = usize::try_from(request.count).unwrap_or(0);
    let more = matches.len() > count;
    matches.truncate(count);
    let next = matches.last().filter(|_| more).map(|last: &crate::store::Stored| Place {
        keys: vec![Some(Key::Text(last.kind.clone()))],
        id: last.id.clone(),
    });
    Ok(Matched { matches, next })
}
