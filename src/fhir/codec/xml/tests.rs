#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::fhir::codec::{read_json, write_json};
use std::path::Path;

fn limits() -> Limits {
    Limits { bytes: usize::MAX, values: usize::MAX, entries: usize::MAX, ..Limits::default() }
}

fn walk(dir: &Path, ext: &str, out: &mut Vec<std::path::PathBuf>) {
    for e in std::fs::read_dir(dir).unwrap() {
        let p = e.unwrap().path();
        if p.is_dir() {
            walk(&p, ext, out)
        } else if p.extension().is_some_and(|x| x == ext) {
            out.push(p)
        }
    }
}
fn diff(a: &serde_json::Value, b: &serde_json::Value, at: String, out: &mut Vec<String>) {
    use serde_json::Value::*;
    match (a, b) {
        (Object(x), Object(y)) => {
            for (k, v) in x {
                match y.get(k) {
                    Some(w) => diff(v, w, format!("{at}.{k}"), out),
                    None => out.push(format!("{at}.{k} only left")),
                }
            }
            for k in y.keys() {
                if !x.contains_key(k) {
                    out.push(format!("{at}.{k} only right"))
                }
            }
        }
        (Array(x), Array(y)) => {
            if x.len() != y.len() {
                out.push(format!("{at} len {} {}", x.len(), y.len()))
            }
            for (i, (v, w)) in x.iter().zip(y).enumerate() {
                diff(v, w, format!("{at}[{i}]"), out)
            }
        }
        _ if a == b => {}
        _ => out.push(format!("{at}: {:.300} | {:.300}", a.to_string(), b.to_string())),
    }
}

#[test]
fn data_pairs() {
    let root = std::env::var("LIVEWELL_TEST_DATA").unwrap();
    let root = Path::new(&root);
    let mut xml = vec![];
    walk(root, "xml", &mut xml);
    xml.sort();
    let (mut ok, mut same, mut nojson) = (0, 0, 0);
    for p in &xml {
        let bytes = std::fs::read(p).unwrap();
        match read_xml(&bytes, &limits()) {
            Err(e) => println!("REFUSED {} {:?}", p.display(), e.issues[0]),
            Ok(r) => {
                ok += 1;
                match write_xml(&r, true) {
                    Err(e) => println!("WRITE {} {:?}", p.display(), e.issues[0]),
                    Ok(w) => {
                        let again = read_xml(&w, &limits());
                        match again {
                            Ok(a) if a == r => {}
                            Ok(_) => println!("ROUND {}", p.display()),
                            Err(e) => println!("ROUND {} {:?}", p.display(), e),
                        }
                    }
                }
                let s = p.to_str().unwrap();
                let twins = [
                    s.replace("/xml/", "/json/").replace(".xml", ".json"),
                    s.replace("/examples/", "/examples-json-derived/").replace(".xml", ".json"),
                    s.replace("/structuredefinitions/", "/structuredefinitions-json-derived/")
                        .replace("/valuesets/", "/valuesets-json-derived/")
                        .replace("/codesystems/", "/codesystems-json-derived/")
                        .replace(".xml", ".json"),
                ];
                let Some(t) = twins.iter().find(|t| Path::new(t).exists()) else {
                    nojson += 1;
                    continue;
                };
                match read_json(&std::fs::read(t).unwrap(), &limits()) {
                    Err(e) => println!("TWIN {t} {:?}", e.issues[0]),
                    Ok(j) => {
                        let mut d = vec![];
                        diff(r.value(), j.value(), String::new(), &mut d);
                        if d.is_empty() {
                            same += 1
                        } else {
                            println!("DIFF {} {} {:?}", s, d.len(), &d[..d.len().min(3)])
                        }
                    }
                }
            }
        }
    }
    println!("XML {} read {ok} same as twin {same} no twin {nojson}", xml.len());
    let mut json = vec![];
    walk(root, "json", &mut json);
    json.sort();
    let (mut n, mut ok, mut nowrite, mut back) = (0, 0, 0, 0);
    let began = std::time::Instant::now();
    for p in &json {
        let bytes = std::fs::read(p).unwrap();
        n += 1;
        let r = match read_json(&bytes, &limits()) {
            Err(e) => {
                println!("JREFUSED {} {:?}", p.display(), e.issues[0]);
                continue;
            }
            Ok(r) => r,
        };
        assert!(read_json(&write_json(&r, true), &limits()).unwrap() == r);
        ok += 1;
        match write_xml(&r, false) {
            Err(e) => {
                nowrite += 1;
                println!("JWRITE {} {:?}", p.display(), e.issues[0])
            }
            Ok(x) => match read_xml(&x, &limits()) {
                Ok(b) if b == r => back += 1,
                Ok(b) => {
                    let mut d = vec![];
                    diff(b.value(), r.value(), String::new(), &mut d);
                    println!("JDIFF {} {:?}", p.display(), &d[..d.len().min(3)])
                }
                Err(e) => println!("JBACK {} {:?}", p.display(), e.issues[0]),
            },
        }
    }
    println!("JSON {n} read {ok} nowrite {nowrite} back {back} {:?}", began.elapsed());
}
