//! Parts of the schemas that cannot be read off the types: CEL rules, lists with keys, instants.

pub(crate) use plugins::schema::{HTTP_URL, Rule, rules};
use schemars::{Schema, SchemaGenerator, json_schema};

pub(crate) const NO_CONTROL: Rule = Rule {
    cel: "!self.matches(r'\\p{Cc}')",
    message: "must not contain control characters: it is sent in a header",
};

pub(crate) const UUID: Rule = Rule {
    cel: "self.matches('^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$')",
    message: "must be a UUID such as 7bce93e1-0f3a-4c52-9e5b-2a36a6a7a0c1; leave it out to have one assigned",
};

pub(crate) const GROUPS: Rule = Rule {
    cel: "self.all(group, !group.matches(r'[,\\p{Cc}]'))",
    message: "must not contain commas or control characters: they are sent as one comma-separated header",
};

pub(crate) const ONE_CREDENTIAL: Rule = Rule {
    cel: "[has(self.keyAuth), has(self.jwt), has(self.oauth2)].exists_one(given, given)",
    message: "spec needs exactly one credential block: keyAuth (keyAuth: {} generates a key), jwt (jwt: {} generates key and \
              secret) or oauth2 (oauth2: {name: NAME} generates client id and secret)",
};

pub(crate) const JWT_SECRET: Rule = Rule {
    cel: "!has(self.secretRef) || self.algorithm in ['HS256', 'HS384', 'HS512']",
    message: "jwt.secretRef is for HS256, HS384 and HS512: remove it, or choose one of these algorithms",
};

pub(crate) const JWT_PUBLIC_KEY: Rule = Rule {
    cel: "(self.algorithm in ['HS256', 'HS384', 'HS512'] ? 0 : 1) == (has(self.publicKey) ? 1 : 0) \
          + (has(self.publicKeySecretRef) ? 1 : 0) + (has(self.publicKeyConfigMapRef) ? 1 : 0) \
          + (has(self.jwksUri) ? 1 : 0)",
    message: "jwt needs exactly one of publicKey, publicKeySecretRef, publicKeyConfigMapRef and jwksUri with RS, PS, ES and \
              EdDSA algorithms, and none of them with HS256, HS384 and HS512",
};

pub(crate) const CLIENT_ID: Rule = Rule {
    cel: "self.matches('^[!-9;-~]+$')",
    message: "may hold only printable ASCII characters, no blanks and no colon: it is the user name of Basic credentials",
};

pub(crate) const PUBLIC_SECRET: Rule = Rule {
    cel: "!has(self.clientSecretRef) || self.clientType != 'public'",
    message: "oauth2.clientSecretRef is for applications that can keep a secret: remove it, or set clientType to confidential",
};

pub(crate) const REDIRECT_URIS: Rule = Rule {
    cel: "self.all(uri, uri.matches('^[A-Za-z][A-Za-z0-9+.-]*:[!$-~]+$') && !uri.matches('^(?i)(javascript|data|vbscript):'))",
    message: "must be absolute URIs such as https://app.example/callback, without a fragment, of printable ASCII characters, \
              and nothing that a browser would run (javascript:, data:, vbscript:)",
};

pub(crate) const TTL_OR_EXPIRY: Rule = Rule {
    cel: "!(has(self.ttl) && has(self.expiresAt))",
    message: "ttl and expiresAt exclude each other: remove one of them",
};

pub(crate) const TIME_ORDER: Rule = Rule {
    cel: "!has(self.notBefore) || !has(self.expiresAt) || self.notBefore < self.expiresAt",
    message: "notBefore must be earlier than expiresAt: move one of them",
};

pub(crate) const SECRET_OR_HASH: Rule = Rule {
    cel: "!(has(self.secretRef) && has(self.hash))",
    message: "keyAuth.secretRef and keyAuth.hash exclude each other: remove one of them, or both to have a key generated",
};

pub(crate) const HASH: Rule = Rule {
    cel: "self.matches('^sha256:[0-9a-fA-F]{64}$')",
    message: "must be \"sha256:\" and the 64 hexadecimal digits of the key's SHA-256",
};

pub(crate) const ONE_PLUGIN: Rule = Rule {
    cel: "[has(self.keyAuth), has(self.jwt), has(self.oauth2), has(self.openidConnect), has(self.anyOf), has(self.acl), has(self.upstreamOauth)].exists_one(given, given)",
    message: "spec needs exactly one plugin block: give one of keyAuth, jwt, oauth2, openidConnect, anyOf, acl and upstreamOauth, and make an AuthPlugin for each other",
};

