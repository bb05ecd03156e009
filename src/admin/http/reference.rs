//! The reference of the API, `docs/api.md`: written from the routes as they are declared and from the comments on the
//! types that they take and give.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::all;

/// Where the types are.
const SOURCES: &[&str] = &[
    include_str!("../api.rs"),
    include_str!("../../telemetry/counters.rs"),
    include_str!("../../journal/event.rs"),
    include_str!("../../public/mod.rs"),
];

const INTRODUCTION: &str = "\
# becalm's HTTP API

Written from the source: change the declarations in `src/admin/http` and the comments in `src/admin/api.rs`, not this file.

becalm answers HTTP/1.1 on the unix socket of `[admin] socket`, and by TCP where `[admin.http] listen` says so:

    curl --unix-socket /run/becalm/admin.sock http://localhost/api/v1/status
    curl -H \"Authorization: Bearer $(cat /etc/becalm/token)\" http://127.0.0.1:8025/api/v1/status

**Who may.** On the unix socket the kernel says who asks: root, becalm's own user, and the users and the group of `[admin]`
may use every route. By TCP, `open` routes are for everybody; `read` takes the token, unless `[admin.http]
read_without_token` is true; `act` always takes it. Acts are written into the audit log with who wanted them.

**Requests.** A `GET` takes its parameters as a query, a `POST` as a JSON object (`Content-Type: application/json`, at most
64 KiB). An unknown parameter or field is an error that names it. By TCP, `Host` must be a name that becalm knows
(`[admin.http] allowed_hosts`); acts that a page of another origin asks for are refused. There are no cookies.

