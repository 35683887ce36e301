//! Getting in: a signed assertion buys a token once, for a while, for what the client is registered for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::caller::Caller;
use crate::support::{TestApp, build, on_each_database};

fn claims(app: &TestApp, caller: &Caller, change: Value) -> Value {
    let now = app.clock.now().timestamp();
    let mut claims = json!({
        "iss": caller.id, "sub": caller.id, "aud": format!("{}/oauth/token", app.base),
        "iat": now, "exp": now + 240, "jti": uuid::Uuid::new_v4().to_string(),
    });
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

on_each_database! {
    async fn an_assertion_that_is_not_good_is_answered_alike_whatever_is_wrong(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let now = app.clock.now().timestamp();
        let sign = |change: Value| practice.key.sign(&claims(&app, &practice, change));
        let used = sign(json!({}));
        let good = practice.exchange(&used, "system/*.cruds").await.expect(200);
        assert_eq!(good.header("cache-control"), "no-store");
        assert_eq!((good.body["token_type"].clone(), good.body["expires_in"].clone()), (json!("bearer"), json!(300)));

        let gone = app.client("disabled", "TESTA1", "system/*.cruds").await;
        let held = gone.token().await;
        let mut tx = app.store().write().await.unwrap();
        assert!(tx.disable_client("disabled", app.clock.now().into()).await.unwrap());
        tx.commit().await.unwrap();
        let mut texts = Vec::new();
        for (what, assertion) in [
            ("replayed", used),
            ("expired", sign(json!({ "iat": now - 600, "exp": now - 300 }))),
            ("too long", sign(json!({ "exp": now + 3600 }))),
            ("other audience", sign(json!({ "aud": "https://elsewhere.example/oauth/token" }))),
            ("other subject", sign(json!({ "sub": "practice-testa2" }))),
            ("unknown client", sign(json!({ "iss": "nobody", "sub": "nobody" }))),
            ("another client's key", gone.key.sign(&claims(&app, &practice, json!({})))),
            ("disabled client", gone.key.sign(&claims(&app, &gone, json!({})))),
        ] {
            let refused = practice.exchange(&assertion, "system/*.cruds").await;
            assert_eq!((refused.status, &refused.body["error"]), (401, &json!("invalid_client")), "{what}");
            texts.push(refused.text);
        }
        texts.dedup();
        assert_eq!(texts.len(), 1, "{texts:?}");
        // What a client holds ends with its registration.
        let ask = practice.get("Task?status=requested").header("Authorization", format!("Bearer {held}"));
        ask.await.expect(401);
    }

    async fn a_token_lasts_five_minutes(app: TestApp) {
        let practice = app.practice("TESTA1").await;
        let bearer = format!("Bearer {}", practice.token().await);
        let ask = || practice.get("Task?status=requested").header("Authorization", bearer.clone());
        ask().await.expect(200);
        app.clock.advance(Duration::from_secs(299));
        ask().await.expect(200);
        app.clock.advance(Duration::from_secs(1));
        let refused = ask().await.expect(401);
        assert!(refused.header("www-authenticate").starts_with("Bearer"), "{:?}", refused.headers);
        practice.get("Task?status=requested").await.expect(200);
    }

    async fn a_client_gets_of_what_it_asks_for_what_it_is_registered_for(app: TestApp) {
        let client = app.client("narrow", "TESTA1", "system/ServiceRequest.crs system/Task.rs").await;
        let assertion = || client.key.sign(&claims(&app, &client, json!({})));
        let some = client.exchange(&assertion(), "system/*.r openid").await.expect(200);
        assert_eq!(some.body["scope"], "system/ServiceRequest.r system/Task.r");
        let none = client.exchange(&assertion(), "system/Patient.rs").await.expect(400);
        assert_eq!(none.body["error"], "invalid_scope");
        let nonsense = client.exchange(&assertion(), "system/Task.sr").await.expect(400);
        assert_eq!(nonsense.body["error"], "invalid_scope");
        let bearer = format!("Bearer {}", some.body["access_token"].as_str().unwrap());
        let ask = client.post("ServiceRequest", &build::referral()).header("Authorization", bearer);
        ask.await.expect(403);
    }

    async fn tokens_are_kept_as_hashes_only(app: TestApp) {
        let token = app.practice("TESTA1").await.token().await;
        let kept = app.rows("select hash from access_token").await;
        assert!(!kept.is_empty());
        assert!(kept.iter().all(|row| !row[0].as_str().unwrap().contains(&token)), "{kept:?}");
    }
}
