//! Kong's declarative file, of decK and of Kong without a database.
//!
//! `entity` brings nested entities and references into one form, `services`, `routes`, `plugins` and `consumers` say what
//! becomes of each, `rivals` closes what would get requests of others, and `emit` writes the routes.

mod consumers;
mod emit;
mod entity;
mod openid_connect;
mod paths;
mod plugins;
mod rivals;
mod routes;
mod services;

use compile::Kind;
use serde_json::{Map, Value};

use super::manifests::Manifests;
use consumers::Consumer;
use entity::{Entity, list, reference};
use plugins::{Fate, Plugin};
use routes::Route;
use services::Service;

/// Lists and fields of the file. What is not among them might protect something.
const KNOWN: &[&str] = &[
    "_format_version",
    "_transform",
    "_comment",
    "_info",
    "_workspace",
    "_konnect",
    "_plugin_configs",
    "services",
    "routes",
    "consumers",
    "plugins",
    "upstreams",
    "targets",
    "certificates",
    "snis",
    "ca_certificates",
    "consumer_groups",
    "vaults",
    "keys",
    "key_sets",
    "acls",
    "keyauth_credentials",
    "jwt_secrets",
    "oauth2_credentials",
    "basicauth_credentials",
    "hmacauth_credentials",
    "mtls_auth_credentials",
    "keyauth_enc_credentials",
    "header_cert_auth_credentials",
];

/// All that the file holds, with references followed.
struct World {
    services: Vec<Service>,
    routes: Vec<Route>,
    consumers: Vec<Consumer>,
    plugins: Vec<Plugin>,
}

/// # Errors
/// The file is not one of Kong's.
pub(super) fn import(file: &Value, manifests: &mut Manifests) -> Result<(), String> {
    let Value::Object(top) = file else {
        return Err("it is no declarative file of Kong: it must be a map".to_owned());
    };
    let old = match top.get("_format_version") {
        Some(Value::String(version)) => version.clone(),
        Some(Value::Number(version)) => version.to_string(),
        _ => {
            return Err("it is no declarative file of Kong: _format_version is missing".to_owned());
        }
    };
    let old = match old.as_str() {
        "1.1" | "2.1" => true,
        "3.0" => false,
        _ => return Err("_format_version must be 1.1, 2.1 or 3.0".to_owned()),
    };
    let mut world = read(top, old, manifests)?;
    for route in &mut world.routes {
        route.serve(&world.services, manifests);
    }
    for (field, value) in top {
        if !KNOWN.contains(&field.as_str()) && !value.is_null() {
            close_all(
                &mut world.routes,
                field,
                field,
                "is not known here, and might protect every route",
                manifests,
            );
        }
    }
    for field in ["vaults", "keys", "key_sets", "consumer_groups"] {
        if top
            .get(field)
            .is_some_and(|value| value.as_array().is_none_or(|items| !items.is_empty()))
        {
            manifests.note(
                field,
                field,
                "is not carried over; what refers to it is left out",
            );
        }
    }
    protect(&mut world, manifests);
    rivals::settle(&mut world.routes, &world.services, manifests);
    consumers::add(&world.consumers, top, manifests)?;
    emit::all(&mut world, top, manifests)
}

fn read(top: &Map<String, Value>, old: bool, manifests: &mut Manifests) -> Result<World, String> {
    let loose = list(top, "", "targets", "target")?;
    let upstreams =
        services::upstreams(list(top, "", "upstreams", "upstream")?, &loose, manifests)?;
    let mut services: Vec<Service> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    let mut found: Vec<(Entity, Nested)> = Vec::new();
    let mut pending: Vec<(Entity, Option<usize>)> = Vec::new();
    for (index, entity) in list(top, "", "services", "service")?
        .into_iter()
        .enumerate()
    {
        for route in list(&entity.fields, &entity.at, "routes", "route")? {
            pending.push((route, Some(index)));
        }
        for plugin in list(&entity.fields, &entity.at, "plugins", "plugin")? {
            found.push((plugin, Nested::Service(index)));
        }
        services.push(Service::read(entity, &upstreams, manifests));
    }
    for route in list(top, "", "routes", "route")? {
        let service = match reference(&route.fields, "service") {
            Ok(Some(name)) => services.iter().position(|service| service.entity.is(&name)),
            _ => None,
        };
        pending.push((route, service));
    }
    for (entity, service) in pending {
        if service
            .and_then(|index| services.get(index))
            .is_some_and(|service| !service.enabled)
        {
            // It was said of the service.
            continue;
        }
        let nested = list(&entity.fields, &entity.at, "plugins", "plugin")?;
        if let Some(route) = Route::read(entity, service, old, manifests) {
            found.extend(
                nested
                    .into_iter()
                    .map(|plugin| (plugin, Nested::Route(routes.len()))),
            );
            routes.push(route);
        }
    }
    let consumers = consumers::read(list(top, "", "consumers", "consumer")?, manifests);
    for (index, consumer) in consumers.iter().enumerate() {
        for plugin in list(
            &consumer.entity.fields,
            &consumer.entity.at,
            "plugins",
            "plugin",
        )? {
            found.push((plugin, Nested::Consumer(index)));
        }
    }
    for group in list(top, "", "consumer_groups", "group")? {
        for plugin in list(&group.fields, &group.at, "plugins", "plugin")? {
            found.push((plugin, Nested::Group));
        }
    }
    for plugin in list(top, "", "plugins", "plugin")? {
        found.push((plugin, Nested::Nowhere));
    }
    let mut world = World {
        services,
        routes,
        consumers,
        plugins: Vec::new(),
    };
    for (entity, nested) in found {
        if let Some(plugin) = read_plugin(entity, nested, top, &mut world, manifests) {
            world.plugins.push(plugin);
        }
    }
    Ok(world)
}