**Answers.** JSON; times are RFC 3339 in UTC. Fields may be added to objects; those that are there stay what they are. What
went wrong has a status of 4xx or 5xx and

    {\"error\": {\"code\": \"no_such_list\", \"message\": \"x@example.org is no list that becalm knows (`becalm lists` shows them)\"}}

with a code for programs and a message for people. Where a request is no HTTP, or its head is too large (16 KiB, 64 fields),
the answer has no body: 400, 414, 431. A head or body that takes longer than ten seconds ends the connection; so do ten
seconds without a request. What is not read within thirty seconds is not sent any more.
";

/// What `docs/api.md` should say.
fn reference() -> String {
    let types = types();
    let routes: Vec<_> = all().iter().map(super::Route::info).collect();
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Routes\n\n| route | who may | takes | answers | what for |\n|---|---|---|---|---|\n");
    let linked = |names: &str| {
        let link = |name: &str| match types.contains_key(name) {
            true => format!("[{name}](#{})", name.to_lowercase()),
            false => name.to_owned(),
        };
        names.split(", ").map(link).collect::<Vec<_>>().join(", ")
    };
    for route in &routes {
        let takes = if route.takes == "Nothing" { String::new() } else { linked(&route.takes) };
        let answers = linked(&route.answers);
        let (method, path, about) = (&route.method, &route.path, &route.about);
        let _ = writeln!(text, "| `{method} {path}` | {} | {takes} | {answers} | {about} |", route.access);
    }
    text.push_str("\n## Types\n");
    let named = routes.iter().flat_map(|route| route.takes.split(", ").chain(route.answers.split(", ")));
    let mut waiting: Vec<&str> = named.chain(["Failure"]).collect();
    waiting.reverse();
    let mut told = BTreeSet::from(["Nothing"]);
    while let Some(name) = waiting.pop() {
        let Some((name, info)) = types.get_key_value(name) else { continue };
        if !told.insert(name) {
            continue;
        }
        let _ = write!(text, "\n### {name}\n\n{}\n\n| field | type | |\n|---|---|---|\n", info.about);
        for field in &info.fields {
            let (kind, inner) = in_words(&field.kind);
            let inner = types.get_key_value(inner.as_str()).map(|(name, _)| name.as_str());
            let kind = inner.map_or(kind.clone(), |inner| kind.replace(inner, &linked(inner)));
            waiting.splice(0..0, inner);
            let _ = writeln!(text, "| {} | {kind} | {} |", field.name, field.about);
        }
    }
    text
}

#[derive(Default)]
struct Type {
    about: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    kind: String,
    about: String,
}

/// The types of the sources, as rustfmt writes them.
fn types() -> BTreeMap<String, Type> {
    let mut types = BTreeMap::new();
    for source in SOURCES {
        let mut about = String::new();
        // The type whose braces are open, and the variant.
        let mut open: Option<(String, Type)> = None;
        let mut variant: Option<String> = None;
        let body = source.split("#[cfg(test)]").next().unwrap_or_default();
        for line in body.lines() {
            let (bare, outer) = (line.trim(), !line.starts_with(' '));
            if let Some(words) = bare.strip_prefix("///") {
                if !about.is_empty() {
                    about.push(' ');
                }
                about.push_str(words.trim());
                continue;
            }
            let begun =
                ["pub struct ", "pub enum ", "counters!"].iter().find_map(|word| line.strip_prefix(word));
            if let Some(name) = begun.and_then(|rest| rest.strip_suffix(" {")) {
                open = Some(match name {
                    "" => (
                        "Counts".to_owned(),
                        Type { about: "Counts since the start.".to_owned(), fields: vec![] },
                    ),
                    name => (name.to_owned(), Type { about: about.clone(), fields: vec![] }),
                });
            } else if outer && bare == "}" {
                types.extend(open.take());
            } else if let Some((_, info)) = &mut open {
                let name = |name: &str| match &variant {
                    Some(variant) => format!("`{name}` (of `{variant}`)"),
                    None => format!("`{name}`"),
                };
                let field = bare.trim_end_matches(',');
                let (field, kind) = match field.strip_prefix("pub ").unwrap_or(field).split_once(": ") {
                    Some((field, kind)) if !bare.starts_with("#[") => (name(field), kind),
                    _ if bare.ends_with(" {") => {
                        variant = Some(snake_case(bare.trim_end_matches(" {")));
                        about.clear();
                        continue;
                    }
                    _ if bare == "}," => {
                        variant = None;
                        continue;
                    }
                    // A count, or a variant without fields.
                    None if bare.ends_with(',') && !bare.contains('(') => {
                        (format!("`{}`", snake_case(field)), "u64")
                    }
                    _ => continue,
                };
                info.fields.push(Field { name: field, kind: kind.to_owned(), about: about.clone() });
            } else if bare.starts_with("#[") {
                continue;
            }
            about.clear();
        }
    }
    types
}

/// A type of Rust's as a reader of JSON knows it, and the type of ours in it.
fn in_words(kind: &str) -> (String, String) {
    let within = |outer: &str| kind.strip_prefix(outer)?.strip_suffix('>');
    if let Some(inner) = within("Option<") {
        let (kind, inner) = in_words(inner);
        return (format!("{kind} or null"), inner);
    }
    if let Some(inner) = within("Vec<") {
        let (kind, inner) = in_words(inner);
        return (format!("array of {kind}"), inner);
    }
    let kind = match kind {
        "String" | "&'static str" | "Timestamp" => "string",
        "u32" | "u64" | "usize" => "integer",
        "bool" => "boolean",
        "serde_json::Value" => "object",
        other => other,
    };
    (kind.to_owned(), kind.to_owned())
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut out, c| {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
        out
    })
}

#[test]
fn api_reference_is_what_is_declared() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");
    let should = reference();
    if std::env::var_os("BECALM_WRITE").is_some() {
        std::fs::write(path, &should).unwrap();
    }
    let is = std::fs::read_to_string(path).unwrap_or_default();
    let differs = is.lines().zip(should.lines()).find(|(is, should)| is != should);
    assert!(
        is == should,
        "docs/api.md is out of date; write it anew with `BECALM_WRITE=1 cargo test --lib api_reference`\n{differs:#?}"
    );
}

#[test]
fn every_type_of_a_route_is_explained() {
    let types = types();
    for route in all() {
        let info = route.info();
        for name in info.takes.split(", ").chain(info.answers.split(", ")) {
            // Other answers than JSON are named by their media type.
            if name == "Nothing" || name.contains('/') {
                continue;
            }
            let Some(explained) = types.get(name) else { panic!("{}: {name} is in no source", info.path) };
            assert!(
                !explained.about.is_empty() && explained.fields.iter().all(|field| !field.about.is_empty()),
                "{name}"
            );
        }
    }
    let event = &types["Event"];
    assert!(event.fields.iter().any(|field| field.name == "`storm` (of `storm_started`)"));
    assert!(types["Counts"].fields.iter().any(|field| field.name == "`watched`"));
}
