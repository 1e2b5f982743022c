//! Gateway, routes and AuthPlugins, from all that is known of them.

use std::collections::BTreeMap;

use compile::Kind;
use serde_json::{Map, Value, json};

use super::World;
use super::entity::{Entity, list};
use super::paths::{Form, Path};
use super::plugins::Fate;
use super::rivals::Forms;
use super::routes::Route;
use super::services::Service;
use crate::import::manifests::{Manifests, target};

/// The Gateway API's limits for one HTTPRoute.
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 128;
const MOST_OF_RULE: usize = 64;
const MOST_TARGETS: usize = 16;

/// # Errors
/// Lists that are none.
pub(super) fn all(
    world: &mut World,
    top: &Map<String, Value>,
    manifests: &mut Manifests,
) -> Result<(), String> {
    let gateway = manifests.name(Kind::Gateway, "kong");
    let secure = certificates(top, &gateway, manifests)?;
    let forms = Forms::new(&world.routes, &world.services);
    let mut objects: Vec<Vec<(Kind, String)>> = Vec::new();
    let mut cut = Vec::new();
    for route in &world.routes {
        let mut own = Vec::new();
        let scene = Scene {
            gateway: &gateway,
            secure,
            forms: &forms,
        };
        one(route, &mut world.services, &scene, &mut own, manifests);
        objects.push(own);
        let ends = |path: &Path| {
            route.replacement(path, &world.services).is_some()
                && forms
                    .parts(route, path, &world.services)
                    .iter()
                    .any(|part| !part.served)
        };
        if !route.is_closed() && route.all_paths().iter().any(ends) {
            cut.push(route);
        }
    }
    remark_on_ends(&cut, manifests);
    plugins(world, &objects, &gateway, manifests);
    Ok(())
}

/// Prefixes of Kong end anywhere, those whose path is changed on the way between segments.
fn remark_on_ends(cut: &[&Route], manifests: &mut Manifests) {
    if let Some(first) = cut.first() {
        let labels: Vec<&str> = cut
            .iter()
            .map(|route| route.entity.label.as_str())
            .collect();
        let message = format!(
            "their paths are changed on the way, and end between segments now: where /a was taken off /ab, too, /ab is refused; concerns {}",
            labels.join(", ")
        );
        manifests.note(&first.entity.at("paths"), "paths", message);
    }
}

/// The AuthPlugins; `objects` are those of each route.
fn plugins(
    world: &World,
    objects: &[Vec<(Kind, String)>],
    gateway: &str,
    manifests: &mut Manifests,
) {
    for plugin in world
        .plugins
        .iter()
        .filter(|plugin| plugin.consumer.is_none())
    {
        let Fate::Carried {
            block,
            config,
            entries,
        } = &plugin.fate
        else {
            continue;
        };
        let targets: Vec<Value> = match (plugin.route, plugin.service) {
            (Some(route), _) => {
                let own = objects.get(route).into_iter().flatten();
                own.map(|(kind, name)| target(*kind, name)).collect()
            }
            (None, Some(service)) => {
                let own = world
                    .services
                    .get(service)
                    .map(|service| service.backends.as_slice());
                own.unwrap_or_default()
                    .iter()
                    .map(|(name, ..)| target(Kind::Service, name))
                    .collect()
            }
            (None, None) => vec![target(Kind::Gateway, gateway)],
        };
        if targets.is_empty() {
            continue;
        }
        if !entries.is_empty() {
            manifests.secret(&plugin.secret, entries);
        }
        let of = match (plugin.route, plugin.service) {
            (Some(route), _) => world
                .routes
                .get(route)
                .and_then(|route| route.entity.text("name")),
            (None, Some(service)) => world
                .services
                .get(service)
                .and_then(|service| service.entity.text("name")),
            _ => Some("all"),
        };
        let wanted = format!("{}-{}", of.unwrap_or("kong"), plugin.name);
        for targets in targets.chunks(MOST_TARGETS) {
            let name = manifests.name(Kind::AuthPlugin, &wanted);
            manifests.plugin(&name, targets, block, config.clone());
        }
    }
}