/// What a plugin stands in.
#[derive(Debug, Clone, Copy)]
enum Nested {
    Nowhere,
    Service(usize),
    Route(usize),
    Consumer(usize),
    Group,
}

fn read_plugin(
    mut entity: Entity,
    nested: Nested,
    top: &Map<String, Value>,
    world: &mut World,
    manifests: &mut Manifests,
) -> Option<Plugin> {
    if plugins::is_off(&entity) {
        manifests.note(
            &entity.at("enabled"),
            &entity.label,
            "enabled: it is disabled and left out",
        );
        return None;
    }
    let name = entity.text("name").unwrap_or_default().to_owned();
    let mut plugin = Plugin {
        name,
        route: None,
        service: None,
        consumer: None,
        of_group: matches!(nested, Nested::Group),
        secret: String::new(),
        fate: Fate::Dropped(String::new()),
        entity: entity.clone(),
    };
    match nested {
        Nested::Nowhere => {}
        Nested::Service(index) => plugin.service = Some(index),
        Nested::Route(index) => plugin.route = Some(index),
        Nested::Consumer(index) => {
            plugin.consumer = world.consumers.get(index).map(|own| own.name.clone())
        }
        Nested::Group => plugin.consumer = Some(String::new()),
    }
    let lost = refer(&entity, &mut plugin, world);
    // decK keeps configurations that several plugins share apart.
    let mut config = match entity.text("_config") {
        Some(shared) => top
            .get("_plugin_configs")
            .and_then(|all| all.get(shared))
            .cloned()
            .unwrap_or(Value::Bool(true)),
        None => Value::Null,
    };
    match (&mut config, entity.fields.remove("config")) {
        (Value::Object(shared), Some(Value::Object(own))) => shared.extend(own),
        (config @ Value::Null, Some(own)) => *config = own,
        _ => {}
    }
    let secret = manifests.name(Kind::Secret, &format!("{}-plugin", plugin.name));
    let consumers = &world.consumers;
    let anonymous = |name: &str| {
        let found = consumers.iter().find(|consumer| consumer.entity.is(name))?;
        Some(found.name.clone())
    };
    plugin.fate = match config {
        Value::Null => plugins::fate(&entity, &plugin.name, &Map::new(), &secret, &anonymous),
        Value::Object(config) => plugins::fate(&entity, &plugin.name, &config, &secret, &anonymous),
        _ => Fate::Closes("config".to_owned(), "cannot be read".to_owned()),
    };
    plugin.secret = secret;
    if let (Some(field), false) = (lost, matches!(plugin.fate, Fate::Dropped(_))) {
        let at = entity.at(field);
        close_all(
            &mut world.routes,
            &at,
            field,
            &format!("of {} names nothing that is in the file", entity.label),
            manifests,
        );
        return None;
    }
    Some(plugin)
}

/// Follows what a plugin refers to; the field that leads nowhere, if there is one.
fn refer(entity: &Entity, plugin: &mut Plugin, world: &World) -> Option<&'static str> {
    let mut lost = None;
    let mut named = |field: &'static str| match reference(&entity.fields, field) {
        Ok(name) => name,
        Err(_) => {
            lost = Some(field);
            None
        }
    };
    let (route, service, consumer, group) = (
        named("route"),
        named("service"),
        named("consumer"),
        named("consumer_group"),
    );
    if let Some(name) = route {
        plugin.route = world.routes.iter().position(|route| route.entity.is(&name));
        if plugin.route.is_none() {
            lost = Some("route");
        }
    }
    if let Some(name) = service {
        plugin.service = world
            .services
            .iter()
            .position(|service| service.entity.is(&name));
        if plugin.service.is_none() {
            lost = Some("service");
        }
    }
    if let Some(name) = consumer {
        plugin.consumer = world
            .consumers
            .iter()
            .find(|own| own.entity.is(&name))
            .map(|own| own.name.clone());
        if plugin.consumer.is_none() {
            lost = Some("consumer");
        }
    }
    if group.is_some() {
        plugin.consumer = Some(String::new());
        plugin.of_group = true;
    }
    lost
}

fn close_all(routes: &mut [Route], at: &str, field: &str, reason: &str, manifests: &mut Manifests) {
    if routes.is_empty() {
        manifests.note(at, field, reason);
    }
    for route in routes {
        route.close_for(at, field, reason, manifests);
    }
}

