//! The record of one practice: every version of every resource, in memory and in an append-only journal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;

use crate::fhir::path;

/// One practice's resources by type and id; a version is its place in the list.
///
/// The journal is NDJSON: one line is one unit of work (an array of resources), so that a transaction is there whole or
/// not at all after a crash. A last line without its line end was never acknowledged and is cut off.
pub(super) struct Record {
    journal: File,
    kinds: HashMap<String, BTreeMap<String, Vec<Value>>>,
    by_identifier: HashMap<(String, String), BTreeSet<String>>,
    last_id: u64,
}

impl Record {
    /// Opens the journal and reads it back, or begins one.
    pub(super) fn open(journal: &Path) -> io::Result<Record> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(journal)?;
        let mut record = Record {
            journal: file.try_clone()?,
            kinds: HashMap::new(),
            by_identifier: HashMap::new(),
            last_id: 100_000,
        };
        let whole = record.replay(BufReader::new(&mut file))?;
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(record)
    }

    /// Reads unit after unit and answers how many bytes are whole units.
    fn replay(&mut self, mut from: impl BufRead) -> io::Result<u64> {
        let mut whole = 0;
        let mut line = String::new();
        loop {
            line.clear();
            let read = from.read_line(&mut line)?;
            if read == 0 || !line.ends_with('\n') {
                return Ok(whole);
            }
            let unit: Vec<Value> = serde_json::from_str(&line)?;
            unit.into_iter().for_each(|resource| self.keep(resource));
            whole += read as u64;
        }
    }

    /// An id that no resource here has had.
    pub(super) fn next_id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    /// Writes these resources, each with its id, as one unit of work: in the journal first, then in memory.
    pub(super) fn commit(&mut self, unit: Vec<Value>) -> io::Result<()> {
        if unit.is_empty() {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&unit)?;
        line.push(b'\n');
        self.journal.write_all(&line)?;
        unit.into_iter().for_each(|resource| self.keep(resource));
        Ok(())
    }

    fn keep(&mut self, resource: Value) {
        let kind = text(&resource, "resourceType");
        let id = text(&resource, "id");
        self.last_id = self.last_id.max(id.parse().unwrap_or_default());
        for identifier in path::all(&resource, "identifier") {
            let key = (kind.clone(), token(identifier));
            self.by_identifier.entry(key).or_default().insert(id.clone());
        }
        self.kinds.entry(kind).or_default().entry(id).or_default().push(resource);
    }

    /// Every version of one resource, the oldest first; empty when there is none.
    pub(super) fn versions(&self, kind: &str, id: &str) -> &[Value] {
        self.kinds.get(kind).and_then(|ids| ids.get(id)).map_or(&[], Vec::as_slice)
    }

    /// One resource as it is now.
    pub(super) fn current(&self, kind: &str, id: &str) -> Option<&Value> {
        self.versions(kind, id).last()
    }

    /// Every resource of a type as it is now, by id.
    pub(super) fn all(&self, kind: &str) -> Vec<&Value> {
        self.kinds.get(kind).into_iter().flat_map(BTreeMap::values).filter_map(|versions| versions.last()).collect()
    }

    /// The resources of a type that carry, or in an older version carried, this identifier (`system|value`). The caller
    /// checks the current version, as with any other parameter.
    pub(super) fn identified(&self, kind: &str, identifier: &str) -> Vec<&Value> {
        let key = (kind.to_owned(), identifier.to_owned());
        let ids = self.by_identifier.get(&key).into_iter().flatten();
        ids.filter_map(|id| self.current(kind, id)).collect()
    }
}

/// `system|value` of an Identifier.
pub(super) fn token(identifier: &Value) -> String {
    format!("{}|{}", text(identifier, "system"), text(identifier, "value"))
}

fn text(of: &Value, field: &str) -> String {
    of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
