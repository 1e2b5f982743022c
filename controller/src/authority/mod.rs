//! The certificate authority that the control plane keeps for itself: made once, shared by all replicas through a Secret,
//! replaced before it expires in a way that proxies never notice.
//!
//! A new authority is first only published, and signs nothing until every proxy has had the time to read it.

mod keeper;

pub(crate) use keeper::{Keeper, Names};

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// How long things live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    /// Of an authority.
    pub(crate) authority: SignedDuration,
    /// An authority is replaced this long before its end.
    pub(crate) renew_before: SignedDuration,
    /// A new authority is published this long before it signs.
    pub(crate) overlap: SignedDuration,
    /// Of a replica's own certificate; renewed after two thirds of it.
    pub(crate) serving: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            authority: SignedDuration::from_hours(24 * 730),
            renew_before: SignedDuration::from_hours(24 * 90),
            overlap: SignedDuration::from_hours(24 * 7),
            serving: SignedDuration::from_hours(24 * 30),
        }
    }
}

/// Clocks of nodes differ: certificates are valid from a little before they are made.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// What is wrong with the kept authority, or with making one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The Secret does not hold what it should.
    #[error("entry {entry} is {problem}")]
    Entry {
        /// Which entry of the Secret.
        entry: &'static str,
        /// What is wrong with it. Never its content.
        problem: &'static str,
    },
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS refused the result.
    #[error("cannot use the certificate that was made: {0}")]
    Use(#[from] rustls::Error),
}

/// A certificate that signs others, with its key.
#[derive(Clone)]
pub(crate) struct Authority {
    certificate: String,
    key: Zeroizing<String>,
    from: Timestamp,
    until: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority(until {})", self.until)
    }
}

/// What the Secret holds.
#[derive(Debug, Clone)]
pub(crate) struct State {
    current: Authority,
    /// Published, not signing yet.
    next: Option<Authority>,
    /// Certificate of the one before; published until it expires.
    previous: Option<String>,
}

/// A replica's own certificate.
pub(crate) struct Serving {
    /// For TLS.
    pub(crate) certified: Arc<rustls::sign::CertifiedKey>,
    /// When it should be replaced.
    pub(crate) renew_at: Timestamp,
}

impl Authority {
    fn create(now: Timestamp, lifetimes: &Lifetimes) -> Result<Self, Error> {
        let (from, until) = (now - BACKDATE, now + lifetimes.authority);
        let mut params = CertificateParams::default();
        // The name differs from one authority to the next, so that verifiers never mistake one for another.
        params.distinguished_name = named(&format!("postern control plane {}", now.as_second()));
        (params.not_before, params.not_after) = (date(from)?, date(until)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Self::read("tls.crt", &certificate, "tls.key", &key.serialize_pem())
    }

    fn read(
        certificate_entry: &'static str,
        certificate: &str,
        key_entry: &'static str,
        key: &str,
    ) -> Result<Self, Error> {
        let (from, until) = validity(certificate).ok_or(Error::Entry {
            entry: certificate_entry,
            problem: "not a certificate in PEM",
        })?;
        let pair = KeyPair::from_pem(key).map_err(|_| Error::Entry {
            entry: key_entry,
            problem: "not a private key in PEM (PKCS #8)",
        })?;
        let der =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| Error::Entry {
                entry: certificate_entry,
                problem: "not a certificate in PEM",
            })?;
        let fits = x509_parser::parse_x509_certificate(&der)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == pair.subject_public_key_info());
        if !fits {
            return Err(Error::Entry {
                entry: key_entry,
                problem: "not the key of the certificate",
            });
        }
        Ok(Self {
            certificate: certificate.into(),
            key: Zeroizing::new(key.into()),
            from,
            until,
        })
    }
}