/// The Gateway, with a listener for HTTPS where there are certificates; says whether there are.
fn certificates(
    top: &Map<String, Value>,
    gateway: &str,
    manifests: &mut Manifests,
) -> Result<bool, String> {
    let mut references = Vec::new();
    for certificate in list(top, "", "certificates", "certificate")? {
        let pair = (certificate.text("cert"), certificate.text("key"));
        let (Some(cert), Some(key)) = pair else {
            manifests.note(
                &certificate.at,
                &certificate.label,
                "cert, key: one of them is missing; it is left out",
            );
            continue;
        };
        if [cert, key].into_iter().any(super::entity::is_elsewhere) {
            let message =
                "cert, key: are in the environment or a vault; put them in. It is left out";
            manifests.note(&certificate.at, &certificate.label, message);
            continue;
        }
        let name = first_name(&certificate).unwrap_or_else(|| "certificate".to_owned());
        let secret = manifests.name(Kind::Secret, &name);
        let data = BTreeMap::from([("tls.crt", cert), ("tls.key", key)]);
        manifests.add(
            Kind::Secret,
            &secret,
            json!({"type": "kubernetes.io/tls", "stringData": data}),
        );
        references.push(json!({"name": secret}));
    }
    let mut listeners = vec![json!({"name": "http", "protocol": "HTTP", "port": 8000})];
    if !references.is_empty() {
        listeners.push(json!({"name": "https", "protocol": "HTTPS", "port": 8443,
            "tls": {"mode": "Terminate", "certificateRefs": references}}));
    }
    let secure = !references.is_empty();
    let spec = json!({"gatewayClassName": "postern", "listeners": listeners});
    manifests.add(Kind::Gateway, gateway, json!({"spec": spec}));
    Ok(secure)
}

