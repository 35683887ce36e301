//! What comes of sending many documents: counted, compared with what is read back, and told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use livewell::fhir::codec::{Limits, read_xml};
use reqwest::Method;
use serde_json::Value;

use crate::lossless::difference;
use crate::published::XML;
use crate::support::TestApp;
use crate::support::caller::{Answer, Caller};

/// What came of all that was sent.
#[derive(Default)]
pub(crate) struct Tally {
    /// Taken, by how: as it was, after its Patient, ...
    pub(crate) accepted: BTreeMap<String, Vec<String>>,
    /// Refused, by class of reason.
    pub(crate) refused: BTreeMap<String, Vec<String>>,
    /// Anything that must not be.
    pub(crate) wrong: Vec<String>,
    pub(crate) failed: usize,
    pub(crate) half_stored: usize,
    pub(crate) compared: usize,
    /// Every single resource sent and whether it was taken.
    pub(crate) sent: Vec<(String, Value, bool)>,
}

impl Tally {
    pub(crate) fn accept(&mut self, how: &str, name: &str) {
        self.accepted.entry(how.to_owned()).or_default().push(name.to_owned());
    }

    pub(crate) fn refuse(&mut self, answer: &Answer, name: &str) {
        let place = format!("{} at {}", answer.status, without_numbers(answer.expression()));
        self.refused.entry(place).or_default().push(name.to_owned());
    }

    fn told(&self, title: &str) -> String {
        let sum = |by: &BTreeMap<String, Vec<String>>| by.values().map(Vec::len).sum::<usize>();
        let mut out = format!(
            "{title}: {} accepted, {} refused, {} answered 5xx, {} half stored, {} read back and compared\n",
            sum(&self.accepted),
            sum(&self.refused),
            self.failed,
            self.half_stored,
            self.compared
        );
        for (what, by) in [("accepted", &self.accepted), ("refused", &self.refused)] {
            for (class, names) in by {
                let _ = writeln!(out, "  {what} {:>4}  {class}", names.len());
                if what == "refused" {
                    for name in names {
                        let _ = writeln!(out, "                   {name}");
                    }
                }
            }
        }
        out
    }

    /// Prints the counts, keeps them beside the build, and fails when something was wrong.
    pub(crate) fn close(self, title: &str) {
        let told = self.told(title);
        println!("{told}");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let file = target.join(format!("real-input-{}.txt", title.replace(' ', "-")));
        let _ = fs::create_dir_all(&target).and_then(|()| fs::write(&file, &told));
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert_eq!((self.failed, self.half_stored), (0, 0));
    }
}

fn without_numbers(expression: &str) -> String {
    expression.chars().filter(|c| !c.is_ascii_digit()).collect::<String>().replace("[]", "")
}

/// Sends something and looks at what a refusal leaves behind and says.
pub(crate) async fn send(
    app: &TestApp,
    tally: &mut Tally,
    name: &str,
    caller: &Caller,
    path: &str,
    media: &str,
    text: &str,
) -> Answer {
    let before = app.stored().await;
    let answer = caller.send(Method::POST, path).text(media, text).await;
    if answer.status < 300 {
        return answer;
    }
    if answer.status >= 500 {
        tally.failed += 1;
        tally.wrong.push(format!("{name}: {} {}", answer.status, answer.text));
    }
    if app.stored().await != before {
        tally.half_stored += 1;
        tally.wrong.push(format!("{name}: refused with {} and something was stored", answer.status));
    }
    // What cannot be read at all has no element to name, only a line and a column.
    let unread = answer.status == 400 && (answer.text.contains("line ") || answer.text.contains("byte "));
    if answer.expression().is_empty() && !unread {
        tally.wrong.push(format!("{name}: refused and no element is named: {}", answer.text));
    }
    answer
}

/// Reads what was made back, in JSON and in XML, and compares it with what was sent.
pub(crate) async fn compare(
    tally: &mut Tally,
    name: &str,
    caller: &Caller,
    at: &str,
    sent: &Value,
    resolved: &dyn Fn(&str) -> bool,
) {
    let served = caller.get(at).await;
    if served.status != 200 {
        return tally.wrong.push(format!("{name}: {at} cannot be read back: {} {}", served.status, served.text));
    }
    tally.compared += 1;
    if let Some(different) = difference(sent, &served.body, resolved) {
        tally.wrong.push(format!("{name}: {different}"));
    }
    let xml = caller.get(at).header("Accept", XML).await;
    let said = xml.header("content-type").to_owned();
    match read_xml(xml.text.as_bytes(), &Limits::default()) {
        // A comment of DSTU2 has no form in XML.
        _ if sent.to_string().contains("fhir_comments") => {}
        _ if !said.starts_with(XML) => tally.wrong.push(format!("{name}: asked for XML and answered {said}")),
        Ok(resource) if *resource.value() == served.body => {}
        Ok(resource) => {
            let why = difference(&served.body, resource.value(), &|_| false);
            tally.wrong.push(format!("{name}: in XML {}", why.unwrap_or_else(|| "the order differs".to_owned())));
        }
        Err(why) => tally.wrong.push(format!("{name}: its XML is not read: {why:?}")),
    }
}
