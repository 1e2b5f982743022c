//! Routes: what they match, and whether they stay open.

use std::collections::BTreeSet;

use serde_json::Value;

use super::entity::{Default, Entity};
use super::paths::Path;
use super::services::Service;
use crate::import::manifests::Manifests;

const KNOWN: &[&str] = &[
    "id",
    "name",
    "protocols",
    "methods",
    "hosts",
    "paths",
    "headers",
    "https_redirect_status_code",
    "regex_priority",
    "strip_path",
    "path_handling",
    "preserve_host",
    "request_buffering",
    "response_buffering",
    "tags",
    "service",
    "created_at",
    "updated_at",
    "plugins",
];

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// Stands in what protects a route for: nobody gets in.
pub(super) const CLOSED: &str = "closed";

/// A route of HTTP or gRPC.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) entity: Entity,
    pub(super) service: Option<usize>,
    pub(super) hosts: Vec<String>,
    pub(super) paths: Vec<Path>,
    pub(super) methods: Vec<String>,
    /// Name, and values of which one is enough.
    pub(super) headers: Vec<(String, Vec<String>)>,
    pub(super) http: bool,
    pub(super) https: bool,
    pub(super) grpc: bool,
    pub(super) strip: bool,
    pub(super) preserve_host: bool,
    pub(super) redirect: Option<u64>,
    pub(super) regex_priority: i64,
    /// What it matches cannot be said, so that it gets no requests at all.
    pub(super) loose: bool,
    /// What its requests have to pass; [`CLOSED`] is in it where nothing passes.
    pub(super) protection: BTreeSet<String>,
}

impl Route {
    /// None where it is not about HTTP at all.
    pub(super) fn read(
        entity: Entity,
        service: Option<usize>,
        old_paths: bool,
        manifests: &mut Manifests,
    ) -> Option<Self> {
        let protocols = entity.texts("protocols").unwrap_or_default();
        let has = |names: &[&str]| protocols.iter().any(|own| names.contains(&own.as_str()));
        let web = protocols.is_empty() || has(&["http", "https", "grpc", "grpcs", "ws", "wss"]);
        if !web {
            let message =
                "protocols: it is not about HTTP and left out; a TLSRoute may take its place";
            manifests.note(&entity.at("protocols"), &entity.label, message);
            return None;
        }
        let mut route = Self {
            service,
            hosts: Vec::new(),
            paths: Vec::new(),
            methods: Vec::new(),
            headers: Vec::new(),
            http: protocols.is_empty() || has(&["http", "grpc", "ws"]),
            https: protocols.is_empty() || has(&["https", "grpcs", "wss"]),
            grpc: has(&["grpc", "grpcs"]),
            strip: entity.flag("strip_path", Default::On),
            preserve_host: entity.flag("preserve_host", Default::Off),
            redirect: entity.number("https_redirect_status_code"),
            regex_priority: entity
                .fields
                .get("regex_priority")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            loose: false,
            protection: BTreeSet::new(),
            entity,
        };
        route.strip &= !route.grpc;
        if let Err((field, reason)) = route.fill(old_paths) {
            route.close(&field, &reason, manifests);
        }
        Some(route)
    }

    /// Reads all that it matches. What fails leaves it matching too much, which is why it must be closed then.
    fn fill(&mut self, old_paths: bool) -> Result<(), (String, String)> {
        let mut result = Ok(());
        if let Some(field) = self.entity.unknown(KNOWN).first() {
            let reason = "is not known here, and might narrow what it matches; remove it where it means nothing";
            result = Err((field.clone(), reason.to_owned()));
        }
        // Expressions and names of servers may match anything.
        self.loose = ["expression", "snis", "sources", "destinations"]
            .iter()
            .any(|field| !matches!(self.entity.fields.get(*field), None | Some(Value::Null)));
        self.methods = self
            .entity
            .texts("methods")
            .map_err(|reason| ("methods".to_owned(), reason))?;
        for host in self
            .entity
            .texts("hosts")
            .map_err(|reason| ("hosts".to_owned(), reason))?
        {
            let bare = host
                .strip_prefix("*.")
                .unwrap_or(&host)
                .to_ascii_lowercase();
            if bare.contains(['*', ':']) || !crate::import::manifests::is_host(&bare) {
                let reason = format!(
                    "{host:?} is not a name, nor one with a wildcard in front; name the hosts"
                );
                result = Err(("hosts".to_owned(), reason));
                // Any host, so that nothing of it is missed.
                self.hosts.clear();
                break;
            }
            self.hosts.push(host.to_ascii_lowercase());
        }
        let paths = self
            .entity
            .texts("paths")
            .map_err(|reason| ("paths".to_owned(), reason))?;
        for path in &paths {
            match Path::read(path, old_paths) {
                Ok(path) => self.paths.push(path),
                Err((path, reason)) => {
                    self.paths.push(path);
                    self.loose = true;
                    result = Err(("paths".to_owned(), reason));
                }
            }
        }
        if let Some(method) = self
            .methods
            .iter()
            .find(|method| !METHODS.contains(&method.as_str()))
        {
            let reason = format!(
                "{method:?} is no method of an HTTPRoute; give it a route of its own, or none"
            );
            result = Err(("methods".to_owned(), reason));
            self.methods.clear();
        }
        match self.entity.fields.get("headers") {
            None | Some(Value::Null) => {}
            Some(Value::Object(headers)) => {
                for (name, values) in headers {
                    let values: Option<Vec<String>> = values.as_array().map(|values| {
                        values
                            .iter()
                            .filter_map(|value| value.as_str().map(str::to_owned))
                            .collect()
                    });
                    match values.filter(|values| !values.is_empty()) {
                        Some(values) => self.headers.push((name.clone(), values)),
                        None => {
                            result =
                                Err(("headers".to_owned(), "must be lists of texts".to_owned()))
                        }
                    }
                }
            }
            Some(_) => result = Err(("headers".to_owned(), "must be a map".to_owned())),
        }
        result
    }

