//! JWT credentials, by the key that a claim of their tokens holds.

use std::fmt;
use std::sync::Arc;

use super::keys::Position;
use super::names::KeyId;
use crate::jwt::Verifier;

/// A credential of a Consumer: what verifies the signatures of tokens.
#[derive(Debug)]
pub struct NewJwt<'a> {
    /// Of the credential's own key, "Credential/<namespace>/<name>".
    pub id: KeyId,
    /// The credential's namespace.
    pub namespace: &'a str,
    /// What a token says to mean this credential; the upstream is told it too.
    pub name: &'a str,
    /// What verifies.
    pub verifier: Verifier,
    /// Of the Consumer's key, "Consumer/<namespace>/<name>"; whether or not that is there.
    pub consumer: KeyId,
    /// Seconds since 1970; 0: at once.
    pub not_before: i64,
    /// Seconds since 1970, excluded; 0: never.
    pub expires_at: i64,
}

/// What became of the look-up of a token's key.
#[derive(Debug)]
pub enum JwtLookup<'a> {
    /// One credential in force.
    Found(&'a JwtCredential),
    /// Nobody has it.
    Unknown,
    /// It is there, but no longer or not yet in force.
    OutOfTime,
    /// Two credentials of these namespaces are in force for it: refused, so that no tenant can pose as another.
    Ambiguous,
}

/// A JWT credential, as the directory holds it.
pub struct JwtCredential {
    pub(super) name: Box<str>,
    pub(super) consumer: KeyId,
    id: KeyId,
    namespace: u32,
    not_before: i64,
    expires_at: i64,
    verifier: Verifier,
}

impl fmt::Debug for JwtCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtCredential({})", self.name)
    }
}

impl JwtCredential {
    pub(super) fn new(new: NewJwt<'_>, namespace: u32) -> Self {
        Self {
            name: new.name.into(),
            consumer: new.consumer,
            id: new.id,
            namespace,
            not_before: new.not_before,
            expires_at: new.expires_at,
            verifier: new.verifier,
        }
    }

    /// What verifies.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    pub(super) const fn namespace(&self) -> u32 {
        self.namespace
    }

    pub(super) const fn in_force(&self, now: i64) -> bool {
        now >= self.not_before && (self.expires_at == 0 || now < self.expires_at)
    }
}

#[derive(Debug)]
pub(super) enum JwtChange {
    /// With its rank.
    Put(u32, Arc<JwtCredential>),
    Remove(KeyId),
}

/// Sorted by rank. Readers borrow from the shard; only the writer counts references.
#[derive(Debug, Default)]
pub(super) struct JwtShard(Box<[(u32, Arc<JwtCredential>)]>);

impl JwtShard {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All credentials that a token with this key means.
    pub(super) fn matches(
        &self,
        position: Position,
        name: &str,
    ) -> impl Iterator<Item = &JwtCredential> {
        let rank = position.rank();
        let start = self.0.partition_point(|(found, _)| *found < rank);
        self.0
            .iter()
            .skip(start)
            .take_while(move |(found, _)| *found == rank)
            .map(|(_, credential)| &**credential)
            .filter(move |credential| *credential.name == *name)
    }

    /// A copy with changes made, all of which belong to this shard. Of the changes of one thing the last counts.
    pub(super) fn changed<'a>(&self, changes: impl Iterator<Item = &'a JwtChange>) -> Self {
        let mut entries = self.0.to_vec();
        for change in changes {
            let id = match change {
                JwtChange::Put(_, credential) => credential.id,
                JwtChange::Remove(id) => *id,
            };
            entries.retain(|(_, old)| old.id != id);
            if let JwtChange::Put(rank, credential) = change {
                let at = entries.partition_point(|(before, _)| before <= rank);
                entries.insert(at, (*rank, Arc::clone(credential)));
            }
        }
        Self(entries.into())
    }
}
