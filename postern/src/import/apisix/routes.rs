//! Routes with all that concerns them: their service, their plugin_config, the global rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::manifests::Manifests;
use super::consumers::People;
use super::pattern::{Conditions, Pattern, conditions};
use super::plugins::{self, Duties};
use super::tables::{self, Entry, Tables, label, number, text, texts};
use super::upstreams::Plan;

/// What a route may have; anything else might protect it.
const KNOWN: [&str; 29] = [
    "id",
    "name",
    "desc",
    "description",
    "labels",
    "uri",
    "uris",
    "host",
    "hosts",
    "methods",
    "priority",
    "status",
    "plugins",
    "plugin_config_id",
    "service_id",
    "upstream",
    "upstream_id",
    "timeout",
    "enable_websocket",
    "remote_addr",
    "remote_addrs",
    "vars",
    "filter_func",
    "script",
    "script_id",
    "create_time",
    "update_time",
    "metadata",
    "tags",
];

/// The same of a service.
const KNOWN_OF_SERVICE: [&str; 16] = [
    "id",
    "name",
    "desc",
    "description",
    "labels",
    "hosts",
    "plugins",
    "upstream",
    "upstream_id",
    "enable_websocket",
    "script",
    "routes",
    "create_time",
    "update_time",
    "tags",
    "stream_routes",
];

/// The methods that an HTTPRoute can name.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

#[derive(Debug)]
pub(super) struct Route {
    pub(super) at: String,
    pub(super) label: String,
    /// What its objects are to be called.
    pub(super) name: String,
    pub(super) hosts: Vec<String>,
    pub(super) patterns: Vec<Pattern>,
    /// All, where there are none.
    pub(super) methods: Vec<String>,
    pub(super) alternatives: Vec<Conditions>,
    pub(super) priority: i64,
    pub(super) duties: Duties,
    /// Where requests go.
    pub(super) plan: Option<Plan>,
    pub(super) upstream_name: String,
    /// Why it is left out.
    pub(super) left_out: bool,
    /// Whether its requests are refused, lest a route take them that asks for less.
    pub(super) closed: bool,
    /// Patterns that must be expressions, by their number.
    pub(super) expressions: BTreeSet<usize>,
    /// Paths of its own that another route's prefix would take.
    pub(super) own_paths: BTreeSet<String>,
}

impl Route {
    /// What is asked of requests before they get in, as far as it can be compared.
    pub(super) const fn guards(&self) -> &BTreeSet<String> {
        &self.duties.guards
    }
}

pub(super) fn read<'a>(
    tables: &Tables<'a>,
    people: &People<'a>,
    manifests: &mut Manifests,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for entry in &tables.routes {
        let label = label("route", entry.value, &entry.at);
        let status = entry.value.get("status").and_then(tables::plain);
        if matches!(status.as_deref(), Some("0" | "false")) {
            let at = format!("{}.status", entry.at);
            manifests.note(&at, &label, "status: a disabled route is not carried over");
            continue;
        }
        let (route, problems, notes) = one(tables, people, entry, label);
        for (field, message) in &problems {
            let at = format!("{}.{field}", route.at);
            manifests.note(
                &at,
                &route.label,
                format!("{message}; the route is left out"),
            );
        }
        if !route.left_out {
            for (field, message) in &notes {
                manifests.note(
                    &format!("{}.{field}", route.at),
                    &route.label,
                    message.clone(),
                );
            }
        }
        routes.push(route);
    }
    routes
}

type Notes = Vec<(String, String)>;

fn one<'a>(
    tables: &Tables<'a>,
    people: &People<'a>,
    entry: &Entry<'a>,
    label: String,
) -> (Route, Notes, Notes) {
    let value = entry.value;
    let mut problems: Notes = Vec::new();
    let service = match (&entry.within, text(value, "service_id")) {
        (Some((service, _)), _) => Some(*service),
        (None, Some(id)) => {
            let found = tables::find(&tables.services, &id).map(|service| service.value);
            if found.is_none() {
                problems.push(("service_id".to_owned(), format!("service_id: there is no service {id:?}, and what protects the route is not known")));
            }
            found
        }
        (None, None) => None,
    };
    surroundings(value, service, &mut problems);
    let (patterns, hosts, methods) = places(value, service, &mut problems);
    let mut methods = methods;
    let alternatives = conditions(value.get("vars").unwrap_or(&Value::Null), &mut methods)
        .unwrap_or_else(|message| {
            problems.push(("vars".to_owned(), message));
            vec![Conditions::default()]
        });
    let merged = merge(tables, value, service, &mut problems);
    let mut duties = plugins::duties(&merged, people);
    problems.append(&mut duties.problems);
    for field in [
        "remote_addr",
        "remote_addrs",
        "filter_func",
        "script",
        "script_id",
    ] {
        if value
            .get(field)
            .is_some_and(|value| !tables::is_empty(value))
        {
            duties.guards.insert(format!(
                "{field} {}",
                value.get(field).unwrap_or(&Value::Null)
            ));
        }
    }
    let (plan, upstream_name) = planned(tables, entry, service, &hosts, &mut duties, &mut problems);
    if value.get("timeout").is_some() {
        duties.notes.push(("timeout".to_owned(), "timeout: of a route is not carried over; give it to the upstream, or set timeouts of the HTTPRoute".to_owned()));
    }
    let name = ["name", "id"]
        .iter()
        .find_map(|field| text(value, field))
        .unwrap_or_else(|| entry.at.replace(['[', ']'], "-"));
    let notes = std::mem::take(&mut duties.notes);
    let route = Route {
        at: entry.at.clone(),
        label,
        name: if name.starts_with(|c: char| c.is_ascii_digit()) {
            format!("route-{name}")
        } else {
            name
        },
        hosts,
        patterns,
        methods,
        alternatives,
        priority: number(value, "priority").unwrap_or(0),
        left_out: !problems.is_empty(),
        closed: false,
        duties,
        plan,
        upstream_name,
        expressions: BTreeSet::new(),
        own_paths: BTreeSet::new(),
    };
    (route, problems, notes)
}

