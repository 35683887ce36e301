//! The demo against a service that keeps the contract, and against one that does not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod service;
mod write_back;

use tempfile::TempDir;

use super::*;
use service::{Mistake, serve};

async fn demo(mistake: Mistake, data: &TempDir) -> (Result<(), DemoFailed>, String) {
    let options = DemoOptions { port: 0, data: Some(data.path().to_owned()), once: true };
    let mut out = Vec::new();
    let running = Running::start(&options, serve(mistake), Duration::ZERO).await.unwrap();
    let told = running.show(&options, &mut Page::new(&mut out, false)).await;
    running.stop().await;
    (told, String::from_utf8(out).unwrap())
}

fn steps(told: &str) -> Vec<&str> {
    told.lines().filter(|line| line.contains(" ms  ")).collect()
}

#[tokio::test]
async fn the_loop_is_walked_to_its_end_in_one_line_a_step() {
    let data = TempDir::new().unwrap();
    let (done, told) = demo(Mistake::Nothing, &data).await;
    done.unwrap();
    let steps = steps(&told);
    assert_eq!(steps.len(), 16, "{told}");
    for (n, step) in steps.iter().enumerate() {
        assert!(step.starts_with(&format!("{:>3} ", n + 1)) && step.contains("http://"), "{step}");
    }
    assert!(told.contains("LW-TEST-0001") && told.contains("PAM 56.4 level 3"), "{told}");
    assert!(!told.contains('\x1b'), "no colours where nobody looks");
}

#[tokio::test]
async fn it_can_be_shown_twice_on_the_same_data_and_when_older_work_waits() {
    let data = TempDir::new().unwrap();
    demo(Mistake::Nothing, &data).await.0.unwrap();
    let (done, told) = demo(Mistake::HasOlderWork, &data).await;
    done.unwrap();
    assert!(told.contains("an older one came first"), "{told}");
}

#[tokio::test]
async fn while_it_serves_on_it_says_where_to_look_and_with_what_token() {
    let data = TempDir::new().unwrap();
    let options = DemoOptions { port: 0, data: Some(data.path().to_owned()), once: false };
    let running = Running::start(&options, serve(Mistake::Nothing), Duration::ZERO).await.unwrap();
    let mut out = Vec::new();
    let mut page = Page::new(&mut out, false);
    let mut walked = walk::run(&running.walk, &mut page).await.unwrap();
    walked.coach_token.clear();
    walk::sign_in_again(&running.walk, &mut walked).await.unwrap();
    tokio::select! {
        biased;
        ended = look::until_ctrl_c(&running.walk, walked, &mut page) => panic!("it ended by itself: {ended:?}"),
        () = std::future::ready(()) => {}
    }
    running.stop().await;
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("curl -sH 'Authorization: Bearer t' 'http://"), "{told}");
    assert!(told.contains("/$status'") && told.contains("Ctrl-C to stop"), "{told}");
}

#[tokio::test]
async fn a_write_back_that_does_not_arrive_fails_and_says_where_it_is() {
    let (done, told) = demo(Mistake::KeepsToItself, &TempDir::new().unwrap()).await;
    let DemoFailed::Walk(failed) = done.unwrap_err() else { panic!("the walk failed, nothing else") };
    assert_eq!(failed.number, 15);
    assert!(failed.to_string().contains("retrying"), "{failed}");
    assert!(steps(&told).last().unwrap().contains("FAILED: Encounter/"), "{told}");
}

#[tokio::test]
async fn a_refused_step_says_what_the_service_said() {
    let (done, told) = demo(Mistake::RefusesToComplete, &TempDir::new().unwrap()).await;
    let why = done.unwrap_err().to_string();
    assert!(why.contains("422") && why.contains("Record the contact first."), "{why}");
    assert_eq!(steps(&told).len(), 10, "nothing is tried after a step that failed");
}

#[tokio::test]
async fn a_promise_that_is_not_kept_is_a_failed_step() {
    let (done, _) = demo(Mistake::Hurries, &TempDir::new().unwrap()).await;
    let why = done.unwrap_err().to_string();
    assert!(why.contains("not 48 h"), "{why}");
}

#[tokio::test]
async fn a_service_that_does_not_start_is_told_in_a_sentence() {
    let serve = Box::new(|_: Stage, _: TcpListener| -> Starting { Box::pin(async { Err("no disk".to_owned()) }) });
    let data = TempDir::new().unwrap();
    let options = DemoOptions { port: 0, data: Some(data.path().to_owned()), once: true };
    let failed = run(options, serve, &mut Vec::new()).await.unwrap_err();
    assert_eq!(failed.to_string(), "the service did not start: no disk");
}
