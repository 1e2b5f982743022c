//! Credentials that are looked up by a name: JWT credentials by what a claim says, applications by their client id.

use std::fmt;
use std::sync::Arc;

use super::keys::Position;
use super::names::{KeyId, Namespaces};

/// What became of the look-up of a name.
#[derive(Debug)]
pub enum Lookup<'a, T> {
    /// One credential in force.
    Found(&'a T),
    /// Nobody has it.
    Unknown,
    /// It is there, but no longer or not yet in force.
    OutOfTime,
    /// Two credentials of these namespaces are in force for it: refused, so that no tenant can pose as another.
    Ambiguous,
}

/// A credential with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
    fn id(&self) -> KeyId;
    fn namespace(&self) -> u32;
    /// Seconds since 1970: from, 0 at once; until, excluded, 0 never.
    fn times(&self) -> (i64, i64);
}

#[derive(Debug)]
pub(super) enum Change<T> {
    /// With its rank.
    Put(u32, Arc<T>),
    Remove(KeyId),
}

/// Sorted by rank. Readers borrow from the shard; only the writer counts references.
#[derive(Debug)]
pub(super) struct Shard<T>(Box<[(u32, Arc<T>)]>);

impl<T> Default for Shard<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Named + fmt::Debug> Shard<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Looks for the one credential that has this name in any of these namespaces.
    pub(super) fn find(
        &self,
        position: Position,
        name: &str,
        namespaces: &Namespaces,
        now: i64,
    ) -> Lookup<'_, T> {
        let mut lookup = Lookup::Unknown;
        for credential in self
            .matches(position, name)
            .filter(|credential| namespaces.contains(credential.namespace()))
        {
            let (from, until) = credential.times();
            let in_force = now >= from && (until == 0 || now < until);
            lookup = match lookup {
                _ if !in_force => match lookup {
                    Lookup::Unknown => Lookup::OutOfTime,
                    other => other,
                },
                Lookup::Unknown | Lookup::OutOfTime => Lookup::Found(credential),
                Lookup::Found(_) | Lookup::Ambiguous => Lookup::Ambiguous,
            };
        }
        lookup
    }

    fn matches(&self, position: Position, name: &str) -> impl Iterator<Item = &T> {
        let rank = position.rank();
        let start = self.0.partition_point(|(found, _)| *found < rank);
        self.0
            .iter()
            .skip(start)
            .take_while(move |(found, _)| *found == rank)
            .map(|(_, credential)| &**credential)
            .filter(move |credential| credential.name() == name)
    }

    /// A copy with changes made, all of which belong to this shard. Of the changes of one thing the last counts.
    pub(super) fn changed<'a>(&self, changes: impl Iterator<Item = &'a Change<T>>) -> Self
    where
        T: 'a,
    {
        let mut entries = self.0.to_vec();
        for change in changes {
            let id = match change {
                Change::Put(_, credential) => credential.id(),
                Change::Remove(id) => *id,
            };
            entries.retain(|(_, old)| old.id() != id);
            if let Change::Put(rank, credential) = change {
                let at = entries.partition_point(|(before, _)| before <= rank);
                entries.insert(at, (*rank, Arc::clone(credential)));
            }
        }
        Self(entries.into())
    }
}
