//! The tables of fields in `docs/` are those of the schemas.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::definitions;

/// The schema of a path such as "Credential.spec.keyAuth".
fn schema(path: &str) -> Value {
    let (kind, fields) = path.split_once('.').unwrap();
    let definitions = definitions().unwrap();
    let definition = definitions
        .iter()
        .find(|definition| definition.spec.names.kind == kind)
        .unwrap();
    let json = serde_json::to_value(definition).unwrap();
    let root = json["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    fields
        .split('.')
        .fold(root, |schema, field| match field.strip_suffix("[]") {
            Some(list) => schema["properties"][list]["items"].clone(),
            None => schema["properties"][field].clone(),
        })
}

/// Rows for every field below, those of objects and of lists of objects included.
fn rows(prefix: &str, schema: &Value, except: &[&str], table: &mut String) {
    for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{field}");
        if except.contains(&path.as_str()) {
            continue;
        }
        let required = schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name == field));
        let meaning = inner["description"].as_str().unwrap().replace('|', "\\|");
        let meaning = if required {
            format!("Required. {meaning}")
        } else {
            meaning
        };
        writeln!(table, "| `{path}` | {} | {meaning} |", kind(inner)).unwrap();
        if field == "conditions" {
            continue;
        }
        rows(&format!("{path}."), inner, except, table);
        if let Some(items) = inner.get("items") {
            rows(&format!("{path}[]."), items, except, table);
        }
    }
}

fn kind(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| value.to_string().trim_matches('"').to_owned())
            .collect::<Vec<_>>()
            .join(", ");
    }
    match schema["type"].as_str().unwrap() {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema.get("additionalProperties").is_some() => "map of string".to_owned(),
        "string" if schema["format"] == "date-time" => "RFC 3339 instant".to_owned(),
        "string" => match schema["maxLength"].as_u64() {
            Some(most) => format!("string (≤ {most})"),
            None => "string".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// Between `<!-- fields PATH -->` (or `<!-- fields PATH except A B -->`) and `<!-- end -->`.
fn with_tables(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        let Some(what) = line
            .strip_prefix("<!-- fields ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let mut words = what.split(' ');
        let schema = schema(words.next().unwrap());
        let except: Vec<&str> = words.skip(1).collect();
        out += "| field | type | meaning |\n| --- | --- | --- |\n";
        rows("", &schema, &except, &mut out);
        out += "<!-- end -->\n";
        assert!(
            lines.by_ref().any(|line| line == "<!-- end -->"),
            "{line} has no end"
        );
    }
    out
}

#[test]
fn tables_in_the_docs_are_those_of_the_types() {
    for (file, tables) in [
        ("resources.md", 6),
        ("key-auth.md", 1),
        ("jwt.md", 2),
        ("oauth2.md", 2),
        ("openid-connect.md", 1),
        ("upstream-oauth.md", 1),
        ("upstreams.md", 2),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs")
            .join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = with_tables(&text);
        assert_eq!(text.matches("<!-- fields ").count(), tables, "{file}");
        if std::env::var_os("POSTERN_BLESS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        } else {
            assert!(
                text == expected,
                "docs/{file} is stale: run this test with POSTERN_BLESS=1"
            );
        }
    }
}

/// Every field that may be left out says what happens then.
#[test]
fn descriptions_say_defaults() {
    fn walk(path: &str, schema: &Value) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
            let description = inner["description"].as_str().unwrap();
            let optional = !required.contains(&Value::from(field.as_str()));
            let told = ["Default: ", "0 or absent: ", "Exactly one "]
                .iter()
                .any(|words| description.contains(words));
            assert!(!optional || told, "{path}.{field}: {description}");
            walk(&format!("{path}.{field}"), inner);
            walk(&format!("{path}.{field}[]"), &inner["items"]);
        }
    }
    for kind in ["Consumer", "Credential", "AuthPlugin", "UpstreamPolicy"] {
        walk(kind, &schema(&format!("{kind}.spec")));
    }
}
