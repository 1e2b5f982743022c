//! Credential: what proves a Consumer.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use plugins::jwt::Algorithm;
use plugins::{ConfigMapKeyRef, ObjectName, SecretKeyRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// One secret or public key that proves a Consumer.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "postern.dev",
    version = "v1alpha1",
    kind = "Credential",
    plural = "credentials",
    namespaced,
    shortname = "pcred",
    category = "postern",
    status = "CredentialStatus",
    derive = "PartialEq",
    doc = "One secret or public key that proves a Consumer.",
    printcolumn(
        name = "Consumer",
        type_ = "string",
        json_path = ".spec.consumerRef.name"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        priority = 1
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[
    schema::ONE_CREDENTIAL,
    schema::TTL_OR_EXPIRY,
    schema::TIME_ORDER,
])))]
pub struct CredentialSpec {
    /// The Consumer, in the same namespace, that this proves.
    pub consumer_ref: ObjectName,
    /// Seconds from the object's creation until it counts no longer, 0 to 100000000; from files: from first sight. 0 or
    /// absent: never expires. Excludes expiresAt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000_000))]
    pub ttl: Option<u32>,
    /// Instant (RFC 3339) before which it does not count. Default: it counts at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instant")]
    pub not_before: Option<Time>,
    /// Instant (RFC 3339) from which it counts no longer. Default: never. Excludes ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instant")]
    pub expires_at: Option<Time>,
    /// Free labels for people; the gateway does not act on them; at most 64. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    pub tags: Vec<String>,
    /// An API key, for keyAuth plugins. Exactly one block must be given; keyAuth: {} generates a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_auth: Option<KeyAuthCredential>,
    /// What verifies signed tokens, for jwt plugins. Exactly one block must be given; jwt: {} generates key and secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtCredential>,
    /// An application, for oauth2 plugins. Exactly one block must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Credential>,
}

/// Where an API key comes from. With neither field the controller generates a key of 32 characters into the entry "key"
/// of a Secret that is named after the Credential and owned by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::SECRET_OR_HASH])))]
pub struct KeyAuthCredential {
    /// Entry of a Secret in the same namespace that holds the key. Default: none. Excludes hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// SHA-256 of the key, "sha256:" and 64 hexadecimal digits: the key itself is stored nowhere.
    /// Default: none. Excludes secretRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), extend("x-kubernetes-validations" = schema::rules(&[schema::HASH])))]
    pub hash: Option<String>,
}

/// How tokens are verified. With HS256, HS384 and HS512 by a shared secret: secretRef, or a generated one. With all other
/// algorithms by a public key: exactly one of publicKey, publicKeySecretRef, publicKeyConfigMapRef and jwksUri.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::JWT_SECRET, schema::JWT_PUBLIC_KEY])))]
pub struct JwtCredential {
    /// What the key claim of a token must equal to mean this Credential, an issuer for example; unique in the namespace,
    /// and sent to the upstream as X-Credential-Identifier. Default: one of 32 characters is generated into the entry
    /// "key" of a Secret that is named after the Credential and owned by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = schema::rules(&[schema::NO_CONTROL])))]
    pub key: Option<String>,
    /// The one algorithm that counts, whatever a token says. Default: HS256.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Entry of a Secret in the same namespace that holds the shared secret. Default: one of 32 characters is generated
    /// into the entry "secret" of a Secret that is named after the Credential and owned by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Public key or X.509 certificate, PEM. Of a certificate only the key counts. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub public_key: Option<String>,
    /// Entry of a Secret in the same namespace that holds the public key or certificate. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_secret_ref: Option<SecretKeyRef>,
    /// Entry of a ConfigMap in the same namespace that holds the public key or certificate. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_config_map_ref: Option<ConfigMapKeyRef>,
    /// URL of the issuer's JSON Web Key Set, https or http: every proxy fetches it, again before it expires, and at once
    /// when a token names a key (kid) that is not in it; the last good one counts for as long as the issuer is away. Only
    /// its public keys for signatures with the Credential's algorithm count. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = schema::rules(&[schema::HTTP_URL])))]
    pub jwks_uri: Option<String>,
}

/// An application that asks for tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = schema::rules(&[schema::PUBLIC_SECRET])))]
pub struct OAuth2Credential {
    /// What people call it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What it calls itself by in requests; unique in the namespace, and sent to the upstream as X-Credential-Identifier.
    /// Default: one of 32 characters is generated into the entry "clientId" of a Secret that is named after the Credential
    /// and owned by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = schema::rules(&[schema::CLIENT_ID])))]
    pub client_id: Option<String>,
    /// Entry of a Secret in the same namespace that holds its secret; not with clientType public. Default: one of 32
    /// characters is generated into the entry "clientSecret" of a Secret that is named after the Credential and owned by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretKeyRef>,
    /// confidential: it can keep a secret. public: it runs where its users, or everybody, can read it, and has none. Default:
    /// confidential.
    #[serde(default)]
    pub client_type: ClientType,
    /// Where its users may be sent to with a code or a token, at most 32; compared byte for byte. Default: none, it can use
    /// neither codes nor the implicit grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 1024)),
        extend("x-kubernetes-validations" = schema::rules(&[schema::REDIRECT_URIS]))
    )]
    pub redirect_uris: Vec<String>,
}

/// Whether an application can keep a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ClientType {
    #[default]
    Confidential,
    Public,
}

/// What the gateway made of a Credential.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CredentialStatus {
    /// Public identifier that the upstream is told (X-Credential-Identifier): the object's UID; from files a version 5
    /// UUID of "postern.dev/credentials/NAMESPACE/NAME" in the URL namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub id: Option<String>,
    /// Secret that holds a generated value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// Instant (RFC 3339) from which it counts no longer, from ttl or expiresAt; absent where it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::instant")]
    pub expires_at: Option<Time>,
    /// Accepted: the object is well formed and its key is free; a message beside True is a warning. ResolvedRefs: the Consumer and the Secret are there.
    /// Programmed: the connected proxies know it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
