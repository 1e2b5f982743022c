//! The authority's life, on a clock of the test's.

use super::*;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// Whether a client that trusts `bundle` takes `serving` for `name` at that time.
fn trusted(bundle: &str, serving: &Serving, name: &str, at: Timestamp) -> Result<(), String> {
    use rustls::client::danger::ServerCertVerifier as _;
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
    let (leaf, rest) = serving.certified.cert.split_first().unwrap();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let since = std::time::Duration::from_secs(at.as_second().unsigned_abs());
    let at = rustls::pki_types::UnixTime::since_unix_epoch(since);
    verifier
        .verify_server_cert(leaf, rest, &name, &[], at)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn names() -> Vec<String> {
    vec!["postern-controller.postern.svc".into(), "127.0.0.1".into()]
}

#[test]
fn what_it_issues_is_trusted_for_its_names_and_its_time_only() {
    let lifetimes = Lifetimes::default();
    let state = State::create(start(), &lifetimes).unwrap();
    let serving = state.issue(&names(), start(), &lifetimes).unwrap();
    let bundle = state.bundle();
    assert_eq!(
        trusted(&bundle, &serving, "postern-controller.postern.svc", start()),
        Ok(())
    );
    assert_eq!(trusted(&bundle, &serving, "127.0.0.1", start()), Ok(()));
    assert!(trusted(&bundle, &serving, "other.postern.svc", start()).is_err());
    assert!(trusted(&bundle, &serving, "127.0.0.1", start() + days(31)).is_err());
    assert_eq!(serving.renew_at, start() + days(20));

    let other = State::create(start(), &lifetimes).unwrap();
    assert!(trusted(&other.bundle(), &serving, "127.0.0.1", start()).is_err());
}

#[test]
fn replicas_read_what_one_of_them_wrote() {
    let lifetimes = Lifetimes::default();
    let state = State::create(start(), &lifetimes).unwrap();
    let read = State::read(&state.entries()).unwrap();
    assert_eq!(read.entries(), state.entries());
    assert_eq!(read.current.until, start() + lifetimes.authority);

    let mut broken = state.entries();
    broken.remove("tls.key");
    assert_eq!(
        State::read(&broken).unwrap_err().to_string(),
        "entry tls.key is missing"
    );
    let other = State::create(start(), &lifetimes).unwrap();
    broken.insert("tls.key".into(), other.entries()["tls.key"].clone());
    assert_eq!(
        State::read(&broken).unwrap_err().to_string(),
        "entry tls.key is not the key of the certificate"
    );
    broken.insert("tls.crt".into(), b"hello".to_vec());
    assert_eq!(
        State::read(&broken).unwrap_err().to_string(),
        "entry tls.crt is not a certificate in PEM"
    );
    assert!(!format!("{state:?}").contains("BEGIN"));
}

#[test]
fn a_new_authority_signs_only_after_everybody_could_read_it() {
    let lifetimes = Lifetimes::default();
    let old = State::create(start(), &lifetimes).unwrap();
    let due = start() + lifetimes.authority - lifetimes.renew_before;
    assert!(old.advanced(due - days(1), &lifetimes).unwrap().is_none());

    let published = old.advanced(due, &lifetimes).unwrap().unwrap();
    assert_eq!(published.signer(), old.signer());
    assert!(published.bundle().contains(old.signer()));
    assert!(
        published
            .advanced(due + days(6), &lifetimes)
            .unwrap()
            .is_none()
    );

    let at = due + lifetimes.overlap;
    let promoted = State::read(&published.entries())
        .unwrap()
        .advanced(at, &lifetimes)
        .unwrap()
        .unwrap();
    assert_ne!(promoted.signer(), old.signer());
    let (before, after) = (
        old.issue(&names(), at, &lifetimes).unwrap(),
        promoted.issue(&names(), at, &lifetimes).unwrap(),
    );
    // Proxies that read the bundle any time in the overlap trust old and new; so do those that read it now.
    for bundle in [published.bundle(), promoted.bundle()] {
        assert_eq!(trusted(&bundle, &before, "127.0.0.1", at), Ok(()));
        assert_eq!(trusted(&bundle, &after, "127.0.0.1", at), Ok(()));
    }
    assert!(promoted.advanced(at, &lifetimes).unwrap().is_none());

    // The one before goes when it expires.
    let end = start() + lifetimes.authority;
    let alone = promoted.advanced(end, &lifetimes).unwrap().unwrap();
    assert!(!alone.bundle().contains(old.signer()));
    assert!(alone.advanced(end, &lifetimes).unwrap().is_none());
}

#[test]
fn an_authority_that_expired_unattended_is_replaced_at_once() {
    let lifetimes = Lifetimes::default();
    let state = State::create(start(), &lifetimes).unwrap();
    let late = start() + lifetimes.authority + days(1);
    let fresh = state.advanced(late, &lifetimes).unwrap().unwrap();
    let serving = fresh.issue(&names(), late, &lifetimes).unwrap();
    assert_eq!(
        trusted(&fresh.bundle(), &serving, "127.0.0.1", late),
        Ok(())
    );
}

#[test]
fn a_servers_certificate_never_outlives_its_authority() {
    let lifetimes = Lifetimes::default();
    let state = State::create(start(), &lifetimes).unwrap();
    let late = start() + lifetimes.authority - days(1);
    let serving = state.issue(&names(), late, &lifetimes).unwrap();
    assert!(serving.renew_at < start() + lifetimes.authority);
    assert!(
        trusted(
            &state.bundle(),
            &serving,
            "127.0.0.1",
            start() + lifetimes.authority + days(1)
        )
        .is_err()
    );
}
