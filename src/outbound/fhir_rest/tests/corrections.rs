//! Corrections of what is there, and what the practice changed.

use super::*;

/// The Encounter of the set in its second version, a correction of where the first one is.
fn corrected(version: Option<&str>, reference: &str) -> Vec<Outgoing> {
    let resource = resource("Encounter", "e1", 2, json!({ "status": "entered-in-error" }));
    let previous = Some(PracticeCopy { reference: reference.into(), version: version.map(str::to_owned) });
    vec![Outgoing { key: "Encounter/e1".into(), version: 2, resource, previous }]
}

#[tokio::test]
async fn a_correction_replaces_the_entry_and_is_not_made_twice() {
    for version in [Some("1"), None] {
        let practice = Practice::open().await;
        let outbound = outbound();
        let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let place = first[0].practice_reference.clone();
        practice.fails([Fault::DropReply]);
        let correction = corrected(version, &place);
        assert!(matches!(
            outbound.deliver(&job(&practice, correction.clone(), false), now()).await,
            Verdict::Unknown { .. }
        ));
        let receipts = receipts_of(outbound.deliver(&job(&practice, correction, true), now()).await);
        assert_eq!(receipts[0].practice_reference, place);
        assert_eq!(receipts[0].practice_version.as_deref(), Some("2"));
        assert_eq!(practice.told().stored[&place]["status"], "entered-in-error");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn a_correction_never_overwrites_what_the_practice_changed() {
    for looks in [false, true] {
        let practice = Practice::open().await;
        let outbound = outbound();
        let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let place = first[0].practice_reference.clone();
        practice.told().stored.get_mut(&place).unwrap()["meta"]["versionId"] = json!("2");
        practice.told().stored.get_mut(&place).unwrap()["note"] = json!("by the GP");
        let verdict = outbound.deliver(&job(&practice, corrected(Some("1"), &place), looks), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
        practice.told().stored.remove(&place);
        let verdict = outbound.deliver(&job(&practice, corrected(Some("1"), &place), looks), now()).await;
        assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
    }
}

#[tokio::test]
async fn a_correction_finds_a_first_version_whose_arrival_was_never_known() {
    for looks in [false, true] {
        let practice = Practice::open().await;
        let outbound = outbound();
        receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
        let mut correction = corrected(None, "");
        correction[0].previous = None;
        let receipts = receipts_of(outbound.deliver(&job(&practice, correction, looks), now()).await);
        assert_eq!(receipts[0].practice_version.as_deref(), Some("2"));
        assert_eq!(practice.told().stored[&receipts[0].practice_reference]["status"], "entered-in-error");
        assert_once(&practice);
    }
}

#[tokio::test]
async fn an_older_version_never_replaces_a_newer_one() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    let place = first[0].practice_reference.clone();
    receipts_of(outbound.deliver(&job(&practice, corrected(Some("1"), &place), false), now()).await);
    receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await);
    assert_eq!(practice.told().stored[&place]["status"], "entered-in-error");
}

#[tokio::test]
async fn without_tags_content_tells_whether_it_is_ours() {
    let practice = Practice::open().await;
    let outbound = outbound();
    let first = receipts_of(outbound.deliver(&job(&practice, set(), false), now()).await);
    for stored in practice.told().stored.values_mut() {
        stored["meta"].as_object_mut().unwrap().remove("tag");
        stored["addedByTheServer"] = json!(true);
    }
    assert_eq!(receipts_of(outbound.deliver(&job(&practice, set(), true), now()).await), first);
    let place = first[0].practice_reference.clone();
    practice.told().stored.get_mut(&place).unwrap()["status"] = json!("changed by the GP");
    let verdict = outbound.deliver(&job(&practice, set(), true), now()).await;
    assert_eq!(verdict, Verdict::NeedsPerson { reason: Reason::VersionConflict });
}
