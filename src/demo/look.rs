//! While the demo serves on: where to look, with what tokens.

use std::io;

use tokio::sync::mpsc;

use super::walk::{self, Page, Walk, Walked};

/// Says where to look, again with fresh tokens at every Enter, until Ctrl-C.
pub(super) async fn until_ctrl_c(walk: &Walk, mut walked: Walked, page: &mut Page<'_>) -> io::Result<()> {
    let mut enter = enter_pressed();
    loop {
        invite(walk, &walked, page)?;
        tokio::select! {
            // Where Ctrl-C cannot be heard there is nothing to wait for.
            _heard = tokio::signal::ctrl_c() => return Ok(()),
            // Without a keyboard this never happens.
            Some(()) = enter.recv() => {}
        }
        if let Err(why) = walk::sign_in_again(walk, &mut walked).await {
            page.item("no new tokens", why)?;
        }
    }
}

fn invite(walk: &Walk, walked: &Walked, page: &mut Page<'_>) -> io::Result<()> {
    let curl = |token: &str, link: &str| format!("curl -sH 'Authorization: Bearer {token}' '{link}'");
    page.heading("Look for yourself")?;
    page.item("what became of it", curl(&walked.practice_token, &walked.status_link))?;
    page.item("the coach's queue", curl(&walked.coach_token, &walked.queue_link))?;
    page.item("the GP record", curl(&walk.record_token, &walked.record_link))?;
    page.item("what is offered", format!("curl -s {}/metadata", walk.service))?;
    page.heading("Enter for fresh tokens (they last five minutes), Ctrl-C to stop")
}

/// One message for every line that is typed. Its thread is not waited for: nothing can wake it but the keyboard.
fn enter_pressed() -> mpsc::Receiver<()> {
    let (pressed, enter) = mpsc::channel(1);
    std::thread::spawn(move || {
        for _line in io::stdin().lines().map_while(Result::ok) {
            if pressed.blocking_send(()).is_err() {
                return;
            }
        }
    });
    enter
}