impl State {
    /// The first authority of an installation.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn create(now: Timestamp, lifetimes: &Lifetimes) -> Result<Self, Error> {
        Ok(Self {
            current: Authority::create(now, lifetimes)?,
            next: None,
            previous: None,
        })
    }

    /// Reads the entries of the Secret.
    ///
    /// # Errors
    /// Names the entry that is missing or does not fit.
    pub(crate) fn read(entries: &BTreeMap<String, Vec<u8>>) -> Result<Self, Error> {
        let text = |entry: &'static str| match entries.get(entry) {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes)
                .map(Some)
                .map_err(|_| Error::Entry {
                    entry,
                    problem: "not text",
                }),
        };
        let needed = |entry| {
            text(entry)?.ok_or(Error::Entry {
                entry,
                problem: "missing",
            })
        };
        let current =
            Authority::read("tls.crt", needed("tls.crt")?, "tls.key", needed("tls.key")?)?;
        let next = match (text("next.crt")?, text("next.key")?) {
            (Some(certificate), Some(key)) => {
                Some(Authority::read("next.crt", certificate, "next.key", key)?)
            }
            _ => None,
        };
        let previous = text("previous.crt")?
            .filter(|pem| validity(pem).is_some())
            .map(str::to_owned);
        Ok(Self {
            current,
            next,
            previous,
        })
    }

    /// The entries of the Secret.
    #[must_use]
    pub(crate) fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let mut entries = BTreeMap::new();
        let mut put =
            |name: &str, text: &str| entries.insert(name.to_owned(), text.as_bytes().to_vec());
        put("ca.crt", &self.bundle());
        put("tls.crt", &self.current.certificate);
        put("tls.key", &self.current.key);
        if let Some(next) = &self.next {
            put("next.crt", &next.certificate);
            put("next.key", &next.key);
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", previous);
        }
        entries
    }

    /// All certificates that proxies should trust, in PEM.
    #[must_use]
    pub(crate) fn bundle(&self) -> String {
        let mut bundle = self.current.certificate.clone();
        for other in self
            .next
            .iter()
            .map(|next| &next.certificate)
            .chain(&self.previous)
        {
            if !bundle.ends_with('\n') {
                bundle.push('\n');
            }
            bundle.push_str(other);
        }
        bundle
    }

    /// What the Secret should hold at this time; None: what it holds.
    ///
    /// # Errors
    /// When a new authority is due and cannot be made.
    pub(crate) fn advanced(
        &self,
        now: Timestamp,
        lifetimes: &Lifetimes,
    ) -> Result<Option<Self>, Error> {
        if now >= self.current.until {
            // Nobody renewed it in time (all replicas were away): what it signed is worth nothing any more.
            return match &self.next {
                Some(next) if now < next.until => Ok(Some(self.promoted(next.clone()))),
                _ => Self::create(now, lifetimes).map(Some),
            };
        }
        if let Some(next) = &self.next {
            let published = next.from + BACKDATE;
            return Ok((now >= published + lifetimes.overlap).then(|| self.promoted(next.clone())));
        }
        if now >= self.current.until - lifetimes.renew_before {
            let next = Some(Authority::create(now, lifetimes)?);
            return Ok(Some(Self {
                next,
                ..self.clone()
            }));
        }
        if self
            .previous
            .as_deref()
            .and_then(validity)
            .is_some_and(|(_, until)| now >= until)
        {
            return Ok(Some(Self {
                previous: None,
                ..self.clone()
            }));
        }
        Ok(None)
    }

    fn promoted(&self, next: Authority) -> Self {
        Self {
            current: next,
            next: None,
            previous: Some(self.current.certificate.clone()),
        }
    }

    /// Names the authority that signs.
    #[must_use]
    pub(crate) fn signer(&self) -> &str {
        &self.current.certificate
    }

    /// Makes a server's certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// A name is not one.
    pub(crate) fn issue(
        &self,
        names: &[String],
        now: Timestamp,
        lifetimes: &Lifetimes,
    ) -> Result<Serving, Error> {
        let until = self.current.until.min(now + lifetimes.serving);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("postern-controller");
        (params.not_before, params.not_after) = (date(now - BACKDATE)?, date(until)?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(
            &self.current.certificate,
            KeyPair::from_pem(&self.current.key)?,
        )?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let certified = rustls::sign::CertifiedKey::from_der(
            chain,
            key,
            &rustls::crypto::aws_lc_rs::default_provider(),
        )?;
        let life = until.duration_since(now);
        Ok(Serving {
            certified: Arc::new(certified),
            renew_at: now + life * 2 / 3,
        })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn date(at: Timestamp) -> Result<time::OffsetDateTime, Error> {
    time::OffsetDateTime::from_unix_timestamp(at.as_second())
        .map_err(|_| Error::Make(rcgen::Error::Time))
}

/// From when until when a certificate is valid.
fn validity(pem: &str) -> Option<(Timestamp, Timestamp)> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let validity = certificate.validity();
    let from = Timestamp::from_second(validity.not_before.timestamp()).ok()?;
    let until = Timestamp::from_second(validity.not_after.timestamp()).ok()?;
    Some((from, until))
}

#[cfg(test)]
mod tests;
