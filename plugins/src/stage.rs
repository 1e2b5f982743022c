//! Where tests put a plugin on: a directory with a cast, and requests and verdicts written as text.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header, request};

use crate::Config;
use crate::directory::{Changes, Directory, KeyId, NewConsumer, NewJwt, NewKey, digest_of};
use crate::handler::{
    BodyError, BuildContext, Caller, Exchange, Handler, Refusal, RequestBody, ResponseEdits,
    Services, Values, Verdict,
};
use crate::jwks::KeySets;
use crate::jwt::{Algorithm, Material, VerificationKey};

/// Seconds since 1970, on stage.
pub(crate) const NOW: i64 = 2_000;

/// A body in memory.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// How often it was asked for.
    pub(crate) reads: usize,
    pub(crate) broken: bool,
}

impl RequestBody for Body {
    async fn buffer(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        self.reads += 1;
        if self.broken {
            return Err(BodyError::Incomplete);
        }
        if self.bytes.len() > limit {
            return Err(BodyError::TooLong);
        }
        Ok(self.bytes.clone())
    }

    fn replace(&mut self, body: Bytes) {
        self.bytes = body;
    }
}

/// Alice (gold, silver), Bob (silver), Jim and the guest (guests) of namespace shop, Eve of namespace other; their keys are
/// `alice-key` and so on. `old-key` has expired, `future-key` is not in force yet, `orphan-key` has no Consumer, and
/// `twin-key` is both Bob's and Eve's. Jim has tokens, see [`token`], of the issuer `jim`, Bob of `bob`.
pub(crate) fn directory() -> Directory {
    let directory = Directory::default();
    let mut changes = Changes::default();
    for (namespace, name, groups) in [
        ("shop", "alice", &["gold", "silver"][..]),
        ("shop", "bob", &["silver"]),
        ("shop", "jim", &[]),
        ("shop", "guest", &["guests"]),
        ("other", "eve", &[]),
    ] {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let consumer = NewConsumer::new(&format!("id-of-{name}"), name, "", &groups, &[]).unwrap();
        changes.put_consumer(KeyId::of(&format!("Consumer/{namespace}/{name}")), consumer);
    }
    for (number, (key, namespace, consumer, not_before, expires_at)) in [
        ("alice-key", "shop", "alice", 0, 0),
        ("bob-key", "shop", "bob", NOW, NOW + 1),
        ("eve-key", "other", "eve", 0, 0),
        ("old-key", "shop", "alice", 0, NOW),
        ("future-key", "shop", "alice", NOW + 1, 0),
        ("orphan-key", "shop", "nobody", 0, 0),
        ("twin-key", "shop", "bob", 0, 0),
        ("twin-key", "other", "eve", 0, 0),
        ("b\u{f6}se key=&%", "shop", "alice", 0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let key = NewKey {
            key: KeyId::of(&format!("Credential/{namespace}/{number}")),
            namespace,
            digest: digest_of(key.as_bytes()),
            id: uuid::Uuid::from_u128(number as u128),
            consumer: KeyId::of(&format!("Consumer/{namespace}/{consumer}")),
            not_before,
            expires_at,
        };
        directory.put_key(&mut changes, &key);
    }
    for name in ["jim", "bob"] {
        let secret = format!("secret-of-{name}");
        let credential = NewJwt {
            id: KeyId::of(&format!("Credential/shop/jwt-of-{name}")),
            namespace: "shop",
            name,
            verifier: VerificationKey::new(Algorithm::HS256, Material::Secret(secret.as_bytes()))
                .unwrap()
                .into(),
            consumer: KeyId::of(&format!("Consumer/shop/{name}")),
            not_before: 0,
            expires_at: 0,
        };
        directory.put_jwt(&mut changes, credential);
    }
    directory.apply(changes);
    directory
}

/// A token of an issuer, signed with this secret.
pub(crate) fn token(issuer: &str, secret: &str) -> String {
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let payload = format!(r#"{{"iss":"{issuer}"}}"#);
    let head = format!(
        "{}.{}",
        encode(br#"{"alg":"HS256"}"#),
        encode(payload.as_bytes())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = encode(hmac::sign(&key, head.as_bytes()).as_ref());
    format!("{head}.{signature}")
}

/// Builds a handler of `kind` that looks into namespace shop.
pub(crate) fn handler(
    directory: &Directory,
    kind: &str,
    config: &str,
    namespaces: &[&str],
) -> Result<Handler, String> {
    let config = Config::from_json(kind, config.as_bytes()).map_err(|error| error.to_string())?;
    let anonymous = config
        .anonymous()
        .map(|reference| format!("Consumer/shop/{}", reference.name));
    Handler::build(
        config,
        BuildContext {
            key: "Plugin/shop/it",
            id: "1",
            namespaces: directory.namespaces(namespaces.iter().copied()),
            anonymous: anonymous.as_deref(),
            values: Values::new(&values()),
            services: &services(),
        },
    )
}

/// What configurations refer to, on stage, by themselves and in a list.
fn values() -> Vec<(String, Bytes)> {
    let own = [
        ("oauth2", "provisionKeySecretRef", "prov"),
        (
            "openidConnect",
            "session.secretRef",
            "a secret that is long enough",
        ),
    ];
    let alone = own.map(|(_, field, value)| (field.to_owned(), value.into()));
    let listed = (0..8).flat_map(|index| {
        own.map(|(block, field, value)| (format!("[{index}].{block}.{field}"), value.into()))
    });
    alone.into_iter().chain(listed).collect()
}

/// What handlers share, on stage: a background runtime for all tests.
pub(crate) fn services() -> Services {
    static BACKGROUND: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let background = BACKGROUND.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    });
    let outbound = outbound::Client::new(outbound::Options {
        deny: Vec::new(),
        runtime: background.handle().clone(),
    });
    Services {
        background: background.handle().clone(),
        key_sets: Arc::new(KeySets::new(outbound.clone()).unwrap()),
        upstream_tokens: crate::upstream_oauth::Pool::new(&outbound),
        outbound,
        store: store::Store::in_memory(store::SealingKeys::random().unwrap(), background.handle()),
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) head: request::Parts,
    pub(crate) body: Body,
    pub(crate) caller: Caller,
    pub(crate) https: bool,
    pub(crate) tls: bool,
    pub(crate) response: ResponseEdits,
}

impl Scene {
    /// Reads "METHOD target", lines of headers and, behind an empty line, the body. Adds its Content-Length.
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .body(())
            .unwrap();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).unwrap();
            request
                .headers_mut()
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        if !body.is_empty() {
            request
                .headers_mut()
                .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let body = Body {
            bytes: Bytes::copy_from_slice(body.as_bytes()),
            ..Body::default()
        };
        Self {
            head: request.into_parts().0,
            body,
            caller: Caller::default(),
            https: false,
            tls: false,
            response: ResponseEdits::default(),
        }
    }

    /// Lets a plugin act.
    pub(crate) async fn verdict(&mut self, handler: &Handler, directory: &Directory) -> Verdict {
        let mut exchange = Exchange {
            head: &mut self.head,
            body: &mut self.body,
            caller: &mut self.caller,
            directory,
            now: NOW,
            https: self.https,
            request_id: "request-1",
            tls: self.tls,
            response: &mut self.response,
            watch: None,
            rehearsal: false,
        };
        handler.request(&mut exchange).await
    }

    /// Lets a plugin act, and tells what came of it.
    pub(crate) async fn act(&mut self, handler: &Handler, directory: &Directory) -> String {
        match self.verdict(handler, directory).await {
            Verdict::Continue(reason) => format!("{reason}: {}", self.who()),
            Verdict::Answer(answer) => {
                let body = String::from_utf8_lossy(&answer.body);
                format!("{} {body} ({})", answer.status.as_u16(), answer.reason)
            }
            Verdict::Undecided(reason) => format!("undecided ({reason})"),
            Verdict::Refuse(Refusal {
                status,
                message,
                members,
                challenges,
                reason,
            }) => {
                let challenge: String = challenges
                    .iter()
                    .map(|challenge| format!(" <{}>", challenge.to_str().unwrap()))
                    .collect();
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, text)| format!("{name}={text}"))
                    .collect();
                let said = if members.is_empty() {
                    message.into_owned()
                } else {
                    members.join(", ")
                };
                format!("{} {said} ({reason}){challenge}", status.as_u16())
            }
        }
    }

    fn who(&self) -> String {
        let Caller {
            consumer,
            credential,
            anonymous,
            ..
        } = &self.caller;
        assert_eq!(credential.is_some(), consumer.is_some() && !anonymous);
        match consumer {
            None => "nobody".to_owned(),
            Some(consumer) if *anonymous => format!("{} (anonymous)", consumer.username()),
            Some(consumer) => consumer.username().to_owned(),
        }
    }

    /// The request as [`Scene::read`] takes it. The Content-Length must be right.
    pub(crate) fn write(&self) -> String {
        let mut text = format!("{} {}", self.head.method, self.head.uri);
        let mut length = None;
        for (name, value) in &self.head.headers {
            if *name == header::CONTENT_LENGTH {
                length = Some(value.to_str().unwrap().parse::<usize>().unwrap());
            } else {
                text += &format!(
                    "\n{name}: {}",
                    std::str::from_utf8(value.as_bytes()).unwrap()
                );
            }
        }
        assert_eq!(length.unwrap_or(0), self.body.bytes.len(), "Content-Length");
        if !self.body.bytes.is_empty() {
            text += "\n\n";
            text += std::str::from_utf8(&self.body.bytes).unwrap();
        }
        text
    }
}
