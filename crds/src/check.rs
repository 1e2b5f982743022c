//! The API server's checks once more, for objects that come from files.

use plugins::{Problem, Problems};

use crate::schema;
use crate::{
    AuthPluginSpec, ClientType, ConsumerSpec, CredentialSpec, IfDifferent, JwtCredential,
    NamespacesFrom, OAuth2Credential, SelectorOperator, TargetRef,
};

const TAGS: usize = 64;

impl ConsumerSpec {
    /// Values that the API server's schema refuses.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        for (field, value) in [("username", &self.username), ("customId", &self.custom_id)] {
            if let Some(value) = value {
                found.length(field, value, 1, 253);
                found.rule(
                    field,
                    !value.chars().any(char::is_control),
                    schema::NO_CONTROL,
                );
            }
        }
        if let Some(id) = &self.id {
            found.rule("id", is_uuid(id), schema::UUID);
        }
        found.items("groups", &self.groups, 0, 64, 128);
        let sendable = |group: &String| !group.chars().any(|c| c == ',' || c.is_control());
        found.rule("groups", self.groups.iter().all(sendable), schema::GROUPS);
        found.items("tags", &self.tags, 0, TAGS, 128);
        found.0
    }
}

impl CredentialSpec {
    /// Values that the API server's schema refuses.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        found.length("consumerRef.name", &self.consumer_ref.name, 1, 253);
        if self.ttl.is_some_and(|ttl| ttl > 100_000_000) {
            found.add("ttl", "must be at most 100000000 seconds; 0, or no ttl, for a credential that never expires");
        }
        found.rule(
            "",
            self.ttl.is_none() || self.expires_at.is_none(),
            schema::TTL_OR_EXPIRY,
        );
        let ordered = match (&self.not_before, &self.expires_at) {
            (Some(not_before), Some(expires_at)) => not_before < expires_at,
            _ => true,
        };
        found.rule("", ordered, schema::TIME_ORDER);
        found.items("tags", &self.tags, 0, TAGS, 128);
        let blocks = usize::from(self.key_auth.is_some())
            + usize::from(self.jwt.is_some())
            + usize::from(self.oauth2.is_some());
        found.rule("", blocks == 1, schema::ONE_CREDENTIAL);
        if let Some(key_auth) = &self.key_auth {
            found.rule(
                "keyAuth",
                key_auth.secret_ref.is_none() || key_auth.hash.is_none(),
                schema::SECRET_OR_HASH,
            );
            if let Some(reference) = &key_auth.secret_ref {
                found.length("keyAuth.secretRef.name", &reference.name, 1, 253);
                found.length("keyAuth.secretRef.key", &reference.key, 1, 253);
            }
            if let Some(hash) = &key_auth.hash {
                found.rule("keyAuth.hash", is_sha256(hash), schema::HASH);
            }
        }
        if let Some(jwt) = &self.jwt {
            jwt.check(&mut found);
        }
        if let Some(oauth2) = &self.oauth2 {
            oauth2.check(&mut found);
        }
        found.0
    }
}

impl JwtCredential {
    fn check(&self, found: &mut Problems) {
        if let Some(key) = &self.key {
            found.length("jwt.key", key, 1, 1024);
            let sendable = !key.chars().any(char::is_control);
            found.rule("jwt.key", sendable, schema::NO_CONTROL);
        }
        let symmetric = self.algorithm.is_symmetric();
        found.rule(
            "jwt",
            self.secret_ref.is_none() || symmetric,
            schema::JWT_SECRET,
        );
        let public_keys = usize::from(self.public_key.is_some())
            + usize::from(self.public_key_secret_ref.is_some())
            + usize::from(self.public_key_config_map_ref.is_some())
            + usize::from(self.jwks_uri.is_some());
        found.rule(
            "jwt",
            public_keys == usize::from(!symmetric),
            schema::JWT_PUBLIC_KEY,
        );
        if let Some(public_key) = &self.public_key {
            found.length("jwt.publicKey", public_key, 1, 16384);
        }
        if let Some(jwks_uri) = &self.jwks_uri {
            found.http_url("jwt.jwksUri", jwks_uri);
        }
        let secrets = [
            ("jwt.secretRef", &self.secret_ref),
            ("jwt.publicKeySecretRef", &self.public_key_secret_ref),
        ];
        for (field, reference) in secrets {
            if let Some(reference) = reference {
                found.length(&format!("{field}.name"), &reference.name, 1, 253);
                found.length(&format!("{field}.key"), &reference.key, 1, 253);
            }
        }
        if let Some(reference) = &self.public_key_config_map_ref {
            let field = "jwt.publicKeyConfigMapRef";
            found.length(&format!("{field}.name"), &reference.name, 1, 253);
            found.length(&format!("{field}.key"), &reference.key, 1, 253);
        }
    }
}

