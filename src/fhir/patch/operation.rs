//! The operations of FHIRPath Patch on a resource, one at a time (<https://hl7.org/fhir/R4/fhirpatch.html>).

use serde_json::{Map, Value};

use super::place::{Key, Place, Step, at, at_mut, evaluate, is_choice, parse};
use crate::fhir::{check, path};

/// Makes one operation, a parameter of the Parameters that were sent.
pub(super) fn apply(root: &mut Value, parameter: &Value) -> Result<(), String> {
    if path::text(parameter, "name") != Some("operation") {
        return Err("Each parameter of a patch is an operation.".to_owned());
    }
    let asked = Asked::read(parameter)?;
    let kind = root.get("resourceType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = check::resource_types().find(|known| *known == kind).ok_or("The resource has no type of R4.")?;
    let steps = parse(asked.path, kind)?;
    let whole = Place { keys: Vec::new(), type_name: kind };
    match asked.what {
        "add" => {
            let parent = one(root, whole, &steps)?;
            let name = asked.name.ok_or("add says the name of the element. Send the part name.")?;
            add(root, &parent, name, asked.value()?)
        }
        "insert" => {
            let index = asked.number("index")?;
            let list = list(root, whole, &steps)?;
            let (parent, name) = (list.parent, list.name);
            let value = asked.value()?.of(&parent, &name)?;
            let items = items(root, &parent, &name)?;
            if index > items.len() {
                return Err("index lies beyond the end of the list.".to_owned());
            }
            items.insert(index, value);
            Ok(())
        }
        "delete" => match evaluate(root, whole, &steps).as_slice() {
            [] => Ok(()),
            [one] => {
                remove(root, &one.keys);
                Ok(())
            }
            _ => Err("The path names several elements; delete takes one. Add [n] or where().".to_owned()),
        },
        "replace" => {
            let place = one(root, whole, &steps)?;
            replace(root, &place, asked.value()?)
        }
        "move" => {
            let (source, destination) = (asked.number("source")?, asked.number("destination")?);
            let list = list(root, whole, &steps)?;
            let items = items(root, &list.parent, &list.name)?;
            if source >= items.len() || destination >= items.len() {
                return Err("source or destination lies beyond the end of the list.".to_owned());
            }
            let moved = items.remove(source);
            items.insert(destination, moved);
            Ok(())
        }
        _ => Err("type is add, insert, delete, replace or move.".to_owned()),
    }
}

/// The parts of an operation.
struct Asked<'p> {
    parts: &'p [Value],
    what: &'p str,
    path: &'p str,
    name: Option<&'p str>,
}

impl<'p> Asked<'p> {
    fn read(parameter: &'p Value) -> Result<Asked<'p>, String> {
        let parts = parameter.get("part").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let part = |name: &str| parts.iter().find(|p| path::text(p, "name") == Some(name));
        let text = |name: &str| {
            part(name)?.as_object()?.iter().find(|(n, _)| n.starts_with("value")).and_then(|(_, v)| v.as_str())
        };
        Ok(Asked {
            parts,
            what: text("type").ok_or("An operation says its type: add, insert, delete, replace or move.")?,
            path: text("path").ok_or("An operation says its path, for example Patient.birthDate.")?,
            name: text("name"),
        })
    }

    fn part(&self, name: &str) -> Option<&'p Value> {
        self.parts.iter().find(|p| path::text(p, "name") == Some(name))
    }

    fn number(&self, name: &str) -> Result<usize, String> {
        let number = self.part(name).and_then(|p| p.get("valueInteger")).and_then(Value::as_u64);
        number
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| format!("This operation says its {name}, as valueInteger."))
    }

    fn value(&self) -> Result<Given<'p>, String> {
        self.part("value").map(Given).ok_or_else(|| "This operation carries a value. Send the part value.".to_owned())
    }
}

/// The value of an operation: of a type, or of an element without a type name, in parts.
#[derive(Clone, Copy)]
struct Given<'p>(&'p Value);