/// How requests are sent on, and what that is to be called.
fn planned<'a>(
    tables: &Tables<'a>,
    entry: &Entry<'a>,
    service: Option<&'a Value>,
    hosts: &[String],
    duties: &mut Duties,
    problems: &mut Notes,
) -> (Option<Plan>, String) {
    let Some((at, from)) = upstream_of(tables, entry, service, problems) else {
        if !duties.changes.is_redirect() && !duties.changes.https_only {
            problems.push(("upstream".to_owned(), "upstream: is missing".to_owned()));
        }
        return (None, String::new());
    };
    let name = text(from, "name").or_else(|| text(from, "id"));
    let name = name.unwrap_or_else(|| "upstream".to_owned());
    let name = if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("upstream-{name}")
    } else {
        name
    };
    if duties.changes.is_redirect() {
        return (None, name);
    }
    if tables::is_elsewhere(from) {
        problems.push((
            "upstream".to_owned(),
            format!("upstream: a value of {at} is in the environment; put it into the file"),
        ));
    }
    match Plan::new(from, hosts) {
        Ok(mut plan) => {
            let notes = plan.notes.drain(..);
            duties
                .notes
                .extend(notes.map(|note| ("upstream".to_owned(), format!("upstream.{note}"))));
            if duties.changes.host.is_none() {
                duties.changes.host = plan.fixed_host().cloned();
            }
            (Some(plan), name)
        }
        Err(message) => {
            problems.push(("upstream".to_owned(), format!("upstream.{message}")));
            (None, name)
        }
    }
}

/// Fields that cannot be carried over and those that nobody knows.
fn surroundings(value: &Value, service: Option<&Value>, problems: &mut Notes) {
    for (field, content) in tables::fields(value).filter(|(_, content)| !tables::is_empty(content))
    {
        match field {
            "remote_addr" | "remote_addrs" => problems.push((field.to_owned(), format!("{field}: addresses of clients cannot be asked for; let a firewall or NetworkPolicy do it and take the field out"))),
            "filter_func" | "script" | "script_id" => problems.push((field.to_owned(), format!("{field}: code is not carried over; take it out where the route is to be served without it"))),
            _ if !KNOWN.contains(&field) => problems.push((field.to_owned(), format!("{field}: is not known, and might protect the route"))),
            _ if field != "plugins" && tables::is_elsewhere(content) => problems.push((field.to_owned(), format!("{field}: the value is in the environment or a secret manager; put it into the file"))),
            _ => {}
        }
    }
    for (field, content) in service.into_iter().flat_map(tables::fields) {
        if tables::is_empty(content) || field == "routes" {
            continue;
        }
        if field == "script" || !KNOWN_OF_SERVICE.contains(&field) {
            problems.push(("service_id".to_owned(), format!("service_id: the service's {field} is not carried over, and might protect the route")));
        } else if field != "plugins" && tables::is_elsewhere(content) {
            problems.push(("service_id".to_owned(), format!("service_id: the service's {field} is in the environment or a secret manager; put it into the file")));
        }
    }
}

