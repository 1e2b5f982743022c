//! Sets that are fetched.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::Guard;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, Request, StatusCode, Uri};
use outbound::{Client, Fresh, Profile, ProfileError, ProfileOptions, Refreshed, Schedule};
use parking_lot::Mutex;

use super::KeySet;

/// Sets of Credentials, each fetched once however many Credentials name it, and as long as one does.
pub struct KeySets {
    client: Client,
    profile: Profile,
    schedule: Schedule,
    sets: Mutex<HashMap<Box<str>, Weak<RemoteKeys>>>,
}

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySets")
    }
}

impl KeySets {
    /// Fetches with this client, at most a megabyte each in ten seconds.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(client: Client) -> Result<Self, ProfileError> {
        Ok(Self {
            profile: client.profile(&ProfileOptions::default())?,
            client,
            schedule: Schedule::default(),
            sets: Mutex::default(),
        })
    }

    /// The set at a URL, which is being fetched from now on.
    ///
    /// # Errors
    /// That is no URL.
    pub fn of(&self, url: &str) -> Result<Arc<RemoteKeys>, String> {
        let mut sets = self.sets.lock();
        if let Some(known) = sets.get(url).and_then(Weak::upgrade) {
            return Ok(known);
        }
        sets.retain(|_, set| set.strong_count() > 0);
        let made = RemoteKeys::fetched(&self.client, &self.profile, self.schedule, url)?;
        let made = Arc::new(made);
        sets.insert(url.into(), Arc::downgrade(&made));
        Ok(made)
    }
}

/// A set that is fetched in the background for as long as this is held.
pub struct RemoteKeys(Refreshed<KeySet>);

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteKeys")
    }
}

impl RemoteKeys {
    /// Fetches the set at a URL with a profile of its own.
    ///
    /// # Errors
    /// That is no URL.
    pub fn fetched(
        client: &Client,
        profile: &Profile,
        schedule: Schedule,
        url: &str,
    ) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|_| "the URL of the key set cannot be read".to_owned())?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("the URL of the key set must be http:// or https://".to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("the URL of the key set must not hold a user".to_owned());
        }
        // A query may hold something that is not for the log.
        let scheme = uri.scheme_str().unwrap_or_default();
        let what = format!("key set {scheme}://{authority}{}", uri.path());
        let (client, profile) = (client.clone(), profile.clone());
        let fetcher = client.clone();
        let fetch = move |previous: Option<Arc<KeySet>>| {
            let (client, profile, uri) = (fetcher.clone(), profile.clone(), uri.clone());
            async move { fetch(&client, &profile, uri, previous).await }
        };
        Ok(Self(client.refreshed(what, schedule, fetch)))
    }

    /// The set, as it was fetched last; None: never yet.
    #[must_use]
    pub fn current(&self) -> Guard<Option<Arc<KeySet>>> {
        self.0.current()
    }

    /// Another set than the one `seen`, which does not hold the key that a token names or is signed with. It is fetched for
    /// that if the last such fetch is some time ago and did not miss the same key.
    pub async fn newer(
        &self,
        seen: Option<&Arc<KeySet>>,
        kid: Option<&str>,
    ) -> Option<Arc<KeySet>> {
        match kid {
            Some(kid) => self.0.newer_for(seen, kid).await,
            None => self.0.newer(seen).await,
        }
    }
}

async fn fetch(
    client: &Client,
    profile: &Profile,
    uri: Uri,
    previous: Option<Arc<KeySet>>,
) -> Result<Fresh<KeySet>, &'static str> {
    let request = Request::get(uri)
        .header(ACCEPT, "application/jwk-set+json, application/json;q=0.9")
        .body(Bytes::new())
        .map_err(|_| "bad_url")?;
    let response = client
        .send(profile, request)
        .await
        .map_err(outbound::Error::reason)?;
    if response.status() != StatusCode::OK {
        return Err("bad_status");
    }
    let lifetime = max_age(response.headers());
    let text = response.body();
    if previous.as_ref().is_some_and(|set| set.is(text)) {
        return Ok(Fresh::Same(lifetime));
    }
    let set = KeySet::parse(text, previous.as_deref()).map_err(super::Unusable::reason)?;
    if set.exposes_private_keys() {
        tracing::warn!(
            "a key set holds private keys, which anybody may sign with; they are left out"
        );
    }
    Ok(Fresh::Value(set, lifetime))
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    directives.find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
}
