//! JSON Patch (RFC 6902), one operation at a time.
//!
//! Ours, since the crate for it takes members out of their order and does not bound what `copy` makes.

use serde_json::Value;

/// Why an operation cannot be made: a sentence without anything that was sent as a value.
type Refused = &'static str;

/// Makes one operation; answers how many values it copied or moved.
pub(super) fn apply(root: &mut Value, operation: &Value) -> Result<usize, Refused> {
    let mut moved = 0;
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let path = pointer(text("path").ok_or("An operation says its path, for example /name/0/family.")?)?;
    let value = || operation.get("value").cloned().ok_or("This operation carries a value. Send it.");
    let from = || pointer(text("from").ok_or("This operation says where it takes the value from. Send from.")?);
    match text("op") {
        Some("add") => add(root, &path, value()?)?,
        Some("remove") => drop(remove(root, &path)?),
        Some("replace") => *find(root, &path)? = value()?,
        Some("move") => {
            let from = from()?;
            if path.len() > from.len() && path.starts_with(&from) {
                return Err("A value cannot be moved into itself.");
            }
            let value = remove(root, &from)?;
            moved = size(&value);
            add(root, &path, value)?;
        }
        Some("copy") => {
            let value = find(root, &from()?)?.clone();
            moved = size(&value);
            add(root, &path, value)?;
        }
        Some("test") if *find(root, &path)? == value()? => {}
        Some("test") => return Err("What is there is not what this test expects. Read the resource again."),
        _ => return Err("op is add, remove, replace, move, copy or test."),
    }
    Ok(moved)
}

/// Whether a tree has more than so many levels.
fn is_deeper(value: &Value, than: usize) -> bool {
    let below = |child: &Value| than == 0 || is_deeper(child, than - 1);
    match value {
        Value::Array(items) => items.iter().any(below),
        Value::Object(fields) => fields.values().any(below),
        _ => false,
    }
}

/// The values in a tree.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// The names of a JSON pointer (RFC 6901).
fn pointer(text: &str) -> Result<Vec<String>, Refused> {
    let Some(rest) = text.strip_prefix('/') else {
        return if text.is_empty() { Ok(Vec::new()) } else { Err("A path begins with /.") };
    };
    if rest.split('/').count() > DEEPEST {
        return Err("The path is deeper than any resource.");
    }
    Ok(rest.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

/// Levels of nesting that a step may come to: far below what recursion bears.
const DEEPEST: usize = 100;

const MISSING: Refused = "There is nothing at this path. Read the resource again.";

/// A place in an array: digits without a leading zero.
fn index(name: &str) -> Result<usize, Refused> {
    let plain =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    if plain { name.parse().map_err(|_| MISSING) } else { Err("A place in a list is a number, or - for its end.") }
}

fn find<'v>(root: &'v mut Value, path: &[String]) -> Result<&'v mut Value, Refused> {
    path.iter().try_fold(root, |here, name| match here {
        Value::Object(fields) => fields.get_mut(name).ok_or(MISSING),
        Value::Array(items) => items.get_mut(index(name)?).ok_or(MISSING),
        _ => Err(MISSING),
    })
}

fn add(root: &mut Value, path: &[String], value: Value) -> Result<(), Refused> {
    if is_deeper(&value, DEEPEST.saturating_sub(path.len())) {
        return Err("This would nest deeper than any resource.");
    }
    let Some((last, above)) = path.split_last() else {
        *root = value;
        return Ok(());
    };
    match find(root, above)? {
        Value::Object(fields) => drop(fields.insert(last.clone(), value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(last)?;
            if at > items.len() {
                return Err(MISSING);
            }
            items.insert(at, value);
        }
        _ => return Err(MISSING),
    }
    Ok(())
}

fn remove(root: &mut Value, path: &[String]) -> Result<Value, Refused> {
    let (last, above) = path.split_last().ok_or("A resource is not removed by a patch. Use DELETE.")?;
    match find(root, above)? {
        Value::Object(fields) => fields.shift_remove(last).ok_or(MISSING),
        Value::Array(items) => {
            let at = index(last)?;
            if at < items.len() { Ok(items.remove(at)) } else { Err(MISSING) }
        }
        _ => Err(MISSING),
    }
}