/// Says of every route what protects it, and closes what is protected by something that is not carried over.
fn protect(world: &mut World, manifests: &mut Manifests) {
    for plugin in world
        .plugins
        .iter()
        .filter(|plugin| plugin.consumer.is_some())
    {
        let reason = match &plugin.fate {
            Fate::Dropped(reason) => {
                manifests.note(
                    &plugin.entity.at,
                    &plugin.entity.label,
                    format!("name: {reason}"),
                );
                continue;
            }
            Fate::Closes(field, reason) => format!("{field}: {reason}"),
            Fate::Carried { .. } => "a plugin for one consumer cannot be had".to_owned(),
        };
        let mut concerned = Vec::new();
        for consumer in &mut world.consumers {
            if plugin.of_group || plugin.consumer.as_deref() == Some(&*consumer.name) {
                consumer.dropped = true;
                concerned.push(consumer.entity.label.clone());
            }
        }
        let message = format!(
            "{reason}. Left out with their credentials: {}",
            concerned.join(", ")
        );
        manifests.note(&plugin.entity.at, &plugin.entity.label, message);
    }
    for plugin in world
        .plugins
        .iter()
        .filter(|plugin| plugin.consumer.is_none())
    {
        if let Fate::Dropped(reason) = &plugin.fate {
            manifests.note(
                &plugin.entity.at,
                &plugin.entity.label,
                format!("name: {reason}"),
            );
        }
    }
    for (index, route) in world.routes.iter_mut().enumerate() {
        for (number, plugin) in world.plugins.iter().enumerate() {
            let here = plugin.is_for(index, route.service);
            let narrower = || {
                world.plugins.iter().any(|other| {
                    other.name == plugin.name
                        && other.rank() > plugin.rank()
                        && other.is_for(index, route.service)
                })
            };
            if !here || narrower() {
                continue;
            }
            match &plugin.fate {
                Fate::Dropped(_) => {}
                Fate::Carried { .. } => {
                    route.protection.insert(format!("{number}"));
                }
                Fate::Closes(field, reason) => {
                    let label = format!("plugin {:?}: {field}", plugin.name);
                    route.close_for(&plugin.entity.at(field), &label, reason, manifests);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Option<Vec<String>> {
        let file = controller::files::foreign(text).ok()?;
        let mut manifests = Manifests::new("default");
        import(&file.value, &mut manifests).ok()?;
        let imported = manifests.finish(|field| file.line_of(field)).unwrap();
        Some(imported.notes)
    }

    /// A GRPCRoute cannot take what only begins like a service's name, so that an open one must not.
    #[test]
    fn what_grpc_cannot_match_does_not_fall_to_an_open_route() {
        let closed = |guarded: &str| {
            let text = format!(
                "_format_version: '3.0'\nservices:\n- name: s\n  url: grpc://a.test\n  routes:\n  - {{name: open, protocols: [grpc]}}\n\
                 \x20 - {{name: guarded, protocols: [grpc], paths: ['{guarded}'], plugins: [{{name: key-auth}}]}}\n"
            );
            let notes = imported(&text).unwrap();
            let of = |label: &str| {
                notes
                    .iter()
                    .any(|note| note.contains(&format!("{label}: paths:")))
            };
            (of("route \"open\""), of("route \"guarded\""))
        };
        assert_eq!(closed("/pkg.Orders/"), (false, false));
        assert_eq!(closed("/pkg.Orders"), (true, false));
        assert_eq!(closed("~/pkg.Orders/(Get|Put)"), (true, true));
        assert_eq!(closed("/a/b/c"), (true, true));
    }

    #[test]
    fn several_targets_have_no_one_name() {
        let notes = |targets: &str| {
            let text = format!(
                "_format_version: '3.0'\nservices:\n- {{name: s, host: pool, routes: [{{name: r, paths: [/]}}]}}\n\
                 upstreams:\n- {{name: pool, {targets}}}\n"
            );
            imported(&text).unwrap().join("\n")
        };
        assert_eq!(notes("targets: [{target: 'a.test:80'}]"), "");
        let several = "targets: [{target: 'a.test:80'}, {target: 'b.test:80'}]";
        assert!(notes(several).contains("preserve_host"));
        assert_eq!(notes(&format!("host_header: c.test, {several}")), "");
    }

    /// Every value of a real file in turn is replaced by every odd one.
    #[test]
    fn nothing_in_a_file_panics() {
        let text = include_str!("../../../../tests/tests/product/import/kong.yaml");
        let lines: Vec<&str> = text.lines().collect();
        let mut read = 0;
        for (index, line) in lines.iter().enumerate() {
            let Some((head, _)) = line.split_once(": ") else {
                continue;
            };
            for odd in [
                "null",
                "[]",
                "{}",
                "-1",
                r#""\0""#,
                "[{}]",
                r#""é/%zz""#,
                "1e400",
                "x",
            ] {
                let mut changed = lines.clone();
                let new = format!("{head}: {odd}");
                changed[index] = &new;
                read += usize::from(imported(&changed.join("\n")).is_some());
            }
        }
        assert!(read > 100, "{read}");
    }
}
