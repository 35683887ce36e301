//! The page that the walk writes: one line a step, aligned, in colour where somebody looks at it.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

/// What a step has to show.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Ids and facts, in a few words.
    pub(super) facts: String,
    /// Where to look at it.
    pub(super) link: String,
}

impl Shown {
    pub(super) fn new(facts: impl Into<String>, link: impl Into<String>) -> Shown {
        Shown { facts: facts.into(), link: link.into() }
    }
}

/// Widths of what and facts; longer ones push the rest of their line to the right.
const WHAT: usize = 40;
const FACTS: usize = 56;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// Writes lines to `out`.
pub struct Page<'a> {
    out: &'a mut (dyn Write + Send),
    colour: bool,
}

impl<'a> Page<'a> {
    /// A page that paints, or does not.
    pub fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Page<'a> {
        Page { out, colour }
    }

    /// A heading, with a blank line before it.
    pub fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(BOLD, text);
        writeln!(self.out, "\n{text}")
    }

    /// `name  what`, names aligned.
    pub fn item(&mut self, name: &str, what: impl Display) -> io::Result<()> {
        writeln!(self.out, "  {name:<18}{what}")
    }

    pub(super) fn step(&mut self, number: usize, what: &str, shown: &Shown, took: Duration) -> io::Result<()> {
        let number = self.paint(GREEN, &format!("{number:>3}"));
        let link = self.paint(DIM, &shown.link);
        let line = format!("{number} {:>6} ms  {what:<WHAT$}  {:<FACTS$}  {link}", took.as_millis(), shown.facts);
        writeln!(self.out, "{}", line.trim_end())?;
        self.out.flush()
    }

    pub(super) fn failed(&mut self, number: usize, what: &str, why: &str, took: Duration) -> io::Result<()> {
        let line = format!("{number:>3} {:>6} ms  {what:<WHAT$}  FAILED: {why}", took.as_millis());
        let line = self.paint(RED, &line);
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
