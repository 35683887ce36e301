//! Results: a JSON file each, a table on the terminal, and a chart.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Measured;

/// One line of the table.
pub(crate) struct Result {
    /// `sqlite`, `postgresql`, or the address of another server.
    pub(crate) on: String,
    pub(crate) name: String,
    pub(crate) tasks: u64,
    pub(crate) rate: f64,
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
    pub(crate) count: usize,
    pub(crate) errors: usize,
    pub(crate) first_error: Option<String>,
}

impl Result {
    pub(crate) fn new(on: &str, name: impl Into<String>, tasks: u64, measured: &Measured) -> Result {
        Result {
            on: on.to_owned(),
            name: name.into(),
            tasks,
            rate: measured.rate(),
            p50: measured.percentile(0.50),
            p95: measured.percentile(0.95),
            p99: measured.percentile(0.99),
            count: measured.latencies.len(),
            errors: measured.errors,
            first_error: measured.first_error.clone(),
        }
    }
}

/// Everything of a run: what it was made on, and what came out.
pub(crate) struct Report {
    pub(crate) folder: PathBuf,
    /// Measured in this run, in words and numbers: `fsyncs a second`, `bare referrals a second`, ...
    pub(crate) machine: Vec<(String, f64)>,
    pub(crate) results: Vec<Result>,
}

impl Report {
    /// Adds a result and prints its line.
    pub(crate) fn add(&mut self, result: Result) {
        if self.results.is_empty() {
            println!(
                "\n{:<11} {:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
                "on", "workload", "tasks", "a second", "p50 ms", "p95 ms", "p99 ms", "errors"
            );
        }
        println!(
            "{:<11} {:<34} {:>9} {:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>7}",
            result.on,
            result.name,
            result.tasks,
            result.rate,
            ms(result.p50),
            ms(result.p95),
            ms(result.p99),
            result.errors
        );
        if let Some(why) = &result.first_error {
            println!("    first error: {why}");
        }
        self.results.push(result);
    }

    /// Adds something measured of the machine or the process.
    pub(crate) fn fact(&mut self, name: &str, value: f64) {
        println!("{name}: {value:.1}");
        self.machine.push((name.to_owned(), value));
    }

    /// Writes a JSON file for each result, and the chart.
    pub(crate) fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let about = self.about();
        for result in &self.results {
            let mut said = json!({
                "on": result.on, "name": result.name, "tasks": result.tasks, "rate": rounded(result.rate), "count": result.count,
                "p50_ms": rounded(ms(result.p50)), "p95_ms": rounded(ms(result.p95)), "p99_ms": rounded(ms(result.p99)),
                "errors": result.errors,
            });
            if let (Some(said), Some(about)) = (said.as_object_mut(), about.as_object()) {
                said.extend(about.clone());
            }
            let file = format!("{}-{}-{}.json", result.on, result.name, result.tasks);
            let file = file.replace(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c), "-");
            std::fs::write(self.folder.join(file), format!("{said:#}\n"))?;
        }
        std::fs::write(self.folder.join("chart.svg"), self.chart())?;
        std::fs::write(self.folder.join("table.md"), self.table())?;
        println!("\nwritten to {}", self.folder.display());
        Ok(())
    }

    /// The results as a Markdown table, under what they were measured beside.
    fn table(&self) -> String {
        let mut table = format!("commit {}, {}; load generator on the same machine\n\n", commit(), cpu());
        for (name, value) in &self.machine {
            table.push_str(&format!("- {name}: {value:.1}\n"));
        }
        table.push_str("\n| on | workload | Tasks | a second | p50 ms | p95 ms | p99 ms | errors |\n");
        table.push_str("|---|---|--:|--:|--:|--:|--:|--:|\n");
        for r in &self.results {
            table.push_str(&format!(
                "| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {} |\n",
                r.on,
                r.name,
                r.tasks,
                r.rate,
                ms(r.p50),
                ms(r.p95),
                ms(r.p99),
                r.errors
            ));
        }
        table
    }

    fn about(&self) -> Value {
        let mut about = json!({
            "commit": commit(), "machine": cpu(), "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "at": livewell::time::Clock::System.now().to_rfc3339(),
        });
        for (name, value) in &self.machine {
            about[name.replace(' ', "_")] = rounded(*value);
        }
        about
    }

    /// Bars of the rates, with the median and 99th percentile beside them.
    fn chart(&self) -> String {
        const ROW: usize = 26;
        const LEFT: usize = 400;
        const WIDTH: f64 = 420.0;
        let most = self.results.iter().map(|r| r.rate).fold(1.0, f64::max);
        let height = 96 + ROW * self.results.len();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1080\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"16\" y=\"28\" font-size=\"17\" font-weight=\"bold\">livewell: requests a second, and latency</text>\n\
             <text x=\"16\" y=\"50\" fill=\"#555\">{}</text>\n",
            escaped(&format!("commit {}, {}; load generator on the same machine", commit(), cpu()))
        );
        let facts: Vec<String> = self.machine.iter().map(|(name, value)| format!("{name} {value:.0}")).collect();
        svg.push_str(&format!("<text x=\"16\" y=\"68\" fill=\"#555\">{}</text>\n", escaped(&facts.join(", "))));
        for (at, result) in self.results.iter().enumerate() {
            let y = 84 + ROW * at;
            let long = (result.rate / most * WIDTH).max(1.0);
            let latency = format!("p50 {:.1} ms, p99 {:.1} ms", ms(result.p50), ms(result.p99));
            let name = format!("{}: {} ({} Tasks)", result.on, result.name, result.tasks);
            svg.push_str(&format!(
                "<text x=\"16\" y=\"{text}\">{}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{long:.1}\" height=\"18\" \
                 fill=\"{}\"/><text x=\"{:.1}\" y=\"{text}\">{:.0}/s, {latency}</text>\n",
                escaped(&name),
                if result.errors == 0 { "#00696b" } else { "#b3261e" },
                LEFT as f64 + long + 8.0,
                result.rate,
                text = y + 14,
            ));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Two digits after the point are all that means something.
fn rounded(value: f64) -> Value {
    serde_json::from_str(&format!("{value:.2}")).unwrap_or(Value::Null)
}

fn commit() -> String {
    let said = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = said(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    let commit = said(&["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    if changed { format!("{commit} with changes") } else { commit }
}

fn cpu() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} x {}", cores, model.map_or(std::env::consts::ARCH, |(_, name)| name))
}

/// Where results go: `target/bench`.
pub(crate) fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("bench")
}
