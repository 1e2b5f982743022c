//! Applications that prove who they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::handler::Handler;
use super::parameters::{Name, Parameters};
use super::records::Subject;
use crate::directory::{Directory, Lookup};

/// An application that exists.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) client_id: String,
    pub(super) id: String,
    /// Id of its Consumer.
    pub(super) consumer: String,
    pub(super) public: bool,
    /// Whether the secret that it gave is its own.
    pub(super) proven: bool,
    pub(super) redirect_uris: Vec<Box<str>>,
}

/// What a request says about the application that sent it.
pub(super) struct Claim<'a> {
    client_id: Option<std::borrow::Cow<'a, str>>,
    secret: Option<std::borrow::Cow<'a, str>>,
    /// Whether it is said in a Basic header.
    pub(super) basic: bool,
}

impl<'a> Claim<'a> {
    /// Id and secret in the parameters, else in the header, else the id alone.
    pub(super) fn of(handler: &Handler, headers: &HeaderMap, parameters: &'a Parameters) -> Self {
        let client_id = parameters.text(Name::ClientId).map(Into::into);
        let secret = parameters.text(Name::ClientSecret).map(Into::into);
        if client_id.is_some() && secret.is_some() {
            return Self {
                client_id,
                secret,
                basic: false,
            };
        }
        if let Some((user, password)) = basic(handler, headers) {
            return Self {
                client_id: Some(user.into()),
                secret: Some(password.into()),
                basic: true,
            };
        }
        Self {
            client_id,
            secret,
            basic: false,
        }
    }

    /// Whether a secret was given.
    pub(super) const fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// The application that is meant.
    pub(super) fn find(
        &self,
        handler: &Handler,
        directory: &Directory,
        now: i64,
    ) -> Option<Client> {
        let client_id = self.client_id.as_deref()?;
        let secret = self.secret.as_deref();
        let found = handler.client(directory, client_id, secret, now);
        if !self.basic {
            return found;
        }
        // RFC 6749, section 2.3.1: both parts are encoded as forms are. Not all clients do that.
        match found {
            Some(client) if client.proven => Some(client),
            found => {
                let secret = secret.map(decode);
                handler
                    .client(directory, &decode(client_id), secret.as_deref(), now)
                    .or(found)
            }
        }
    }
}

fn basic(handler: &Handler, headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(handler.header())?.to_str().ok()?;
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn decode(text: &str) -> String {
    let blanks = text.replace('+', " ");
    percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
}

impl Handler {
    /// The application with this id.
    pub(super) fn client(
        &self,
        directory: &Directory,
        client_id: &str,
        secret: Option<&str>,
        now: i64,
    ) -> Option<Client> {
        directory.application(client_id, self.namespaces(), now, |found| {
            let Lookup::Found(application) = found else {
                return None;
            };
            let (consumer, _) = directory.owner_of(application)?;
            Some(Client {
                client_id: application.client_id().to_owned(),
                id: application.id().to_owned(),
                consumer: consumer.id().to_owned(),
                public: application.is_public(),
                proven: secret.is_some_and(|secret| application.has_secret(secret.as_bytes())),
                redirect_uris: application.redirect_uris().to_vec(),
            })
        })
    }

    /// What is issued to an application.
    pub(super) fn subject(&self, client: &Client, scope: String, user: &str) -> Subject {
        Subject {
            plugin: self.id().to_owned(),
            global: self.settings().global_credentials,
            client_id: client.client_id.clone(),
            application: client.id.clone(),
            consumer: client.consumer.clone(),
            scope,
            user: user.to_owned(),
        }
    }

    /// Whether this plugin honours what was issued.
    pub(super) fn honours(&self, plugin: &str, global: bool) -> bool {
        if global {
            self.settings().global_credentials
        } else {
            *plugin == *self.id()
        }
    }
}

impl Client {
    /// Whether something was issued to this very application, with the Consumer that it has now.
    pub(super) fn owns(&self, subject: &Subject) -> bool {
        subject.application == self.id && subject.consumer == self.consumer
    }
}
