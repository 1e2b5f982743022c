//! Signed tokens of the provider: read, verified, judged.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Config;
use super::provider::Provider;
use crate::jwks::KeySet;
use crate::jwt::{Algorithm, VerificationKey};

/// A token as it was read; nothing of it has been verified.
pub(super) struct Token<'t> {
    algorithm: String,
    kid: Option<String>,
    kind: Option<String>,
    signed: &'t str,
    /// In base64url.
    signature: &'t str,
    pub(super) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

/// What signatures count.
#[derive(Debug)]
pub(super) struct Rules {
    expected: Option<Algorithm>,
    unsigned: bool,
    unknown: bool,
    secret: Option<DecodingKey>,
    slack: i64,
    client_id: String,
}

/// What a login expects of its ID token.
#[derive(Clone, Copy, Default)]
pub(super) struct Expected<'a> {
    pub(super) nonce: Option<&'a str>,
    pub(super) access_token: Option<&'a str>,
    pub(super) code: Option<&'a str>,
}

impl<'t> Token<'t> {
    /// Reads the compact form.
    pub(super) fn read(text: &'t str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "malformed_token";
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
        // No extension is understood here, so that none can be demanded.
        if header.crit.is_some() {
            return Err(MALFORMED);
        }
        decode(signature)?;
        Ok(Self {
            algorithm: header.alg,
            kid: header.kid,
            kind: header.typ,
            signed,
            signature,
            claims: serde_json::from_slice(&decode(payload)?).map_err(|_| MALFORMED)?,
        })
    }

    /// What the header says that signs it.
    pub(super) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// What the header says that it is.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Whether this key, for the algorithm that the caller has chosen, verifies the signature.
    pub(super) fn verifies_with(&self, key: &VerificationKey) -> bool {
        self.is_signed(key.algorithm(), &key.decoding_key())
    }

    fn is_signed(&self, algorithm: Algorithm, key: &DecodingKey) -> bool {
        let signed = self.signed.as_bytes();
        matches!(
            crypto::verify(self.signature, signed, key, algorithm.into()),
            Ok(true)
        )
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// A claim that is an instant, in whole seconds.
    pub(super) fn instant(&self, name: &str) -> Option<i64> {
        instant(self.claims.get(name)?)
    }
}

/// Seconds since 1970.
#[expect(
    clippy::cast_possible_truncation,
    reason = "casts to whole numbers stop at the ends of their range"
)]
pub(super) fn instant(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().map(|number| number.floor() as i64))
}

