//! Paths, hosts and conditions of routes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::tables::plain;

/// Which paths a `uri` stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pattern {
    /// This one.
    Exact(String),
    /// `/a/*`, here without the slash: all below, and not `/a` itself.
    Below(String),
    /// `/a*`: all that begin so.
    Begins(String),
}

/// Headers and query parameters that a request must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
}

impl Pattern {
    /// The pattern, and whether it says exactly what the text does.
    pub(super) fn new(uri: &str) -> (Self, bool) {
        let end = uri.find(['*', ':']).unwrap_or(uri.len());
        let (fixed, rest) = uri.split_at(end);
        let fine = fixed.starts_with('/')
            && !fixed.contains("//")
            && !fixed.split('/').any(|part| part == "." || part == "..")
            && fixed
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=@".contains(&byte));
        match rest {
            "" => (Self::Exact(fixed.to_owned()), fine),
            "*" => match fixed.strip_suffix('/') {
                Some(below) => (Self::Below(below.to_owned()), fine),
                None => (Self::Begins(fixed.to_owned()), fine),
            },
            _ => (Self::Begins(fixed.to_owned()), false),
        }
    }

    /// What all its paths begin with.
    pub(super) fn beginning(&self) -> String {
        match self {
            Self::Exact(path) | Self::Begins(path) => path.clone(),
            Self::Below(path) => format!("{path}/"),
        }
    }

    pub(super) fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Below(_) | Self::Begins(_) => path.starts_with(&self.beginning()),
        }
    }

    /// Whether some path is of both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(path), _) => other.takes(path),
            (_, Self::Exact(path)) => self.takes(path),
            _ => {
                let (own, its) = (self.beginning(), other.beginning());
                own.starts_with(&its) || its.starts_with(&own)
            }
        }
    }

    /// The match of an HTTPRoute. As an expression it comes after all prefixes, and longer ones before shorter ones.
    pub(super) fn path(&self, expression: bool) -> Value {
        match self {
            Self::Exact(path) => json!({"type": "Exact", "value": path}),
            Self::Below(path) if !expression => {
                let path = if path.is_empty() { "/" } else { path };
                json!({"type": "PathPrefix", "value": path})
            }
            _ => {
                json!({"type": "RegularExpression", "value": format!("{}.*", escaped(&self.beginning()))})
            }
        }
    }
}

/// Whether a request for one host may be for the other, too; no hosts are all hosts.
pub(super) fn hosts_meet(one: &[String], other: &[String]) -> bool {
    let covers = |wild: &str, host: &str| {
        wild.strip_prefix('*')
            .is_some_and(|suffix| host.ends_with(suffix))
    };
    one.is_empty()
        || other.is_empty()
        || one
            .iter()
            .any(|a| other.iter().any(|b| a == b || covers(a, b) || covers(b, a)))
}

/// Reads `vars`: the alternatives, or what of them cannot be said.
pub(super) fn conditions(
    vars: &Value,
    methods: &mut Vec<String>,
) -> Result<Vec<Conditions>, String> {
    let mut all = vec![Conditions::default()];
    let list = match vars {
        Value::Null => return Ok(all),
        Value::Array(list) => list,
        _ => return Err("vars: is no list".to_owned()),
    };
    for one in list {
        let Some((name, values)) = condition(one)? else {
            continue;
        };
        if name == "request_method" {
            let wanted: BTreeSet<&String> = values.iter().collect();
            if methods.is_empty() {
                *methods = wanted.into_iter().cloned().collect();
            } else {
                methods.retain(|method| wanted.contains(method));
                if methods.is_empty() {
                    return Err("vars: no method is left".to_owned());
                }
            }
            continue;
        }
        let header = name
            .strip_prefix("http_")
            .map(|name| name.replace('_', "-"));
        let parameter = name.strip_prefix("arg_");
        let usable = header.as_deref().or(parameter).is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        if !usable || all.len() * values.len() > 16 {
            return Err(format!(
                "vars: {name:?} cannot be said in a route; only == and in of headers (http_NAME), query parameters (arg_NAME) and the method can"
            ));
        }
        all = all
            .iter()
            .flat_map(|before| {
                values.iter().map(|value| {
                    let mut now = before.clone();
                    match (&header, parameter) {
                        (Some(header), _) => now.headers.push((header.clone(), value.clone())),
                        (None, Some(parameter)) => {
                            now.query.push((parameter.to_owned(), value.clone()))
                        }
                        (None, None) => {}
                    }
                    now
                })
            })
            .collect();
    }
    let twice = |list: &[(String, String)]| {
        let names: BTreeSet<&String> = list.iter().map(|(name, _)| name).collect();
        names.len() != list.len()
    };
    if all
        .iter()
        .any(|one| twice(&one.headers) || twice(&one.query))
    {
        return Err(
            "vars: two conditions on one header or parameter cannot be said in a route".to_owned(),
        );
    }
    Ok(all)
}

