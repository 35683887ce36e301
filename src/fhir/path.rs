//! Dotted paths through a JSON tree: `subject.identifier.value`. Arrays are walked through, as FHIRPath does.

use serde_json::Value;

/// Every value at the path; arrays on the way and at the end are flattened.
pub fn all<'a>(root: &'a Value, dotted: &str) -> Vec<&'a Value> {
    let mut here = Vec::new();
    flatten(root, &mut here);
    for step in dotted.split('.') {
        let mut next = Vec::new();
        for value in here {
            if let Some(child) = value.get(step) {
                flatten(child, &mut next);
            }
        }
        here = next;
    }
    here
}

/// The first string at the path.
pub fn text<'a>(root: &'a Value, dotted: &str) -> Option<&'a str> {
    all(root, dotted).into_iter().find_map(Value::as_str)
}

fn flatten<'a>(value: &'a Value, into: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, into)),
        other => into.push(other),
    }
}
