//! Reads tokens in compact form (RFC 7515, section 7.1): strictly, and only as far as a decision needs.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::Algorithm;

/// Why a token cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Not three parts, not base64url, or not JSON objects.
    Json,
    /// The header names no algorithm, or none of ours.
    Algorithm,
    /// The header demands the understanding of extensions.
    Critical,
    /// The signature is not base64url.
    Signature,
}

/// The parts of a token, decoded.
pub(super) struct Parts<'a> {
    /// What is signed.
    signed: &'a [u8],
    /// Header, payload and signature, one behind the other.
    decoded: Vec<u8>,
    header_end: usize,
    payload_end: usize,
    signature: &'a [u8],
}

/// What a decision needs of a token.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a [u8],
    /// The claim that names the Credential, of the payload or else of the header.
    pub(super) key: Option<Value<'a>>,
    pub(super) exp: Option<Value<'a>>,
    pub(super) nbf: Option<Value<'a>>,
    /// Which key of a set the header names.
    pub(super) kid: Option<Value<'a>>,
}

/// A value, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Other,
}

impl Token<'_> {
    /// Which key of a set the header names, if it is text.
    pub(super) fn kid(&self) -> Option<&str> {
        match &self.kid {
            Some(Value::Text(kid)) => Some(kid),
            _ => None,
        }
    }
}

impl<'a> Parts<'a> {
    /// Takes a token apart. The signature is decoded too; what is wrong with it is said after what else is.
    pub(super) fn of(token: &'a [u8]) -> Result<Self, Malformed> {
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(Malformed::Json);
        };
        let part = |range: std::ops::Range<usize>| token.get(range).unwrap_or_default();
        let mut decoded = Vec::with_capacity(token.len());
        let mut decode = |part: &[u8]| {
            URL_SAFE_NO_PAD
                .decode_vec(part, &mut decoded)
                .map_err(|_| Malformed::Json)?;
            Ok(decoded.len())
        };
        let header_end = decode(part(0..first))?;
        let payload_end = decode(part(first + 1..second))?;
        Ok(Self {
            signed: part(0..second),
            decoded,
            header_end,
            payload_end,
            signature: part(second + 1..token.len()),
        })
    }

    /// Reads what the decision needs; `key_claim` names the Credential.
    pub(super) fn read(&mut self, key_claim: &str) -> Result<Token<'_>, Malformed> {
        let signature = URL_SAFE_NO_PAD.decode_vec(self.signature, &mut self.decoded);
        let json = |range: std::ops::Range<usize>| {
            let text = std::str::from_utf8(self.decoded.get(range).unwrap_or_default()).ok()?;
            let mut reader = serde_json::Deserializer::from_str(text);
            let members = Wanted(key_claim).deserialize(&mut reader).ok()?;
            reader.end().is_ok().then_some(members)
        };
        let header = json(0..self.header_end).ok_or(Malformed::Json)?;
        let payload = json(self.header_end..self.payload_end).ok_or(Malformed::Json)?;
        let algorithm = match &header.alg {
            Some(Value::Text(name)) => Algorithm::from_name(name),
            _ => None,
        };
        let algorithm = algorithm.ok_or(Malformed::Algorithm)?;
        // No extension is understood here, so that none can be demanded (RFC 7515, section 4.1.11).
        if header.crit.is_some() {
            return Err(Malformed::Critical);
        }
        signature.map_err(|_| Malformed::Signature)?;
        Ok(Token {
            algorithm,
            signed: self.signed,
            signature: self.decoded.get(self.payload_end..).unwrap_or_default(),
            key: payload.key.or(header.key),
            exp: payload.exp,
            nbf: payload.nbf,
            kid: header.kid,
        })
    }
}

/// The members that matter, of header or payload.
#[derive(Debug, Default)]
struct Members<'a> {
    alg: Option<Value<'a>>,
    crit: Option<Value<'a>>,
    exp: Option<Value<'a>>,
    nbf: Option<Value<'a>>,
    kid: Option<Value<'a>>,
    key: Option<Value<'a>>,
}

/// Reads [`Members`]; holds the name of the key claim.
struct Wanted<'n>(&'n str);

/// Which member a name means.
#[derive(Clone, Copy)]
struct Name {
    registered: Option<Registered>,
    key: bool,
}

#[derive(Clone, Copy)]
enum Registered {
    Alg,
    Crit,
    Exp,
    Nbf,
    Kid,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key_seed(NameOf(self.0))? {
            if name.registered.is_none() && !name.key {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value<'de> = map.next_value()?;
            let mut twice = false;
            if name.key {
                twice |= members.key.replace(value.clone()).is_some();
            }
            if let Some(registered) = name.registered {
                let place = match registered {
                    Registered::Alg => &mut members.alg,
                    Registered::Crit => &mut members.crit,
                    Registered::Exp => &mut members.exp,
                    Registered::Nbf => &mut members.nbf,
                    Registered::Kid => &mut members.kid,
                };
                twice |= place.replace(value).is_some();
            }
            // Others might read the first where this reads the last.
            if twice {
                return Err(serde::de::Error::custom("a name is given twice"));
            }
        }
        Ok(members)
    }
}

struct NameOf<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for NameOf<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameOf<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
        let registered = match name {
            "alg" => Some(Registered::Alg),
            "crit" => Some(Registered::Crit),
            "exp" => Some(Registered::Exp),
            "nbf" => Some(Registered::Nbf),
            "kid" => Some(Registered::Kid),
            _ => None,
        };
        Ok(Name {
            registered,
            key: name == self.0,
        })
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds beyond 2^53 are as far away as their neighbours"
    )]
    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds beyond 2^53 are as far away as their neighbours"
    )]
    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value<'de>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