fn first_name(certificate: &Entity) -> Option<String> {
    match certificate.fields.get("snis")?.as_array()?.first()? {
        Value::String(name) => Some(name.clone()),
        Value::Object(sni) => sni.get("name")?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// What all routes have around them.
struct Scene<'a> {
    gateway: &'a str,
    secure: bool,
    forms: &'a Forms,
}

/// What is done with the requests of some matches.
struct Rule {
    matches: Vec<Value>,
    filters: Vec<Value>,
    backends: Vec<Value>,
}

fn one(
    route: &Route,
    services: &mut [Service],
    scene: &Scene<'_>,
    objects: &mut Vec<(Kind, String)>,
    manifests: &mut Manifests,
) {
    let wanted = route.entity.text("name").map_or_else(
        || {
            let service = route.service.and_then(|index| services.get(index));
            let service = service.and_then(|service| service.entity.text("name"));
            format!("{}-route", service.unwrap_or("kong"))
        },
        str::to_owned,
    );
    let closed = route.is_closed();
    if !route.http && !scene.secure && !closed {
        let message =
            "protocols: there is no certificate in the file, and so nowhere that it is served";
        manifests.note(&route.entity.at("protocols"), &route.entity.label, message);
    }
    let section = match (route.http, route.https) {
        (true, false) => Some("http"),
        (false, true) => Some("https"),
        _ => None,
    };
    let served = closed || route.http || scene.secure;
    if served && !(closed && section == Some("https") && !scene.secure) {
        if route.grpc && !closed {
            grpc(route, services, scene, section, &wanted, objects, manifests);
        } else {
            let rules = rules(route, services, scene, manifests);
            write(route, rules, scene, section, &wanted, objects, manifests);
        }
    }
    if section == Some("https") {
        // Without TLS its requests are nobody else's.
        let mut without = Vec::new();
        let filters = match route.redirect {
            Some(status @ (301 | 302 | 303 | 307 | 308)) if !closed => {
                vec![
                    json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": status}}),
                ]
            }
            _ => Vec::new(),
        };
        let matches = matches(route, scene, services);
        for matches in matches.chunks(MOST_OF_RULE) {
            without.push(Rule {
                matches: matches.iter().map(|(found, _)| found.clone()).collect(),
                filters: filters.clone(),
                backends: Vec::new(),
            });
        }
        let wanted = format!("{wanted}-http");
        write(
            route,
            without,
            scene,
            Some("http"),
            &wanted,
            &mut Vec::new(),
            manifests,
        );
    }
}

/// All matches, and whether they are served.
fn matches(route: &Route, scene: &Scene<'_>, services: &[Service]) -> Vec<(Value, bool)> {
    let paths = route.all_paths();
    paths
        .iter()
        .flat_map(|path| of_path(route, path, scene, services))
        .collect()
}

fn of_path(
    route: &Route,
    path: &Path,
    scene: &Scene<'_>,
    services: &[Service],
) -> Vec<(Value, bool)> {
    let headers: Vec<Value> = route
        .headers
        .iter()
        .map(|(name, values)| header(name, values))
        .collect();
    let methods: Vec<Option<&String>> = match route.methods.as_slice() {
        [] => vec![None],
        methods => methods.iter().map(Some).collect(),
    };
    let mut all = Vec::new();
    for part in scene.forms.parts(route, path, services) {
        // An expression that cannot be compiled matches nothing.
        if route.loose && part.form == Form::Regex {
            continue;
        }
        for method in &methods {
            let mut found = json!({"path": part.matched()});
            if let Some(fields) = found.as_object_mut() {
                if let Some(method) = method {
                    fields.insert("method".to_owned(), json!(method));
                }
                if !headers.is_empty() {
                    fields.insert("headers".to_owned(), json!(headers));
                }
            }
            all.push((found, part.served));
        }
    }
    all
}

/// Kong compares values in any case, and one of several is enough.
fn header(name: &str, values: &[String]) -> Value {
    let expression = match values {
        [one] if one.starts_with("~*") => one.trim_start_matches("~*").to_owned(),
        several => several
            .iter()
            .map(|value| regex::escape(value))
            .collect::<Vec<_>>()
            .join("|"),
    };
    json!({"type": "RegularExpression", "name": name, "value": format!("(?i:{expression})")})
}

fn rules(
    route: &Route,
    services: &mut [Service],
    scene: &Scene<'_>,
    manifests: &mut Manifests,
) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let closed = route.is_closed();
    let service = route.service.and_then(|index| services.get_mut(index));
    let backends = match service {
        Some(service) if !closed => backend_refs(service, manifests),
        _ => Vec::new(),
    };
    let host = route
        .service
        .and_then(|index| services.get(index))
        .and_then(|service| service.host.clone());
    if !closed && !route.preserve_host && host.is_none() {
        let message =
            "preserve_host: requests keep their Host, for there is no one name to put in its place";
        manifests.note(
            &route.entity.at("preserve_host"),
            &route.entity.label,
            message,
        );
    }
    for path in route.all_paths() {
        let mut rewrite = Map::new();
        if let Some(host) = host.as_ref().filter(|_| !route.preserve_host) {
            rewrite.insert("hostname".to_owned(), json!(host.to_ascii_lowercase()));
        }
        if let Some(prefix) = route.replacement(&path, services) {
            rewrite.insert(
                "path".to_owned(),
                json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": prefix}),
            );
        }
        let filters = match rewrite.is_empty() {
            true => Vec::new(),
            false => vec![json!({"type": "URLRewrite", "urlRewrite": rewrite})],
        };
        for (found, served) in of_path(route, &path, scene, services) {
            let (filters, backends) = match served && !closed {
                true => (filters.clone(), backends.clone()),
                false => (Vec::new(), Vec::new()),
            };
            match rules.iter_mut().find(|rule| {
                rule.filters == filters
                    && rule.backends == backends
                    && rule.matches.len() < MOST_OF_RULE
            }) {
                Some(rule) => rule.matches.push(found),
                None => rules.push(Rule {
                    matches: vec![found],
                    filters,
                    backends,
                }),
            }
        }
    }
    rules
}

fn backend_refs(service: &mut Service, manifests: &mut Manifests) -> Vec<Value> {
    let all = service.backends(manifests);
    let several = all.len() > 1;
    all.into_iter()
        .map(|(name, port, weight)| match several {
            true => json!({"name": name, "port": port, "weight": weight.min(1_000_000)}),
            false => json!({"name": name, "port": port}),
        })
        .collect()
}