    /// Closes what cannot be served from its service.
    pub(super) fn serve(&mut self, services: &[Service], manifests: &mut Manifests) {
        let Some(service) = self.service.and_then(|index| services.get(index)) else {
            self.close(
                "service",
                "is missing: there is nothing to forward to",
                manifests,
            );
            return;
        };
        if let Some((field, reason)) = &service.closed {
            let reason = format!("{}: {field} {reason}", service.entity.label);
            self.close("service", &reason, manifests);
        } else if self.grpc != service.is_grpc() {
            self.close("protocols", "does not fit that of its service", manifests);
        }
        let regex = self.paths.iter().any(|path| matches!(path, Path::Regex(_)));
        let deep = |path: &Path| match path {
            Path::Prefix(path) => path.trim_matches('/').split('/').count() > 2,
            Path::Regex(_) => true,
        };
        if self.grpc && self.paths.iter().any(deep) {
            self.close(
                "paths",
                "gRPC is matched by service and method: write /SERVICE or /SERVICE/METHOD",
                manifests,
            );
        }
        if regex && self.strip {
            self.close(
                "strip_path",
                "cannot be had with an expression; set it to false",
                manifests,
            );
        } else if regex && !service.path.is_empty() {
            self.close(
                "paths",
                "an expression cannot be had with a service's path; move the path to the upstream",
                manifests,
            );
        }
        if self
            .entity
            .text("path_handling")
            .is_some_and(|own| own != "v0")
            && !service.path.is_empty()
        {
            manifests.note(
                &self.entity.at("path_handling"),
                &self.entity.label,
                "path_handling: paths are joined as by v0",
            );
        }
    }

    /// Lets nobody in, and says why.
    pub(super) fn close(&mut self, field: &str, reason: &str, manifests: &mut Manifests) {
        let at = self.entity.at(field);
        self.close_for(&at, field, reason, manifests);
    }

    /// The same for something that stands elsewhere.
    pub(super) fn close_for(
        &mut self,
        at: &str,
        field: &str,
        reason: &str,
        manifests: &mut Manifests,
    ) {
        self.protection.insert(CLOSED.to_owned());
        let message =
            format!("{field}: {reason}. It is left out: requests that it matches are refused");
        manifests.note(at, &self.entity.label, message);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.protection.contains(CLOSED)
    }

    /// Its paths; one that has none takes all.
    pub(super) fn all_paths(&self) -> Vec<Path> {
        if self.paths.is_empty() {
            vec![Path::Prefix("/".to_owned())]
        } else {
            self.paths.clone()
        }
    }

    /// What the upstream gets in place of a path; none where it gets the same.
    pub(super) fn replacement(&self, path: &Path, services: &[Service]) -> Option<String> {
        let prefix = self
            .service
            .and_then(|index| services.get(index))
            .map_or("", |service| &service.path);
        let Path::Prefix(path) = path else {
            return None;
        };
        let bare = path.trim_end_matches('/');
        match (self.strip && !self.paths.is_empty(), prefix) {
            (true, "") if bare.is_empty() => None,
            (true, "") => Some("/".to_owned()),
            (true, prefix) => Some(prefix.to_owned()),
            (false, "") => None,
            (false, prefix) => Some(format!("{prefix}{bare}")),
        }
    }
}