impl OAuth2Credential {
    fn check(&self, found: &mut Problems) {
        found.length("oauth2.name", &self.name, 1, 253);
        if let Some(client_id) = &self.client_id {
            found.length("oauth2.clientId", client_id, 1, 253);
            found.rule(
                "oauth2.clientId",
                is_client_id(client_id),
                schema::CLIENT_ID,
            );
        }
        if let Some(at) = &self.client_secret_ref {
            found.length("oauth2.clientSecretRef.name", &at.name, 1, 253);
            found.length("oauth2.clientSecretRef.key", &at.key, 1, 253);
        }
        let fits = self.client_secret_ref.is_none() || self.client_type != ClientType::Public;
        found.rule("oauth2", fits, schema::PUBLIC_SECRET);
        found.items("oauth2.redirectUris", &self.redirect_uris, 0, 32, 1024);
        let fit = self.redirect_uris.iter().all(|uri| is_redirect_uri(uri));
        found.rule("oauth2.redirectUris", fit, schema::REDIRECT_URIS);
    }
}

/// Whether an application may call itself that.
#[must_use]
pub fn is_client_id(text: &str) -> bool {
    text.bytes()
        .all(|byte| (b'!'..=b'~').contains(&byte) && byte != b':')
}

/// Whether users may be sent there with a code or a token.
#[must_use]
pub fn is_redirect_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.bytes();
    let is_scheme = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    let run = ["javascript", "data", "vbscript"];
    is_scheme
        && !run.iter().any(|bad| scheme.eq_ignore_ascii_case(bad))
        && !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'"' && byte != b'#')
}

impl AuthPluginSpec {
    /// Values that the API server's schema refuses, those of the plugin's own block included.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        let configs = self.configs();
        found.rule("", configs.len() == 1, schema::ONE_PLUGIN);
        if self.target_refs.len() > 16 {
            found.add(
                "targetRefs",
                "must have at most 16 items: make another AuthPlugin for the rest",
            );
        }
        for (index, target) in self.target_refs.iter().enumerate() {
            target.check(&format!("targetRefs[{index}]"), &mut found);
        }
        let consumer = self
            .target_refs
            .iter()
            .any(|target| target.kind == "Consumer");
        let attachable = configs
            .iter()
            .any(|config| config.kind().attaches_to_consumers());
        found.rule("", attachable || !consumer, schema::CONSUMER_TARGET);
        let authenticates = configs.iter().all(|config| config.kind().authenticates());
        let replaces = self.consumers.if_different == IfDifferent::Replace;
        found.rule("", authenticates || replaces, schema::IF_DIFFERENT);
        self.check_namespaces(&mut found);
        for config in &configs {
            let block = config.kind().name();
            found.0.extend(
                config
                    .check()
                    .into_iter()
                    .map(|problem| problem.within(block)),
            );
        }
        found.0
    }

    fn check_namespaces(&self, found: &mut Problems) {
        let consumers = &self.consumers;
        let selects = consumers.from == NamespacesFrom::Selector;
        found.rule(
            "consumers",
            consumers.selector.is_some() == selects,
            schema::SELECTOR,
        );
        let Some(selector) = &consumers.selector else {
            return;
        };
        if selector.match_labels.len() > 16 {
            found.add(
                "consumers.selector.matchLabels",
                "must have at most 16 labels",
            );
        }
        for (key, value) in &selector.match_labels {
            found.length(
                &format!("consumers.selector.matchLabels.{key}"),
                value,
                0,
                63,
            );
        }
        if selector.match_expressions.len() > 16 {
            found.add(
                "consumers.selector.matchExpressions",
                "must have at most 16 items",
            );
        }
        for (index, requirement) in selector.match_expressions.iter().enumerate() {
            let field = format!("consumers.selector.matchExpressions[{index}]");
            found.length(&format!("{field}.key"), &requirement.key, 1, 317);
            let compares = matches!(
                requirement.operator,
                SelectorOperator::In | SelectorOperator::NotIn
            );
            found.rule(
                &field,
                requirement.values.is_empty() != compares,
                schema::SELECTOR_VALUES,
            );
            if requirement.values.len() > 16 {
                found.add(format!("{field}.values"), "must have at most 16 items");
            }
            for (index, value) in requirement.values.iter().enumerate() {
                found.length(&format!("{field}.values[{index}]"), value, 0, 63);
            }
        }
    }
}

impl TargetRef {
    fn check(&self, field: &str, found: &mut Problems) {
        let known = match self.group.as_str() {
            "gateway.networking.k8s.io" => {
                matches!(
                    self.kind.as_str(),
                    "GatewayClass" | "Gateway" | "HTTPRoute" | "GRPCRoute"
                )
            }
            "networking.k8s.io" => matches!(self.kind.as_str(), "IngressClass" | "Ingress"),
            "" => self.kind == "Service",
            "postern.dev" => self.kind == "Consumer",
            _ => false,
        };
        found.rule(field, known, schema::TARGET_KIND);
        let sections = matches!(self.kind.as_str(), "Gateway" | "HTTPRoute" | "GRPCRoute");
        found.rule(
            field,
            sections || self.section_name.is_none(),
            schema::TARGET_SECTION,
        );
        let namespaced = !matches!(self.kind.as_str(), "GatewayClass" | "IngressClass");
        found.rule(
            field,
            namespaced || self.namespace.is_none(),
            schema::TARGET_NAMESPACE,
        );
        found.length(&format!("{field}.name"), &self.name, 1, 253);
        if let Some(namespace) = &self.namespace {
            found.length(&format!("{field}.namespace"), namespace, 1, 63);
        }
        if let Some(section) = &self.section_name {
            found.length(&format!("{field}.sectionName"), section, 1, 253);
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
