//! Certificates: one listener for each name.

use std::collections::{BTreeMap, BTreeSet};

use compile::Kind;
use serde_json::{Map, Value, json};

use super::super::manifests::{Manifests, is_label};
use super::pattern::hosts_meet;
use super::tables::{self, Tables, label, text, texts};

/// A Gateway has at most 64 listeners, one of them without TLS.
const MOST: usize = 60;

/// HTTPS listeners, with their names.
pub(super) fn listeners(tables: &Tables<'_>, manifests: &mut Manifests) -> Vec<Value> {
    let mut all = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    // Names whose clients must show a certificate; no other listener may take them.
    let mutual: Vec<String> = tables
        .ssls
        .iter()
        .filter(|entry| {
            entry
                .value
                .get("client")
                .is_some_and(|client| !tables::is_empty(client))
        })
        .flat_map(|entry| texts(entry.value, "sni", "snis"))
        .collect();
    for entry in &tables.ssls {
        let (value, at) = (entry.value, &entry.at);
        let names = texts(value, "sni", "snis");
        let label = format!("{} {}", label("ssl", value, at), names.join(" "))
            .trim_end()
            .to_owned();
        let Some((certificate, key)) = pair(value, at, &label, &names, &mutual, manifests) else {
            continue;
        };
        let names: Vec<String> = names
            .iter()
            .filter(|name| is_sni(name))
            .map(|name| name.to_ascii_lowercase())
            .collect();
        if all.len() + names.len() > MOST {
            manifests.note(
                &format!("{at}.snis"),
                &label,
                "snis: a Gateway has at most 64 listeners; nothing is served with TLS for these names",
            );
            continue;
        }
        let secret = manifests.name(Kind::Secret, names.first().map_or("tls", String::as_str));
        let entries = BTreeMap::from([("tls.crt", certificate), ("tls.key", key)]);
        manifests.add(
            Kind::Secret,
            &secret,
            json!({"type": "kubernetes.io/tls", "stringData": entries}),
        );
        for name in names.into_iter().filter(|name| seen.insert(name.clone())) {
            let mut listener = Map::new();
            listener.insert("name".to_owned(), json!(format!("https-{}", all.len() + 1)));
            listener.insert("protocol".to_owned(), json!("HTTPS"));
            listener.insert("port".to_owned(), json!(8443));
            if name != "*" {
                listener.insert("hostname".to_owned(), json!(name));
            }
            listener.insert(
                "tls".to_owned(),
                json!({"mode": "Terminate", "certificateRefs": [{"name": secret}]}),
            );
            all.push(Value::Object(listener));
        }
    }
    all
}

/// Certificate and key; none where nothing can be served with them.
fn pair(
    value: &Value,
    at: &str,
    label: &str,
    names: &[String],
    mutual: &[String],
    manifests: &mut Manifests,
) -> Option<(String, String)> {
    let mut refuse = |field: &str, message: &str| {
        manifests.note(
            &format!("{at}.{field}"),
            label,
            format!("{field}: {message}"),
        )
    };
    if text(value, "status").as_deref() == Some("0") {
        refuse("status", "a disabled certificate is not carried over");
        return None;
    }
    if text(value, "type").as_deref() == Some("client") {
        refuse(
            "type",
            "certificates of the gateway are not carried over; they are the Gateway's (tls.backend)",
        );
        return None;
    }
    if hosts_meet(names, mutual) && !mutual.is_empty() {
        refuse(
            "client",
            "certificates of clients are asked for by port, not by name (tls.frontend of the Gateway); nothing is served with TLS for these names and those that include them",
        );
        return None;
    }
    let listed = value.get("certificates").and_then(|list| list.get(0));
    let certificate = text(value, "cert").or_else(|| text(listed?, "certificate"));
    let key = text(value, "key").or_else(|| text(listed?, "key"));
    let (Some(certificate), Some(key)) = (certificate, key) else {
        refuse(
            "cert",
            "certificate or key is missing; nothing is served with TLS for these names",
        );
        return None;
    };
    if tables::is_elsewhere(value)
        || !certificate.contains("-----BEGIN CERTIFICATE")
        || !key.contains("PRIVATE KEY-----")
    {
        refuse(
            "key",
            "certificate or key is no PEM: it is elsewhere, or encrypted by APISIX; put it in plain into a Secret. Nothing is served with TLS for these names",
        );
        return None;
    }
    if value
        .get("certs")
        .is_some_and(|more| !tables::is_empty(more))
    {
        refuse(
            "certs",
            "more certificates for the same names are not carried over",
        );
    }
    if let Some(odd) = names.iter().find(|name| !is_sni(name)) {
        refuse("snis", &format!("{odd:?} is no name"));
    }
    Some((certificate, key))
}

fn is_sni(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "*"
        || name
            .strip_prefix("*.")
            .unwrap_or(&name)
            .split('.')
            .all(is_label)
}
