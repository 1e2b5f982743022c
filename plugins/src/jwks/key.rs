//! One key of a set.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::directory::digest_of;
use crate::jwt::{Algorithm, Family, Material, VerificationKey};

/// A public key for signatures, ready to verify.
#[derive(Debug)]
pub(super) struct SetKey {
    pub(super) kid: Option<Box<str>>,
    /// Of its text: what is the same in the next set stays.
    pub(super) digest: [u8; 32],
    /// One for each algorithm that it may be used with.
    pub(super) ready: Box<[VerificationKey]>,
}

/// Why a key of a set is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// Not a key, or one of a kind that is not supported.
    Unsupported,
    /// For encryption, or for signing only.
    OtherUse,
    /// Shared secrets are never taken from a set.
    Symmetric,
    /// Its private part is in the set too, so that anybody may sign with it.
    Private,
}

#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow, rename = "use")]
    usage: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_ops: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    crv: Option<Cow<'a, str>>,
    #[serde(borrow)]
    x: Option<Cow<'a, str>>,
    #[serde(borrow)]
    y: Option<Cow<'a, str>>,
    #[serde(borrow)]
    n: Option<Cow<'a, str>>,
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
    d: Option<IgnoredAny>,
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

impl SetKey {
    /// Reads one member of `keys`.
    pub(super) fn read(text: &str) -> Result<Self, LeftOut> {
        let jwk: Jwk<'_> = serde_json::from_str(text).map_err(|_| LeftOut::Unsupported)?;
        if jwk.kty == "oct" {
            return Err(LeftOut::Symmetric);
        }
        if jwk.d.is_some() {
            return Err(LeftOut::Private);
        }
        let verifies = |ops: &Vec<Cow<'_, str>>| ops.iter().any(|op| op == "verify");
        if jwk.usage.as_ref().is_some_and(|usage| usage != "sig")
            || jwk.key_ops.as_ref().is_some_and(|ops| !verifies(ops))
        {
            return Err(LeftOut::OtherUse);
        }
        let ready = jwk.ready().ok_or(LeftOut::Unsupported)?;
        Ok(Self {
            kid: jwk.kid.map(|kid| kid.into()),
            digest: digest_of(text.as_bytes()),
            ready,
        })
    }

    pub(super) fn of(&self, algorithm: Algorithm) -> Option<&VerificationKey> {
        self.ready.iter().find(|key| key.algorithm() == algorithm)
    }
}

impl Jwk<'_> {
    fn ready(&self) -> Option<Box<[VerificationKey]>> {
        let (n, e, point);
        let (family, material) = match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => {
                n = number(self.n.as_ref())?;
                e = number(self.e.as_ref())?;
                let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
                if !(2048..=8192).contains(&bits) || !is_fit_exponent(&e) {
                    return None;
                }
                (Family::Rsa, Material::Rsa { n: &n, e: &e })
            }
            ("EC", Some("P-256")) => {
                point = self.point(32)?;
                (Family::P256, Material::PublicKey(&point))
            }
            ("EC", Some("P-384")) => {
                point = self.point(48)?;
                (Family::P384, Material::PublicKey(&point))
            }
            ("OKP", Some("Ed25519")) => {
                point = coordinate(self.x.as_ref(), 32)?;
                (Family::Ed25519, Material::PublicKey(&point))
            }
            _ => return None,
        };
        let of_family: &[Algorithm] = match family {
            Family::Rsa => RSA,
            Family::P256 => &[Algorithm::ES256],
            Family::P384 => &[Algorithm::ES384],
            Family::Ed25519 => &[Algorithm::EdDSA],
            Family::Secret(_) => &[],
        };
        let named = match self.alg.as_deref() {
            None => None,
            // RFC 9864 names the curve.
            Some("Ed25519") => Some(Algorithm::EdDSA),
            Some(name) => Some(Algorithm::from_name(name)?),
        };
        let ready: Box<[_]> = of_family
            .iter()
            .filter(|algorithm| named.is_none_or(|named| named == **algorithm))
            .map(|algorithm| VerificationKey::new(*algorithm, material))
            .collect::<Result<_, _>>()
            .ok()?;
        (!ready.is_empty()).then_some(ready)
    }

    /// The point, uncompressed.
    fn point(&self, length: usize) -> Option<Vec<u8>> {
        let x = coordinate(self.x.as_ref(), length)?;
        let y = coordinate(self.y.as_ref(), length)?;
        Some([&[4], &x[..], &y].concat())
    }
}

fn decode(text: Option<&Cow<'_, str>>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?.as_bytes()).ok()
}

fn coordinate(text: Option<&Cow<'_, str>>, length: usize) -> Option<Vec<u8>> {
    decode(text).filter(|bytes| bytes.len() == length)
}

/// A number without the zeros that some write before it.
fn number(text: Option<&Cow<'_, str>>) -> Option<Vec<u8>> {
    let mut bytes = decode(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    (!bytes.is_empty()).then_some(bytes)
}

/// Odd, more than 1 and of 32 bits at most: with 1 every text is its own signature, and a long one only costs time.
fn is_fit_exponent(e: &[u8]) -> bool {
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    odd && e != [1] && e.len() <= 4
}
