//! Whether browsers that come back from a provider reach the plugin that sent them there.

use std::sync::Arc;

use ::plugins::Config;
use snapshot::proto::path_match::Type;
use snapshot::proto::{Match, Route, Rule};

use crate::findings::in_spec;
use crate::hostnames;
use crate::pass::Pass;
use crate::{ConditionStatus, ObjectRef, StatusBody};

/// The `redirectUri` of a plugin, and what the routes make of it.
#[derive(Debug)]
pub(crate) struct Callback {
    plugin: ObjectRef,
    /// Path of the block, "openidConnect".
    block: String,
    /// Of the plugin's resource.
    key: Arc<str>,
    uri: String,
    host: String,
    path: String,
    /// Whether the plugin is attached to more than routes: then any route may lead to it.
    wide: bool,
    /// Whether a route leads the callback to the plugin.
    arrives: bool,
    /// Whether the plugin protects anything but the callback.
    protects: bool,
}

impl Callback {
    /// The callback of a plugin that signs users in at a URL of its own.
    pub(crate) fn of(
        plugin: &ObjectRef,
        key: &Arc<str>,
        config: &Config,
        wide: bool,
    ) -> Option<Self> {
        let mut blocks = config.blocks().into_iter();
        let (block, uri) = blocks.find_map(|(block, config)| match &*config {
            Config::OpenidConnect(config) if !config.bearer_only => {
                Some((block, config.redirect_uri.clone()?))
            }
            _ => None,
        })?;
        let (_, rest) = uri.split_once("://")?;
        let (authority, path) = rest.split_at_checked(rest.find('/')?)?;
        let path = path.split(['?', '#']).next()?;
        Some(Self {
            plugin: plugin.clone(),
            block,
            key: Arc::clone(key),
            host: host_of(authority).to_ascii_lowercase(),
            path: path.to_owned(),
            uri,
            wide,
            arrives: false,
            protects: wide,
        })
    }

    /// Looks at a route.
    pub(crate) fn see(&mut self, route: &Route) {
        for rule in &route.rules {
            if !self.wide && !rule.plugins.iter().any(|key| **key == *self.key) {
                continue;
            }
            self.protects |= !self.is_all_of(rule);
            self.arrives |= self.is_at(route, rule)
                && (rule.matches.is_empty() || rule.matches.iter().any(|of| self.matches(of)));
        }
    }

    fn is_at(&self, route: &Route, rule: &Rule) -> bool {
        let any = |names: &[String]| names.is_empty() || names.iter().any(|name| self.named(name));
        any(&rule.hostnames) && route.attachments.iter().any(|at| any(&at.hostnames))
    }

    fn named(&self, hostname: &str) -> bool {
        hostnames::intersection(hostname, &self.host).as_ref() == Some(&self.host)
    }

    fn matches(&self, of: &Match) -> bool {
        let Some(path) = &of.path else { return true };
        match path.r#type() {
            Type::Exact => path.value == self.path,
            Type::Prefix => self
                .path
                .strip_prefix(path.value.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            // What an expression means is the proxy's to say.
            Type::Regex => true,
        }
    }

    fn is_all_of(&self, rule: &Rule) -> bool {
        let is_callback = |of: &Match| of.path.as_ref().is_some_and(|path| path.value == self.path);
        !rule.matches.is_empty() && rule.matches.iter().all(is_callback)
    }

    fn trouble(&self) -> Option<String> {
        let Self { uri, path, .. } = self;
        if !self.arrives {
            return Some(format!(
                "no route leads {uri} to this plugin, so that nobody can sign in; give a route that it protects this host \
                 and path, or change redirectUri"
            ));
        }
        (!self.protects).then(|| {
            format!(
                "{path} is also all that this plugin protects, but the gateway answers there itself; choose a path of its \
                 own below the route, such as {path}/callback"
            )
        })
    }
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Pass<'_> {
    /// Tells of each callback that does not arrive, when all routes are known.
    pub(crate) fn finish_callbacks(&mut self) {
        for callback in std::mem::take(&mut self.callbacks) {
            let Some(message) = callback.trouble() else {
                continue;
            };
            if let Some(status) = self.findings.statuses.get_mut(&callback.plugin)
                && let StatusBody::Conditions { conditions, .. } = &mut status.body
                && let Some(accepted) = conditions.iter_mut().find(|one| one.kind == "Accepted")
                && accepted.status == ConditionStatus::True
                && accepted.message.is_empty()
            {
                accepted.message.clone_from(&message);
            }
            let field = in_spec(&format!("{}.redirectUri", callback.block));
            self.findings
                .warning(&callback.plugin, "CallbackNotRouted", field, message);
        }
    }
}