pub(crate) const CONSUMER_TARGET: Rule = Rule {
    cel: "has(self.acl) || has(self.upstreamOauth) || !has(self.targetRefs) || !self.targetRefs.exists(target, target.kind == 'Consumer')",
    message: "targetRefs: only acl and upstreamOauth may target a Consumer; target a route, a Service, a Gateway or a class instead",
};

pub(crate) const IF_DIFFERENT: Rule = Rule {
    cel: "!(has(self.acl) || has(self.upstreamOauth)) || !has(self.consumers) || !has(self.consumers.ifDifferent) || self.consumers.ifDifferent == 'Replace'",
    message: "consumers.ifDifferent is for plugins that authenticate, and acl and upstreamOauth do not: remove it",
};

pub(crate) const TARGET_KIND: Rule = Rule {
    cel: "(self.group == 'gateway.networking.k8s.io' && self.kind in ['GatewayClass', 'Gateway', 'HTTPRoute', 'GRPCRoute']) \
          || (self.group == 'networking.k8s.io' && self.kind in ['IngressClass', 'Ingress']) \
          || (self.group == '' && self.kind == 'Service') \
          || (self.group == 'postern.dev' && self.kind == 'Consumer')",
    message: "group and kind must be one of: gateway.networking.k8s.io with GatewayClass, Gateway, HTTPRoute or GRPCRoute; \
              networking.k8s.io with IngressClass or Ingress; \"\" with Service; postern.dev with Consumer",
};

pub(crate) const TARGET_SECTION: Rule = Rule {
    cel: "!has(self.sectionName) || self.kind in ['Gateway', 'HTTPRoute', 'GRPCRoute']",
    message: "sectionName names a listener of a Gateway or a rule of an HTTPRoute or GRPCRoute: remove it for other kinds",
};

pub(crate) const TARGET_NAMESPACE: Rule = Rule {
    cel: "!has(self.namespace) || !(self.kind in ['GatewayClass', 'IngressClass'])",
    message: "namespace: a GatewayClass or an IngressClass is in no namespace: remove it",
};

pub(crate) const SELECTOR: Rule = Rule {
    cel: "has(self.selector) == (self.from == 'Selector')",
    message: "consumers.selector goes with from: Selector: give both or neither",
};

pub(crate) const SELECTOR_VALUES: Rule = Rule {
    cel: "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    message: "values goes with operator In and NotIn, and only with these: give it there, remove it elsewhere",
};

pub(crate) const POLICY_TARGET: Rule = Rule {
    cel: "self.group == '' && self.kind == 'Service'",
    message: "an UpstreamPolicy is for Services: group must be \"\" and kind Service",
};

pub(crate) const ONE_PROBE: Rule = Rule {
    cel: "[has(self.http), has(self.tcp), has(self.grpc)].exists_one(given, given)",
    message: "activeHealth needs exactly one of http (http: {} asks for /), tcp (tcp: {}) and grpc (grpc: {})",
};

pub(crate) const PROBE_PATH: Rule = Rule {
    cel: "self.matches('^/[A-Za-z0-9/?=&%._~:@!$\\'()*+,;-]*$')",
    message: "must begin with a slash and hold only characters of paths and queries",
};

pub(crate) const PROBE_HOST: Rule = Rule {
    cel: "self.matches('^[A-Za-z0-9.:\\\\[\\\\]-]+$')",
    message: "must be a host name or an address, with or without a port",
};

pub(crate) const ONE_HASH_KEY: Rule = Rule {
    cel: "[has(self.header), has(self.cookie), has(self.clientAddress)].exists_one(given, given)",
    message: "consistentHash needs exactly one of header, cookie (cookie: {} takes the usual one) and clientAddress (clientAddress: {})",
};

pub(crate) const HASH_NAME: Rule = Rule {
    cel: "self.matches(\"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$\")",
    message: "may hold only characters of header names: letters, digits and !#$%&'*+-.^_`|~ (no blanks)",
};

pub(crate) const COOKIE_PATH: Rule = Rule {
    cel: "self.matches('^/[!-:<-~]*$')",
    message: "must begin with a slash and hold only printable ASCII characters, no blanks and no semicolon",
};

/// An instant as the Kubernetes API writes it.
pub(crate) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// An object without fields.
pub(crate) fn empty(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

/// Labels: names and values.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

/// Conditions, merged by type, as `meta/v1` defines them.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the state of the object.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "description": "Which aspect: Accepted, ResolvedRefs, Programmed.",
                    "type": "string",
                    "maxLength": 316,
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "metadata.generation of the object that this was computed from.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, as one word for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {"description": "Why, for people.", "type": "string", "maxLength": 32768},
            },
        },
    })
}
