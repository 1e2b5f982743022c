//! Credentials that are applications of OAuth 2.0.

use std::sync::Arc;

use aws_lc_rs::digest;
use crds::{ClientType, OAuth2Credential};
use snapshot::proto;
use snapshot::proto::credential::Proof;

use super::{Reading, entry};
use crate::Object;
use crate::inputs::Inputs;
use crate::keys::Unique;
use crate::object::Body;

/// Entries of generated Secrets, and of Secrets that are Credentials.
const CLIENT_ID: &str = "clientId";
const CLIENT_SECRET: &str = "clientSecret";

/// The longest client id, in characters.
const MAX_CLIENT_ID: usize = 253;
/// The most redirect URIs, and the longest one.
const MAX_REDIRECT_URIS: usize = 32;
const MAX_REDIRECT_URI: usize = 1024;

/// The values that are generated for a Credential.
pub(super) fn to_generate(spec: &OAuth2Credential) -> Vec<&'static str> {
    let client_id = spec.client_id.is_none().then_some(CLIENT_ID);
    let confidential = spec.client_type == ClientType::Confidential;
    let secret = (confidential && spec.client_secret_ref.is_none()).then_some(CLIENT_SECRET);
    client_id.into_iter().chain(secret).collect()
}

impl Reading {
    pub(super) fn application(
        &mut self,
        inputs: &Inputs,
        object: &Object,
        spec: &OAuth2Credential,
    ) {
        const FIELD: &str = "spec.oauth2";
        let namespace = &object.reference.namespace;
        let own = |key| entry(&object.reference.name, key);
        let generated = to_generate(spec);
        if !generated.is_empty() && !self.generated(inputs, object, &generated, FIELD) {
            return;
        }
        let client_id = match &spec.client_id {
            Some(client_id) => Some(client_id.clone()),
            None => self
                .entry(inputs, namespace, &own(CLIENT_ID), FIELD)
                .and_then(|client_id| self.client_id(client_id, FIELD)),
        };
        let secret = match (spec.client_type, &spec.client_secret_ref) {
            (ClientType::Public, _) => Some(None),
            (ClientType::Confidential, Some(at)) => self
                .entry(inputs, namespace, at, "spec.oauth2.clientSecretRef")
                .map(Some),
            (ClientType::Confidential, None) => self
                .entry(inputs, namespace, &own(CLIENT_SECRET), FIELD)
                .map(Some),
        };
        self.register(client_id, secret, spec.redirect_uris.clone());
    }

    /// A Secret that is a Credential of its own. Kong's names of its entries are understood too.
    pub(super) fn application_secret(&mut self, inputs: &Inputs, object: &Object) {
        let namespace = &object.reference.namespace;
        let Body::Secret(secret) = &object.body else {
            return;
        };
        let has = |key: &str| {
            let data = secret.data.as_ref();
            data.is_some_and(|data| data.contains_key(key))
        };
        // The entry that is there; where neither is, the first is missed.
        let one_of = |own: &'static str, kongs: &'static str| {
            if !has(own) && has(kongs) { kongs } else { own }
        };
        let read = |reading: &mut Self, key: &str| {
            let at = entry(&object.reference.name, key);
            reading.entry(inputs, namespace, &at, &format!("data.{key}"))
        };
        let at = one_of(CLIENT_ID, "client_id");
        let client_id =
            read(self, at).and_then(|value| self.client_id(value, &format!("data.{at}")));
        let at = one_of("clientType", "client_type");
        let kind = if has(at) {
            read(self, at)
        } else {
            Some(b"confidential".to_vec())
        };
        let secret = match kind.as_deref() {
            Some(b"public") => Some(None),
            Some(b"confidential") => read(self, one_of(CLIENT_SECRET, "client_secret")).map(Some),
            Some(_) => {
                self.refuse(format!("data.{at}"), "must be confidential or public");
                None
            }
            None => None,
        };
        let at = one_of("redirectUris", "redirect_uris");
        let uris = if has(at) {
            read(self, at).and_then(|value| self.redirect_uris(value, &format!("data.{at}")))
        } else {
            Some(Vec::new())
        };
        if let Some(uris) = uris {
            self.register(client_id, secret, uris);
        }
    }

    fn client_id(&mut self, value: Vec<u8>, field: &str) -> Option<String> {
        let fits = |text: &String| text.len() <= MAX_CLIENT_ID && crds::is_client_id(text);
        let client_id = String::from_utf8(value).ok().filter(fits);
        if client_id.is_none() {
            let message = format!(
                "the client id must be at most {MAX_CLIENT_ID} printable ASCII characters, none of them a blank or a colon"
            );
            self.refuse(field, message);
        }
        client_id
    }

    /// Separated by blanks, line breaks or commas.
    fn redirect_uris(&mut self, value: Vec<u8>, field: &str) -> Option<Vec<String>> {
        let text = String::from_utf8(value).unwrap_or_default();
        let separates = |letter: char| letter.is_whitespace() || letter == ',';
        let uris = text.split(separates).filter(|uri| !uri.is_empty());
        let uris: Vec<String> = uris.map(str::to_owned).collect();
        let fit = |uri: &String| uri.len() <= MAX_REDIRECT_URI && crds::is_redirect_uri(uri);
        if uris.is_empty() || uris.len() > MAX_REDIRECT_URIS || !uris.iter().all(fit) {
            let message = format!(
                "must be 1 to {MAX_REDIRECT_URIS} absolute URIs without fragments, each of at most {MAX_REDIRECT_URI} \
                 characters, separated by blanks, commas or line breaks"
            );
            self.refuse(field, message);
            return None;
        }
        Some(uris)
    }

    /// `secret`: none where it is not there, `Some(None)` where the application has none.
    fn register(
        &mut self,
        client_id: Option<String>,
        secret: Option<Option<Vec<u8>>>,
        redirect_uris: Vec<String>,
    ) {
        let (Some(client_id), Some(secret)) = (client_id, secret) else {
            return;
        };
        let unique = Unique::ClientId(Arc::from(client_id.as_str()));
        let digest = |secret: Vec<u8>| digest::digest(&digest::SHA256, &secret).as_ref().to_vec();
        let proof = proto::Application {
            client_id,
            secret_digest: secret.map(digest).unwrap_or_default().into(),
            redirect_uris,
        };
        self.proof = Some((unique, Proof::Application(proof)));
    }
}
