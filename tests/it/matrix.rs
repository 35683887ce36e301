//! Two practices and every door: what one keeps, the other never sees, counts, changes or learns the existence of. The
//! doors are those that the service itself names in its OpenAPI document and its CapabilityStatement, so that one nobody
//! thought of is in here, or stops the test.

mod doors;
mod searches;
mod world;

use crate::support::app::run;
use crate::support::caller::{Answer, Caller};
use crate::support::{Database, TestApp, on_each_database};

use world::World;

/// The id of nothing, as long as an id of something.
const NOTHING: &str = "01999999-0000-7000-8000-000000000000";

/// What an answer tells: everything but the id that was asked for.
fn told(answer: &Answer, id: &str) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
        .collect();
    headers.sort();
    format!("{}\n{}\n{}", answer.status, headers.join("\n"), answer.text).replace(id, "ID")
}

/// Everything by which `stranger` could tell what is the sender's from what is not there, and everything of the sender's
/// that it was shown.
async fn leaks(app: &TestApp, world: &World, stranger: &Caller) -> Vec<String> {
    let mut leaks = doors::leaks(app, world, stranger).await;
    leaks.extend(doors::leaks_in_bundles(world, stranger).await);
    leaks.extend(searches::leaks(world, stranger).await);
    leaks
}

on_each_database! {
    async fn another_practice_learns_nothing_by_any_door(app: TestApp) {
        let world = World::begin(&app).await;
        let stranger = app.practice("TESTA3").await;
        let leaks = leaks(&app, &world, &stranger).await;
        assert!(leaks.is_empty(), "{} leaks: {:#?}", leaks.len(), &leaks[..leaks.len().min(20)]);
        world.is_as_it_was().await;
    }
}

#[test]
fn who_may_see_it_sees_it_by_each_of_these_doors() {
    run(Database::Sqlite, |app: TestApp| async move {
        let world = World::begin(&app).await;
        let told = leaks(&app, &world, &world.sender).await;
        // Each door tells its owner something: that none tells a stranger anything is no accident.
        let tells = |door: &String| told.iter().any(|leak| leak.starts_with(&format!("{door} ")));
        let doors = doors::of_one(&app).await.into_iter().chain(searches::kinds());
        let silent: Vec<String> =
            doors.filter(|door| !tells(door) && !doors::FOR_OTHERS.contains(&door.as_str())).collect();
        assert!(silent.is_empty(), "{silent:#?}");
    });
}