impl Given<'_> {
    /// The JSON name of the element: of a choice, with the type of the value.
    fn json_name(&self, parent: &'static str, name: &str) -> Result<String, String> {
        if check::member(parent, name).is_some() {
            return Ok(name.to_owned());
        }
        let typed = self.member().map(|(member, _)| format!("{name}{}", member.trim_start_matches("value")));
        let choice = typed.filter(|typed| is_choice(parent, name, typed));
        choice.ok_or_else(|| format!("{parent} has no such element, or none of this type."))
    }

    /// `value[x]` with its JSON name.
    fn member(&self) -> Option<(&str, &Value)> {
        let fields = self.0.as_object()?;
        fields.iter().find(|(name, _)| name.starts_with("value")).map(|(name, value)| (name.as_str(), value))
    }

    /// What extends the value, where it is a primitive.
    fn companion(&self) -> Option<&Value> {
        let fields = self.0.as_object()?;
        fields.iter().find(|(name, _)| name.starts_with("_value")).map(|(_, value)| value)
    }

    /// The value as this element has it.
    fn of(&self, parent: &Place, json: &str) -> Result<Value, String> {
        if let Some((_, value)) = self.member() {
            return Ok(value.clone());
        }
        if let Some(resource) = self.0.get("resource") {
            return Ok(resource.clone());
        }
        let member = check::member(parent.type_name, json).ok_or("There is no such element.")?;
        let mut whole = Value::Object(Map::new());
        let place = Place { keys: Vec::new(), type_name: member.type_name };
        for part in self.0.get("part").and_then(Value::as_array).into_iter().flatten() {
            let name = path::text(part, "name").unwrap_or_default();
            add(&mut whole, &place, name, Given(part))?;
        }
        match whole.as_object().is_some_and(Map::is_empty) {
            true => Err("The value is empty. Send value[x], or its parts.".to_owned()),
            false => Ok(whole),
        }
    }
}

/// The one element that the steps come to.
fn one(root: &Value, whole: Place, steps: &[Step]) -> Result<Place, String> {
    let mut found = evaluate(root, whole, steps);
    match found.len() {
        1 => found.pop().ok_or_else(String::new),
        0 => Err("There is nothing at this path.".to_owned()),
        _ => Err("The path names several elements; it must name one. Add [n] or where().".to_owned()),
    }
}

/// A list of elements: where it hangs, and its JSON name.
struct List {
    parent: Place,
    name: String,
}

fn list(root: &Value, whole: Place, steps: &[Step]) -> Result<List, String> {
    let Some((Step::Element(name), above)) = steps.split_last() else {
        return Err("The path of this operation ends in the name of a list, for example Patient.identifier.".to_owned());
    };
    let parent = one(root, whole, above)?;
    match check::member(parent.type_name, name) {
        Some(member) if member.many => Ok(List { parent, name: name.clone() }),
        _ => Err("The path of this operation names a list; this element is none.".to_owned()),
    }
}

fn items<'v>(root: &'v mut Value, parent: &Place, name: &str) -> Result<&'v mut Vec<Value>, String> {
    let fields = at_mut(root, &parent.keys).and_then(Value::as_object_mut).ok_or("There is nothing at this path.")?;
    if fields.contains_key(&format!("_{name}")) {
        return Err("Items of this list are extended; send the list whole, by replace.".to_owned());
    }
    let items = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    items.as_array_mut().ok_or_else(|| "This element is no list.".to_owned())
}

/// Adds an element: to the end of a list, or where there is none yet. What is added to a primitive goes to its companion.
fn add(root: &mut Value, parent: &Place, name: &str, given: Given<'_>) -> Result<(), String> {
    if let Some(companion) = companion_of(root, parent) {
        return add(root, &companion, name, given);
    }
    let json = given.json_name(parent.type_name, name)?;
    let value = given.of(parent, &json)?;
    let many = check::member(parent.type_name, &json).is_some_and(|member| member.many);
    if many {
        items(root, parent, &json)?.push(value);
        return Ok(());
    }
    let fields = at_mut(root, &parent.keys).and_then(Value::as_object_mut).ok_or("There is nothing at this path.")?;
    let there = fields.keys().any(|key| *key == json || is_choice(parent.type_name, name, key));
    if there {
        return Err("This element is there already, and there can be only one. Use replace.".to_owned());
    }
    if let Some(companion) = given.companion() {
        fields.insert(format!("_{json}"), companion.clone());
    }
    fields.insert(json, value);
    Ok(())
}

