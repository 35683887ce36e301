//! Finding a referral by its person, page by page, without the person's number in a link.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::caller::{Answer, Caller};
use crate::support::{TestApp, build, on_each_database};

/// What a search found, by id.
fn ids(answer: &Answer) -> Vec<String> {
    answer.resources().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
}

/// Every link a Bundle has.
fn links(answer: &Answer) -> Vec<String> {
    let links = answer.body["link"].as_array().into_iter().flatten().filter_map(|l| l["url"].as_str());
    let urls = answer.body["entry"].as_array().into_iter().flatten().filter_map(|e| e["fullUrl"].as_str());
    links.chain(urls).map(str::to_owned).collect()
}

fn next(answer: &Answer) -> Option<String> {
    let links = answer.body["link"].as_array().into_iter().flatten();
    let next = links.into_iter().find(|link| link["relation"] == "next");
    next.map(|link| link["url"].as_str().unwrap().to_owned())
}

async fn sent(practice: &Caller, referral: &Value) -> String {
    practice.post("ServiceRequest", referral).await.expect(201).id()
}

on_each_database! {
    async fn a_referral_is_found_by_its_person_however_the_person_was_sent(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let known = practice.post("Patient", &build::person(build::ADA)).await.expect(201).id();
        let mut to_known = build::referral();
        to_known["subject"] = json!({ "reference": format!("Patient/{known}") });
        let urn = build::urn();
        let mut bundled = build::referral();
        bundled["subject"] = json!({ "reference": urn });
        let bundle = build::transaction([(build::urn(), bundled), (urn, build::person(build::ADA))]);
        let bundled = practice.post("", &bundle).await.expect(200).made();
        let expected = BTreeSet::from([
            sent(&practice, &build::referral()).await,
            sent(&practice, &build::referral_with(build::person(build::ADA))).await,
            sent(&practice, &to_known).await,
            bundled[0].strip_prefix("ServiceRequest/").unwrap().to_owned(),
        ]);
        sent(&practice, &build::referral_of(build::BERT.0)).await;
        let ours = app.rows(&format!("select id from person where nhs_number = '{}'", build::ADA.0)).await;
        let ours = ours[0][0].as_str().unwrap();
        let (number, system) = (build::ADA.0, "https://fhir.nhs.uk/Id/nhs-number");
        for query in [
            format!("patient={ours}"),
            format!("patient=Patient/{ours}"),
            format!("subject=Patient/{ours}"),
            format!("patient={}/fhir/Patient/{ours}", app.base),
            format!("patient=Patient/{known}"),
            format!("patient.identifier={system}%7C{number}"),
            format!("patient.identifier={number}"),
            format!("patient:identifier={system}%7C{number}"),
            format!("subject:identifier={system}%7C{number}"),
            format!("patient.identifier={system}%7C{number}&status=active"),
        ] {
            let by_url = practice.get(format!("ServiceRequest?{query}")).await.expect(200);
            assert_eq!(ids(&by_url).into_iter().collect::<BTreeSet<_>>(), expected, "{query}");
            let by_form = practice.send(Method::POST, "ServiceRequest/_search");
            let by_form = by_form.text("application/x-www-form-urlencoded", query.as_str()).await.expect(200);
            assert_eq!(ids(&by_form), ids(&by_url), "{query}");
            for link in links(&by_url).iter().chain(&links(&by_form)) {
                assert!(!link.contains(number), "{query}: {link}");
            }
        }
        let tasks = practice.get(format!("Task?patient.identifier={system}%7C{number}")).await.expect(200);
        assert_eq!(tasks.resources().len(), 4);
        assert!(links(&tasks).iter().all(|link| !link.contains(number)), "{:?}", links(&tasks));
        let nobody = practice.get("ServiceRequest?patient.identifier=9990000034&_total=accurate").await.expect(200);
        assert_eq!((ids(&nobody).len(), nobody.body["total"].clone()), (0, json!(0)));
    }

    async fn pages_miss_nothing_and_repeat_nothing_while_more_arrives(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let mut expected = BTreeSet::new();
        for _ in 0..7 {
            expected.insert(sent(&practice, &build::referral()).await);
        }
        let number = build::ADA.0;
        for kind in ["ServiceRequest", "Task"] {
            let expected: BTreeSet<String> = match kind {
                "Task" => {
                    let theirs = format!("task t join person p on p.id = t.person where p.nhs_number = '{number}'");
                    let rows = app.rows(&format!("select t.id from {theirs}")).await;
                    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
                }
                _ => expected.clone(),
            };
            let mut seen = Vec::new();
            let mut at = Some(format!("{kind}?patient.identifier={number}&_count=3"));
            while let Some(page) = at {
                let answer = practice.get(page).await.expect(200);
                assert!(answer.resources().len() <= 3);
                seen.extend(ids(&answer));
                assert!(links(&answer).iter().all(|link| !link.contains(number)), "{:?}", links(&answer));
                at = next(&answer);
                if seen.len() == 3 {
                    sent(&practice, &build::referral()).await;
                    sent(&practice, &build::referral_of(build::BERT.0)).await;
                }
            }
            let once: BTreeSet<String> = seen.iter().cloned().collect();
            assert_eq!(once.len(), seen.len(), "{kind}: something came twice");
            assert!(expected.is_subset(&once), "{kind}: something was missed");
            for id in &seen {
                let of = app.rows(&format!("select p.nhs_number from resource r join person p on p.id = r.person \
                    where r.kind = '{kind}' and r.id = '{id}'")).await;
                assert_eq!(of, [[json!(number)]], "{kind}: the filter goes with the pages");
            }
        }
    }

    async fn no_link_tells_who_a_person_is(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        practice.post("Patient", &build::person(build::ADA)).await.expect(201);
        practice.post("ServiceRequest", &build::referral_with(build::person(build::ADA))).await.expect(201);
        let (number, family, _, birth_date, _) = build::ADA;
        for query in [
            format!("identifier=https://fhir.nhs.uk/Id/nhs-number%7C{number}"),
            format!("identifier:missing=false&identifier={number}"),
            format!("family={family}"),
            format!("name={family}"),
            format!("birthdate={birth_date}"),
        ] {
            // Ours and the practice's own: one on each page.
            let first = practice.get(format!("Patient?{query}&_count=1")).await.expect(200);
            let second = practice.get(next(&first).expect("a second page")).await.expect(200);
            assert_eq!((first.resources().len(), second.resources().len()), (1, 1), "{query}");
            assert_ne!(ids(&first), ids(&second), "{query}");
            for link in links(&first).iter().chain(&links(&second)) {
                let link = link.to_lowercase();
                for telling in [number, &family.to_lowercase(), birth_date] {
                    assert!(!link.contains(telling), "{query}: {link}");
                }
            }
        }
    }

    async fn a_number_is_in_no_link_whatever_parameter_it_was_sent_in(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        sent(&practice, &build::referral()).await;
        let (number, system) = (build::ADA.0, "https://fhir.nhs.uk/Id/nhs-number");
        for search in [
            format!("Task?for.identifier={system}%7C{number}"),
            format!("Task?for:identifier={system}%7C{number}"),
            format!("Task?patient:identifier={number}"),
            format!("ServiceRequest?requester:identifier={number}"),
            format!("ServiceRequest?nhs-number={number}"),
            format!("Task?nhs-number={number}"),
        ] {
            let answer = practice.get(search.as_str()).header("Prefer", "handling=lenient").await;
            assert!(!answer.text.is_empty());
            for link in links(&answer) {
                assert!(!link.contains(number), "{search}: {link}");
            }
            if answer.status != 200 {
                assert!(!answer.text.contains(number), "{search}: {}", answer.text);
            }
        }
    }

    async fn a_page_is_for_the_client_that_asked(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        for _ in 0..3 {
            sent(&practice, &build::referral()).await;
        }
        let first = practice.get("ServiceRequest?status=active&_count=2").await.expect(200);
        let link = next(&first).expect("there is a second page");
        let refused = app.practice("TESTA2").await.get(link.as_str()).await;
        assert!((400..500).contains(&refused.status), "{}", refused.text);
        assert_eq!(practice.get(link).await.expect(200).resources().len(), 1);
    }

    async fn a_parameter_that_is_not_known_is_refused_and_not_passed_over(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        sent(&practice, &build::referral()).await;
        let refused = practice.get("ServiceRequest?favourite=yes").await;
        assert!((400..500).contains(&refused.status), "{}", refused.text);
        let lenient = practice.get("ServiceRequest?favourite=yes").header("Prefer", "handling=lenient").await.expect(200);
        assert!(lenient.text.contains("favourite"), "{}", lenient.text);
    }
}
