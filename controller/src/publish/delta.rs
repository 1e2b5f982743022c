//! Cuts what a proxy is to be told into messages that gRPC carries well.

use bytes::Bytes;
use snapshot::proto::Delta;

/// How many bytes of resources one message holds, unless a single one is larger: well below gRPC's usual 4 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

/// What a delta says, before it is cut into messages.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) reset_buckets: Vec<u32>,
    pub(super) upserts: Vec<Bytes>,
    pub(super) removals: Vec<String>,
}

impl Parts {
    /// Whether there is nothing to say.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.reset_buckets.is_empty() && self.upserts.is_empty() && self.removals.is_empty()
    }

    /// The messages; at least one, and all but the last have `more`.
    pub(super) fn messages(self, version: &str) -> impl Iterator<Item = Delta> + Send + use<> {
        Messages {
            version: version.into(),
            parts: self,
            limit: MESSAGE_BYTES,
            upserts: 0,
            removals: 0,
            done: false,
        }
    }
}

struct Messages {
    version: String,
    parts: Parts,
    limit: usize,
    /// How many of each were sent.
    upserts: usize,
    removals: usize,
    done: bool,
}

impl Iterator for Messages {
    type Item = Delta;

    fn next(&mut self) -> Option<Delta> {
        if self.done {
            return None;
        }
        let mut delta = Delta {
            version: self.version.clone(),
            reset_buckets: std::mem::take(&mut self.parts.reset_buckets),
            ..Delta::default()
        };
        let mut size = delta.reset_buckets.len() * 2;
        while let Some(next) = self.parts.removals.get_mut(self.removals) {
            if size > 0 && size + next.len() > self.limit {
                delta.more = true;
                return Some(delta);
            }
            size += next.len();
            delta.removals.push(std::mem::take(next));
            self.removals += 1;
        }
        while let Some(next) = self.parts.upserts.get_mut(self.upserts) {
            if size > 0 && size + next.len() > self.limit {
                delta.more = true;
                return Some(delta);
            }
            size += next.len();
            delta.upserts.push(std::mem::take(next));
            self.upserts += 1;
        }
        self.done = true;
        Some(delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(parts: Parts, limit: usize) -> Vec<Delta> {
        Messages {
            version: "v".into(),
            parts,
            limit,
            upserts: 0,
            removals: 0,
            done: false,
        }
        .collect()
    }

    #[test]
    fn nothing_to_say_is_still_one_message() {
        let messages: Vec<Delta> = Parts::default().messages("v1").collect();
        assert_eq!(
            messages,
            [Delta {
                version: "v1".into(),
                ..Delta::default()
            }]
        );
    }

    proptest! {
        #[test]
        fn messages_hold_everything_once_and_in_order(
            sizes in proptest::collection::vec(0_usize..40, 0..40),
            removals in proptest::collection::vec("[a-z]{0,40}", 0..40),
            reset in proptest::collection::vec(0_u32..4096, 0..4),
        ) {
            let upserts: Vec<Bytes> = sizes.iter().map(|size| Bytes::from(vec![b'x'; *size])).collect();
            let parts = Parts { reset_buckets: reset.clone(), upserts: upserts.clone(), removals: removals.clone() };
            let messages = cut(parts, 50);
            let (last, others) = messages.split_last().unwrap();
            prop_assert!(!last.more && others.iter().all(|delta| delta.more));
            for delta in &messages {
                let size: usize = delta.upserts.iter().map(Bytes::len).sum::<usize>()
                    + delta.removals.iter().map(String::len).sum::<usize>();
                prop_assert!(size <= 50);
            }
            let all = |of: fn(Delta) -> Vec<Bytes>| messages.iter().cloned().flat_map(of).collect::<Vec<_>>();
            prop_assert_eq!(all(|delta| delta.upserts), upserts);
            let gone: Vec<String> = messages.iter().cloned().flat_map(|delta| delta.removals).collect();
            prop_assert_eq!(gone, removals);
            prop_assert_eq!(&messages[0].reset_buckets, &reset);
        }
    }

    #[test]
    fn a_resource_larger_than_a_message_goes_alone() {
        let upserts = vec![
            Bytes::from_static(b"a"),
            Bytes::from(vec![0; 100]),
            Bytes::from_static(b"b"),
        ];
        let messages = cut(
            Parts {
                upserts,
                ..Parts::default()
            },
            50,
        );
        let sizes: Vec<usize> = messages.iter().map(|delta| delta.upserts.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }
}