/// The companion (`_birthDate`) of a primitive element, made where there is none; `None` for what is no primitive.
fn companion_of(root: &mut Value, place: &Place) -> Option<Place> {
    let (Key::Name(name), above) = place.keys.split_last()? else { return None };
    if at(root, &place.keys)?.is_object() {
        return None;
    }
    let name = format!("_{name}");
    let fields = at_mut(root, above)?.as_object_mut()?;
    fields.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    let mut keys = above.to_vec();
    keys.push(Key::Name(name));
    Some(Place { keys, type_name: "Element" })
}

fn replace(root: &mut Value, place: &Place, given: Given<'_>) -> Result<(), String> {
    let Some((last, above)) = place.keys.split_last() else {
        return Err("A resource is not replaced by a patch. Send it by PUT.".to_owned());
    };
    let name = match (last, above.split_last()) {
        (Key::Name(name), _) => name,
        (Key::At(_), Some((Key::Name(name), _))) => name,
        _ => return Err("There is nothing at this path.".to_owned()),
    };
    let owner = match last {
        Key::Name(_) => above,
        Key::At(_) => above.split_last().map_or(above, |(_, owner)| owner),
    };
    let parent = type_at(root, owner).ok_or("There is nothing at this path.")?;
    // A choice takes the name of its new type.
    let typed = given.member().map(|(member, _)| member.trim_start_matches("value").to_owned()).unwrap_or_default();
    let base = (1..name.len()).rev().filter_map(|end| name.get(..end)).find(|base| is_choice(parent, base, name));
    let renamed = base.map(|base| format!("{base}{typed}")).filter(|new| new != name);
    let holder = Place { keys: owner.to_vec(), type_name: parent };
    match renamed {
        Some(new) if check::member(parent, &new).is_some() => {
            let value = given.of(&holder, &new)?;
            remove(root, &place.keys);
            let fields = at_mut(root, owner).and_then(Value::as_object_mut).ok_or("There is nothing at this path.")?;
            fields.insert(new, value);
        }
        Some(_) => return Err("This element cannot have a value of this type.".to_owned()),
        None => {
            let value = given.of(&holder, name)?;
            *at_mut(root, &place.keys).ok_or("There is nothing at this path.")? = value;
        }
    }
    Ok(())
}

/// The type of the element at a place.
fn type_at(root: &Value, keys: &[Key]) -> Option<&'static str> {
    let kind = root.get("resourceType")?.as_str()?;
    let mut of = check::resource_types().find(|known| *known == kind)?;
    let mut here = root;
    for key in keys {
        match key {
            Key::Name(name) => {
                of = check::member(of, name)?.type_name;
                here = here.get(name)?;
            }
            Key::At(n) => here = here.get(*n)?,
        }
        if let Some(own) = here.get("resourceType").and_then(Value::as_str) {
            of = check::resource_types().find(|known| *known == own)?;
        }
    }
    Some(of)
}

/// Takes an element away, with its companion, and what would be left empty by that.
fn remove(root: &mut Value, keys: &[Key]) {
    let Some((last, above)) = keys.split_last() else { return };
    let empty = match (at_mut(root, above), last) {
        (Some(Value::Object(fields)), Key::Name(name)) => {
            fields.shift_remove(name);
            fields.shift_remove(&format!("_{name}"));
            fields.is_empty()
        }
        (Some(Value::Array(items)), Key::At(n)) if *n < items.len() => {
            items.remove(*n);
            items.is_empty()
        }
        _ => false,
    };
    if let (Key::At(n), Some((Key::Name(name), owner))) = (last, above.split_last())
        && let Some(Value::Array(items)) = at_mut(root, owner).and_then(|o| o.get_mut(format!("_{name}")))
        && *n < items.len()
    {
        items.remove(*n);
    }
    if empty {
        remove(root, above);
    }
}