/// One of `vars`: a name and the values that it may have; none for a word that says nothing.
fn condition(one: &Value) -> Result<Option<(String, Vec<String>)>, String> {
    let parts = match one {
        Value::String(word) if word == "AND" => return Ok(None),
        Value::Array(parts) => parts,
        _ => return Err("vars: only conditions that must all hold can be carried over".to_owned()),
    };
    let (Some(name), Some(operator), Some(value), 3) = (
        parts.first().and_then(plain),
        parts.get(1).and_then(plain),
        parts.get(2),
        parts.len(),
    ) else {
        return Err("vars: only [name, operator, value] can be carried over".to_owned());
    };
    let values: Vec<String> = match (operator.as_str(), value) {
        ("==", value) => plain(value).into_iter().collect(),
        ("in" | "IN", Value::Array(values)) => values.iter().filter_map(plain).collect(),
        _ => Vec::new(),
    };
    if values.is_empty() {
        return Err(format!(
            "vars: {operator:?} for {name:?} cannot be said in a route; only == and in of headers, query parameters and the method can"
        ));
    }
    Ok(Some((name, values)))
}

fn escaped(text: &str) -> String {
    let mut all = String::new();
    for letter in text.chars() {
        if !letter.is_ascii_alphanumeric() && !"/-_~!&',;=@".contains(letter) {
            all.push('\\');
        }
        all.push(letter);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_a_path_or_what_begins_so() {
        assert_eq!(Pattern::new("/a"), (Pattern::Exact("/a".into()), true));
        assert_eq!(Pattern::new("/a/*"), (Pattern::Below("/a".into()), true));
        assert_eq!(Pattern::new("/*"), (Pattern::Below(String::new()), true));
        assert_eq!(Pattern::new("/a*"), (Pattern::Begins("/a".into()), true));
        assert_eq!(
            Pattern::new("/a/:id"),
            (Pattern::Begins("/a/".into()), false)
        );
        for bad in ["a", "/a//b", "/a/../b", "/a%20", "/a*b"] {
            assert!(!Pattern::new(bad).1, "{bad}");
        }
    }

    #[test]
    fn patterns_meet_where_a_path_is_of_both() {
        let meet = |a: &str, b: &str| Pattern::new(a).0.meets(&Pattern::new(b).0);
        assert!(meet("/*", "/a"));
        assert!(meet("/a/*", "/a/b*"));
        assert!(!meet("/a/*", "/a"));
        assert!(!meet("/a/*", "/b/*"));
    }

    #[test]
    fn conditions_are_headers_and_parameters() {
        let mut methods = vec!["GET".to_owned(), "PUT".to_owned()];
        let vars = json!([
            ["http_x_tier", "==", "gold"],
            ["arg_v", "in", ["1", 2]],
            ["request_method", "==", "PUT"]
        ]);
        let read = conditions(&vars, &mut methods).unwrap();
        assert_eq!(methods, ["PUT"]);
        assert_eq!(read.len(), 2);
        assert_eq!(read[1].headers, [("x-tier".to_owned(), "gold".to_owned())]);
        assert_eq!(read[1].query, [("v".to_owned(), "2".to_owned())]);
        for bad in [
            json!([["remote_addr", "==", "10.0.0.1"]]),
            json!([["http_a", "~~", "x"]]),
            json!(["OR", ["arg_a", "==", "1"]]),
        ] {
            assert!(conditions(&bad, &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
