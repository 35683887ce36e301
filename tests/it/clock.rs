//! A clock that is set back: nothing is lost, nothing waits for what is past, and no token lives longer.

use std::time::Duration;

use serde_json::json;

use crate::journey::{claim_next, encounter, known, parameters, record, version};
use crate::support::{TestApp, on_each_database};

const HOUR: Duration = Duration::from_secs(3600);

on_each_database! {
    async fn after_the_clock_was_set_back_an_hour_work_goes_on(app: TestApp) {
        let before = known(&app, "TESTA1", "urgent").await;
        app.clock.set_back(HOUR);
        let coach = app.staff("coach-north").await;
        // What came before the clock was set back is handed out, although it was made "in an hour".
        let task = claim_next(&coach, "health-coach").await.expect(200);
        assert_eq!(format!("Task/{}", task.id()), before.task);
        // Made before the Task, as the clock says it, so that it has to be named.
        let contact = record(&coach, &encounter(&app, &before)).await;
        let said = parameters(json!([
            { "name": "outcome", "valueCode": "accepted" },
            { "name": "output", "valueReference": { "reference": contact } },
        ]));
        coach.post(format!("/fhir/{}/$complete", before.task), &said).await.expect(200);
        app.settled().await;
        assert_eq!(app.stand_in.resources("TESTA1", "Encounter").len(), 1);
        // Versions go on from where they were, whatever their times say.
        let referral = app.system().await.get(&before.task).await.expect(200);
        assert!(version(&referral.body) >= 3, "{}", referral.text);
        let after = known(&app, "TESTA2", "routine").await;
        app.practice("TESTA2").await.get(format!("{}/$status", after.referral)).await.expect(200);
    }

    async fn a_token_from_before_the_clock_was_set_back_lives_no_longer_for_it(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let held = practice.token().await;
        let ask = || app.http.get(format!("{}/fhir/Patient?family=nobody", app.base)).bearer_auth(&held).send();
        assert_eq!(ask().await.unwrap().status(), 200);
        app.clock.set_back(HOUR);
        assert_eq!(ask().await.unwrap().status(), 401, "it would have lived an hour and five minutes");
    }
}