/// Writes rules as HTTPRoutes, as many as their limits ask for.
fn write(
    route: &Route,
    rules: Vec<Rule>,
    scene: &Scene<'_>,
    section: Option<&str>,
    wanted: &str,
    objects: &mut Vec<(Kind, String)>,
    manifests: &mut Manifests,
) {
    let mut parts: Vec<(usize, Vec<Value>)> = Vec::new();
    for rule in rules {
        let count = rule.matches.len();
        let mut written = Map::new();
        written.insert("matches".to_owned(), json!(rule.matches));
        if !rule.filters.is_empty() {
            written.insert("filters".to_owned(), json!(rule.filters));
        }
        if !rule.backends.is_empty() {
            written.insert("backendRefs".to_owned(), json!(rule.backends));
        }
        match parts.last_mut() {
            Some((matches, rules))
                if rules.len() < MOST_RULES && *matches + count <= MOST_MATCHES =>
            {
                *matches += count;
                rules.push(Value::Object(written));
            }
            _ => parts.push((count, vec![Value::Object(written)])),
        }
    }
    for hosts in hosts(route) {
        for (_, rules) in &parts {
            let name = manifests.name(Kind::HttpRoute, wanted);
            let mut spec = attached(scene, section, hosts);
            spec.insert("rules".to_owned(), json!(rules));
            manifests.add(Kind::HttpRoute, &name, json!({"spec": spec}));
            objects.push((Kind::HttpRoute, name));
        }
    }
}

/// A route has at most so many hosts.
fn hosts(route: &Route) -> Vec<&[String]> {
    match route.hosts.as_slice() {
        [] => vec![&[]],
        hosts => hosts.chunks(16).collect(),
    }
}

fn attached(scene: &Scene<'_>, section: Option<&str>, hosts: &[String]) -> Map<String, Value> {
    let mut parent = json!({"name": scene.gateway});
    if let (Some(section), Some(fields)) = (section, parent.as_object_mut()) {
        fields.insert("sectionName".to_owned(), json!(section));
    }
    let mut spec = Map::new();
    spec.insert("parentRefs".to_owned(), json!([parent]));
    if !hosts.is_empty() {
        spec.insert("hostnames".to_owned(), json!(hosts));
    }
    spec
}

fn grpc(
    route: &Route,
    services: &mut [Service],
    scene: &Scene<'_>,
    section: Option<&str>,
    wanted: &str,
    objects: &mut Vec<(Kind, String)>,
    manifests: &mut Manifests,
) {
    let Some(service) = route.service.and_then(|index| services.get_mut(index)) else {
        return;
    };
    let backends = backend_refs(service, manifests);
    let headers: Vec<Value> = route
        .headers
        .iter()
        .map(|(name, values)| header(name, values))
        .collect();
    let mut matches = Vec::new();
    for path in route.all_paths() {
        let Path::Prefix(path) = path else { continue };
        let mut found = Map::new();
        let mut words = path
            .trim_matches('/')
            .split('/')
            .filter(|word| !word.is_empty());
        if let Some(service) = words.next() {
            let mut method = json!({"type": "Exact", "service": service});
            if let (Some(name), Some(fields)) = (words.next(), method.as_object_mut()) {
                fields.insert("method".to_owned(), json!(name));
            }
            found.insert("method".to_owned(), method);
        }
        if !headers.is_empty() {
            found.insert("headers".to_owned(), json!(headers));
        }
        matches.push(Value::Object(found));
    }
    for hosts in hosts(route) {
        for matches in matches.chunks(MOST_OF_RULE) {
            let name = manifests.name(Kind::GrpcRoute, wanted);
            let mut spec = attached(scene, section, hosts);
            spec.insert(
                "rules".to_owned(),
                json!([{"matches": matches, "backendRefs": backends}]),
            );
            manifests.add(Kind::GrpcRoute, &name, json!({"spec": spec}));
            objects.push((Kind::GrpcRoute, name));
        }
    }
}