impl Rules {
    pub(super) fn new(config: &Config, secret: Option<&str>) -> Self {
        Self {
            expected: config.token_signing_alg_values_expected,
            unsigned: config.accept_none_alg,
            unknown: config.accept_unsupported_alg,
            secret: secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())),
            slack: config.iat_slack.into(),
            client_id: config.client_id.clone(),
        }
    }

    /// Verifies the signature of an ID token, or of a logout token.
    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        provider: &Provider,
    ) -> Result<(), &'static str> {
        if token.algorithm == "none" {
            let accepted = self.unsigned && token.signature.is_empty();
            return if accepted { Ok(()) } else { Err("unsigned") };
        }
        let Some(algorithm) = Algorithm::from_name(&token.algorithm) else {
            let accepted = self.unknown && self.expected.is_none();
            return if accepted {
                Ok(())
            } else {
                Err("unsupported_algorithm")
            };
        };
        let announced = &provider.metadata.id_token_signing_alg_values_supported;
        let fits = match self.expected {
            Some(expected) => expected == algorithm,
            // Who knows the client's secret could sign tokens, were that not asked for.
            None => {
                !algorithm.is_symmetric()
                    && announced
                        .as_ref()
                        .is_none_or(|names| names.contains(&token.algorithm))
            }
        };
        if !fits {
            return Err("wrong_algorithm");
        }
        if algorithm.is_symmetric() {
            let key = self.secret.as_ref().ok_or("no_secret")?;
            let verified = token.is_signed(algorithm, key);
            return verified.then_some(()).ok_or("bad_signature");
        }
        verify_with_keys(token, algorithm, provider).await
    }

    /// Judges the claims of a verified ID token (OpenID Connect Core, section 3.1.3.7).
    pub(super) fn judge(
        &self,
        token: &Token<'_>,
        issuer: &str,
        expected: Expected<'_>,
        now: i64,
    ) -> Result<(), &'static str> {
        if token.text("iss") != Some(issuer) {
            return Err("other_issuer");
        }
        if token.text("sub").is_none_or(str::is_empty) {
            return Err("no_subject");
        }
        self.judge_audience(token)?;
        let exp = token.instant("exp").ok_or("no_expiry")?;
        if exp.saturating_add(self.slack) <= now {
            return Err("expired");
        }
        let iat = token.instant("iat").ok_or("no_issue_time")?;
        if iat > now.saturating_add(self.slack) {
            return Err("issued_in_the_future");
        }
        if let Some(nbf) = token.claims.get("nbf")
            && instant(nbf).is_none_or(|nbf| nbf > now.saturating_add(self.slack))
        {
            return Err("not_yet_valid");
        }
        if let Some(nonce) = expected.nonce
            && token.text("nonce") != Some(nonce)
        {
            return Err("other_nonce");
        }
        for (claim, value) in [
            ("at_hash", expected.access_token),
            ("c_hash", expected.code),
        ] {
            if let (Some(hash), Some(value)) = (token.claims.get(claim), value)
                && let Some(right) = half_hash(&token.algorithm, value)
                && hash.as_str() != Some(&right)
            {
                return Err("other_hash");
            }
        }
        Ok(())
    }

    pub(super) fn judge_audience(&self, token: &Token<'_>) -> Result<(), &'static str> {
        let ours = |value: &Value| value.as_str() == Some(&self.client_id);
        let (included, several) = match token.claims.get("aud") {
            Some(Value::Array(all)) => (all.iter().any(ours), all.len() > 1),
            Some(one) => (ours(one), false),
            None => (false, false),
        };
        match token.claims.get("azp") {
            _ if !included => Err("other_audience"),
            Some(azp) if !ours(azp) => Err("other_authorized_party"),
            None if several => Err("no_authorized_party"),
            _ => Ok(()),
        }
    }
}

/// Verifies with the provider's keys. A key that is not there yet is worth one more look at them.
pub(super) async fn verify_with_keys(
    token: &Token<'_>,
    algorithm: Algorithm,
    provider: &Provider,
) -> Result<(), &'static str> {
    let kid = token.kid.as_deref();
    let mut set = provider.key_set().await?;
    for again in [true, false] {
        let named = {
            let candidates = set.candidates(kid, algorithm);
            let mut keys = candidates.keys();
            if keys.any(|key| token.verifies_with(key)) {
                return Ok(());
            }
            candidates.are_named()
        };
        if named || !again {
            break;
        }
        let newer = provider.keys()?.newer(Some(&set), kid).await;
        set = newer.ok_or("bad_signature")?;
    }
    Err("bad_signature")
}

/// Verifies with keys that are there already. None: they would be fetched anew.
pub(super) fn verify_with_known(
    token: &Token<'_>,
    algorithm: Algorithm,
    set: &KeySet,
) -> Option<Result<(), ()>> {
    let candidates = set.candidates(token.kid.as_deref(), algorithm);
    let mut keys = candidates.keys();
    if keys.any(|key| token.verifies_with(key)) {
        return Some(Ok(()));
    }
    candidates.are_named().then_some(Err(()))
}

/// The left half of a text's hash; the hash is that of the signature.
fn half_hash(algorithm: &str, text: &str) -> Option<String> {
    let algorithm = Algorithm::from_name(algorithm)?;
    let hash = match algorithm {
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::ES256 | Algorithm::PS256 => {
            &digest::SHA256
        }
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::ES384 | Algorithm::PS384 => {
            &digest::SHA384
        }
        _ => &digest::SHA512,
    };
    let whole = digest::digest(hash, text.as_bytes());
    let (half, _) = whole.as_ref().split_at_checked(whole.as_ref().len() / 2)?;
    Some(URL_SAFE_NO_PAD.encode(half))
}