/// Paths, hosts and methods.
fn places(
    value: &Value,
    service: Option<&Value>,
    problems: &mut Notes,
) -> (Vec<Pattern>, Vec<String>, Vec<String>) {
    let mut patterns = BTreeSet::new();
    let uris = texts(value, "uri", "uris");
    if uris.is_empty() {
        problems.push(("uri".to_owned(), "uri: is missing".to_owned()));
        patterns.insert(Pattern::Begins(String::new()));
    }
    for uri in &uris {
        let (pattern, fine) = Pattern::new(uri);
        if !fine {
            problems.push((
                "uri".to_owned(),
                format!(
                    "uri: {uri:?} cannot be said in a route; plain paths and a * at the end can"
                ),
            ));
        }
        patterns.insert(pattern);
    }
    let mut hosts = texts(value, "host", "hosts");
    if hosts.is_empty() {
        hosts = service
            .map(|service| texts(service, "host", "hosts"))
            .unwrap_or_default();
    }
    let hosts: BTreeSet<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    let mut usable = Vec::new();
    for host in &hosts {
        if is_hostname(host) {
            usable.push(host.clone());
        } else if host == "*" {
            return (
                patterns.into_iter().collect(),
                Vec::new(),
                methods(value, problems),
            );
        } else {
            problems.push((
                "host".to_owned(),
                format!("host: {host:?} is no name that a route can have"),
            ));
        }
    }
    // With a host that cannot be said the route is left out; what it meets is then every host.
    if usable.len() < hosts.len() {
        usable.clear();
    }
    if usable.len() > 16 {
        problems.push((
            "hosts".to_owned(),
            "hosts: more than 16; divide the route".to_owned(),
        ));
    }
    (
        patterns.into_iter().collect(),
        usable,
        methods(value, problems),
    )
}

fn methods(value: &Value, problems: &mut Notes) -> Vec<String> {
    let all: BTreeSet<String> = texts(value, "method", "methods").into_iter().collect();
    if let Some(odd) = all
        .iter()
        .find(|method| !METHODS.contains(&method.as_str()))
    {
        problems.push((
            "methods".to_owned(),
            format!("methods: {odd:?} cannot be said in a route; take it out"),
        ));
    }
    all.into_iter().collect()
}

fn is_hostname(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    name.parse::<std::net::IpAddr>().is_err()
        && name.len() <= 253
        && name.split('.').all(super::super::manifests::is_label)
}

/// The plugins in force, by name: the route's before those of its plugin_config before those of its service; the global
/// ones come beside them.
fn merge<'a>(
    tables: &Tables<'a>,
    value: &'a Value,
    service: Option<&'a Value>,
    problems: &mut Notes,
) -> BTreeMap<&'a str, (String, &'a Value)> {
    let mut merged = BTreeMap::new();
    let shared = text(value, "plugin_config_id").map(|id| {
        let found = tables::find(&tables.plugin_configs, &id);
        if found.is_none() {
            problems.push(("plugin_config_id".to_owned(), format!("plugin_config_id: there is no plugin_config {id:?}, and what protects the route is not known")));
        }
        found.map(|found| found.value)
    });
    let sources = [
        ("service_id", service),
        ("plugin_config_id", shared.flatten()),
        ("plugins", Some(value)),
    ];
    for (field, source) in sources {
        let Some(all) = source.and_then(|source| source.get("plugins")) else {
            continue;
        };
        if !all.is_object() && !tables::is_empty(all) {
            problems.push((
                field.to_owned(),
                format!("{field}: plugins is no object, and what protects the route is not known"),
            ));
        }
        for (name, config) in tables::fields(all) {
            let at = if field == "plugins" {
                format!("plugins.{name}")
            } else {
                field.to_owned()
            };
            merged.insert(name, (at, config));
        }
    }
    merged.retain(|_, (_, config)| !tables::is_disabled(config));
    for (at, name, config) in &tables.global {
        if tables::is_disabled(config) {
            continue;
        }
        match merged.get(name) {
            Some((_, own)) if *own != *config && !plugins::is_harmless(name) => problems.push((
                format!("plugins.{name}"),
                format!("plugins.{name}: {at} asks for the same with other options, and only one of them can be carried over"),
            )),
            Some(_) => {}
            None => {
                merged.insert(name, (format!("plugins.{name}"), config));
            }
        }
    }
    merged
}

/// Where requests go: the route's own, then the service's.
fn upstream_of<'a>(
    tables: &Tables<'a>,
    entry: &Entry<'a>,
    service: Option<&'a Value>,
    problems: &mut Notes,
) -> Option<(String, &'a Value)> {
    for (of, field) in [(Some(entry.value), ""), (service, "service_id")] {
        let Some(of) = of else { continue };
        if let Some(own) = of.get("upstream").filter(|own| !tables::is_empty(own)) {
            let at = if field.is_empty() {
                format!("{}.upstream", entry.at)
            } else {
                format!("{}.{field}", entry.at)
            };
            return Some((at, own));
        }
        if let Some(id) = text(of, "upstream_id") {
            let found = tables::find(&tables.upstreams, &id);
            if found.is_none() {
                problems.push((
                    "upstream_id".to_owned(),
                    format!("upstream_id: there is no upstream {id:?}"),
                ));
            }
            return found.map(|found| (found.at.clone(), found.value));
        }
    }
    None
}
