//! Credentials that verify tokens.

use std::sync::Arc;

use ::plugins::jwt::{Algorithm, Family};
use ::plugins::schema::is_in_the_clear;
use crds::JwtCredential;
use snapshot::proto;
use snapshot::proto::credential::Proof;
use snapshot::proto::jwt::Verification;

use super::{Reading, entry, public_key};
use crate::Object;
use crate::inputs::Inputs;
use crate::keys::Unique;
use crate::object::Body;
use crate::values::{self, Missing};

/// Entries of generated Secrets, and of Secrets that are Credentials.
const KEY: &str = "key";
const SECRET: &str = "secret";
const ALGORITHM: &str = "algorithm";
const PUBLIC_KEY: &str = "publicKey";
/// What Kong calls the public key, whatever its algorithm.
const RSA_PUBLIC_KEY: &str = "rsa_public_key";

/// The longest `key`, in characters.
const MAX_KEY: usize = 1024;

/// The values that are generated for a Credential.
pub(super) fn to_generate(spec: &JwtCredential) -> Vec<&'static str> {
    let key = spec.key.is_none().then_some(KEY);
    let secret = (spec.algorithm.is_symmetric() && spec.secret_ref.is_none()).then_some(SECRET);
    key.into_iter().chain(secret).collect()
}

impl Reading {
    pub(super) fn jwt(&mut self, inputs: &Inputs, object: &Object, spec: &JwtCredential) {
        let namespace = &object.reference.namespace;
        let own = |key| entry(&object.reference.name, key);
        let generated = to_generate(spec);
        if !generated.is_empty() && !self.generated(inputs, object, &generated, "spec.jwt") {
            return;
        }
        let key = match &spec.key {
            Some(key) => Some(key.clone()),
            None => self
                .entry(inputs, namespace, &own(KEY), "spec.jwt")
                .and_then(|key| self.name(key, "spec.jwt")),
        };
        let verification = if spec.algorithm.is_symmetric() {
            let (entry, field) = match &spec.secret_ref {
                Some(entry) => (entry.clone(), "spec.jwt.secretRef"),
                None => (own(SECRET), "spec.jwt"),
            };
            self.entry(inputs, namespace, &entry, field)
                .map(|secret| self.shared_secret(spec.algorithm, secret))
        } else {
            self.configured_public_key(inputs, namespace, spec)
        };
        self.prove(key, spec.algorithm, verification);
    }

    fn configured_public_key(
        &mut self,
        inputs: &Inputs,
        namespace: &str,
        spec: &JwtCredential,
    ) -> Option<Verification> {
        if let Some(pem) = &spec.public_key {
            return self.public_key(spec.algorithm, pem.as_bytes(), "spec.jwt.publicKey");
        }
        if let Some(entry) = &spec.public_key_secret_ref {
            let field = "spec.jwt.publicKeySecretRef";
            let pem = self.entry(inputs, namespace, entry, field)?;
            return self.public_key(spec.algorithm, &pem, field);
        }
        if let Some(url) = &spec.jwks_uri {
            if is_in_the_clear(url) {
                self.warning = Some(
                    "the key set is fetched without TLS: whoever is on the way can put in keys of their own; use https"
                        .to_owned(),
                );
            }
            return Some(Verification::JwksUri(url.clone()));
        }
        let entry = spec.public_key_config_map_ref.as_ref()?;
        let field = "spec.jwt.publicKeyConfigMapRef";
        match values::of_config_map(inputs, namespace, entry) {
            Ok(pem) => self.public_key(spec.algorithm, pem.as_bytes(), field),
            Err(Missing::NotFound(reason, message)) => {
                self.unresolved(field, reason, message);
                None
            }
            Err(Missing::Pending(_) | Missing::Empty(_)) => None,
        }
    }

    /// A Secret that is a Credential of its own.
    pub(super) fn jwt_secret(&mut self, inputs: &Inputs, object: &Object) {
        let namespace = &object.reference.namespace;
        let own = |key| entry(&object.reference.name, key);
        let Body::Secret(secret) = &object.body else {
            return;
        };
        let has = |key: &str| {
            let data = secret.data.as_ref();
            data.is_some_and(|data| data.contains_key(key))
        };
        let algorithm = if has(ALGORITHM) {
            let name = self.entry(inputs, namespace, &own(ALGORITHM), "data.algorithm");
            let name = name.and_then(|name| String::from_utf8(name).ok());
            name.and_then(|name| Algorithm::from_name(&name))
        } else {
            Some(Algorithm::default())
        };
        let Some(algorithm) = algorithm else {
            let names: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
            let message = format!("is not supported; use one of {}", names.join(", "));
            self.refuse("data.algorithm", message);
            return;
        };
        let key = self
            .entry(inputs, namespace, &own(KEY), "data.key")
            .and_then(|key| self.name(key, "data.key"));
        let verification = if algorithm.is_symmetric() {
            self.entry(inputs, namespace, &own(SECRET), "data.secret")
                .map(|secret| self.shared_secret(algorithm, secret))
        } else {
            let (name, field) = if !has(PUBLIC_KEY) && has(RSA_PUBLIC_KEY) {
                (RSA_PUBLIC_KEY, "data.rsa_public_key")
            } else {
                (PUBLIC_KEY, "data.publicKey")
            };
            self.entry(inputs, namespace, &own(name), field)
                .and_then(|pem| self.public_key(algorithm, &pem, field))
        };
        self.prove(key, algorithm, verification);
    }

    /// The value of a Secret as what tokens say to mean this Credential.
    fn name(&mut self, key: Vec<u8>, field: &str) -> Option<String> {
        let fits =
            |key: &String| key.chars().count() <= MAX_KEY && !key.chars().any(char::is_control);
        let name = String::from_utf8(key).ok().filter(fits);
        if name.is_none() {
            let message = format!(
                "the key must be text of at most {MAX_KEY} characters, none of them a control character: it is sent in a \
                 header"
            );
            self.refuse(field, message);
        }
        name
    }

    fn shared_secret(&mut self, algorithm: Algorithm, secret: Vec<u8>) -> Verification {
        if let Family::Secret(length) = algorithm.family()
            && secret.len() < length
        {
            self.warning = Some(format!(
                "the shared secret has {} bytes; {algorithm} should have at least {length}, shorter ones can be guessed from \
                 a single token",
                secret.len()
            ));
        }
        Verification::Secret(secret.into())
    }

    fn public_key(
        &mut self,
        algorithm: Algorithm,
        pem: &[u8],
        field: &str,
    ) -> Option<Verification> {
        match public_key::read(algorithm, pem) {
            Ok(der) => Some(Verification::PublicKey(der.into())),
            Err(problem) => {
                self.refuse(field, problem);
                None
            }
        }
    }

    fn prove(
        &mut self,
        key: Option<String>,
        algorithm: Algorithm,
        verification: Option<Verification>,
    ) {
        let (Some(key), Some(verification)) = (key, verification) else {
            return;
        };
        let unique = Unique::JwtKey(Arc::from(key.as_str()));
        let proof = proto::Jwt {
            key,
            algorithm: algorithm.name().to_owned(),
            verification: Some(verification),
        };
        self.proof = Some((unique, Proof::Jwt(proof)));
    }
}
