//! Consumers by key.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

use super::keys::CredentialId;
use super::names::{KeyId, rank_of};
use super::window;

/// Length of a UUID in text.
const UUID_TEXT: usize = uuid::fmt::Hyphenated::LENGTH;

/// Between groups, in the header and in memory.
const GROUP_SEPARATOR: &str = ", ";

/// A Consumer to be put into the directory, packed: flags, then the parts that they name. An id that is a UUID takes its
/// 16 bytes, every other part its length and its text.
pub struct NewConsumer(Vec<u8>);

const UUID_ID: u8 = 1;
const CUSTOM_ID: u8 = 2;
const GROUPS: u8 = 4;
const PLUGINS: u8 = 8;

impl fmt::Debug for NewConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewConsumer")
    }
}

impl NewConsumer {
    /// Packs a Consumer. `plugins` are the keys of the plugins attached to it; an empty `custom_id` is none.
    ///
    /// # Errors
    /// A part is too long or cannot stand in a header.
    pub fn new(
        id: &str,
        username: &str,
        custom_id: &str,
        groups: &[String],
        plugins: &[String],
    ) -> Result<Self, String> {
        if id.is_empty() {
            return Err("id: must not be empty".to_owned());
        }
        for (name, text) in [("id", id), ("username", username), ("customId", custom_id)] {
            in_header(name, text)?;
        }
        for group in groups {
            in_header("groups", group)?;
            if group.is_empty() || group.contains(',') {
                return Err(format!(
                    "groups: {group:?} must not be empty nor hold a comma"
                ));
            }
        }
        let uuid = uuid::Uuid::try_parse(id)
            .ok()
            .filter(|uuid| uuid.hyphenated().to_string() == id);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut packed = vec![
            flag(uuid.is_some(), UUID_ID)
                | flag(!custom_id.is_empty(), CUSTOM_ID)
                | flag(!groups.is_empty(), GROUPS)
                | flag(!plugins.is_empty(), PLUGINS),
        ];
        match uuid {
            Some(uuid) => packed.extend_from_slice(uuid.as_bytes()),
            None => push(&mut packed, "id", id)?,
        }
        push(&mut packed, "username", username)?;
        if !custom_id.is_empty() {
            push(&mut packed, "customId", custom_id)?;
        }
        if !groups.is_empty() {
            push(&mut packed, "groups", &groups.join(GROUP_SEPARATOR))?;
        }
        if !plugins.is_empty() {
            push(&mut packed, "plugins", &plugins.join("\n"))?;
        }
        Ok(Self(packed))
    }
}

/// Says that a length follows in two bytes.
const LONG: u8 = u8::MAX;

fn in_header(name: &str, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!(
            "{name}: must not hold control characters, because it is sent in a header"
        ));
    }
    Ok(())
}

fn push(packed: &mut Vec<u8>, name: &str, text: &str) -> Result<(), String> {
    let length = u16::try_from(text.len())
        .map_err(|_| format!("{name}: must not be longer than 65535 bytes"))?;
    // One byte says most lengths.
    match u8::try_from(length) {
        Ok(short) if short < LONG => packed.push(short),
        _ => {
            packed.push(LONG);
            packed.extend_from_slice(&length.to_be_bytes());
        }
    }
    packed.extend_from_slice(text.as_bytes());
    Ok(())
}

/// A Consumer, as it was when it was looked up. A clone copies nothing.
#[derive(Clone)]
pub struct ConsumerRef {
    /// The parts, one after the other: credential, id, username, custom id, groups, plugins.
    text: Bytes,
    /// Where they end.
    ends: [u32; 6],
}

impl fmt::Debug for ConsumerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsumerRef({})", self.id())
    }
}

/// Places in [`ConsumerRef::ends`].
#[derive(Clone, Copy)]
enum Part {
    Credential,
    Id,
    Username,
    CustomId,
    Groups,
    Plugins,
}

impl ConsumerRef {
    /// Whether it is the same Consumer; another version of it counts, too.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id() == other.id() && self.username() == other.username()
    }

    /// Its id (`X-Consumer-ID`).
    #[must_use]
    pub fn id(&self) -> &str {
        self.part(Part::Id)
    }

    /// Its user name (`X-Consumer-Username`).
    #[must_use]
    pub fn username(&self) -> &str {
        self.part(Part::Username)
    }

    /// Its custom id (`X-Consumer-Custom-ID`).
    #[must_use]
    pub fn custom_id(&self) -> Option<&str> {
        Some(self.part(Part::CustomId)).filter(|id| !id.is_empty())
    }

    /// The groups that it is in.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.part(Part::Groups)
            .split(GROUP_SEPARATOR)
            .filter(|group| !group.is_empty())
    }

    /// Keys of the plugins that are attached to it: in place of those of the same type on its way, beside the others.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.part(Part::Plugins)
            .split('\n')
            .filter(|key| !key.is_empty())
    }

    /// [`ConsumerRef::id`] as the value of a header; copies nothing, like the others here.
    #[must_use]
    pub fn id_header(&self) -> Option<HeaderValue> {
        self.header(Part::Id)
    }

    /// [`ConsumerRef::username`] as the value of a header.
    #[must_use]
    pub fn username_header(&self) -> Option<HeaderValue> {
        self.header(Part::Username)
    }

    /// [`ConsumerRef::custom_id`] as the value of a header.
    #[must_use]
    pub fn custom_id_header(&self) -> Option<HeaderValue> {
        self.header(Part::CustomId)
    }

    /// [`ConsumerRef::groups`] as the value of a header: "gold, silver" (`X-Consumer-Groups`). None: it is in no group.
    #[must_use]
    pub fn groups_header(&self) -> Option<HeaderValue> {
        self.header(Part::Groups)
    }

    pub(super) fn credential(&self) -> CredentialId {
        CredentialId(self.text.slice(self.range(Part::Credential)))
    }

    fn range(&self, part: Part) -> std::ops::Range<usize> {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let at = part as usize;
        at.checked_sub(1).map_or(0, end)..end(at)
    }

    fn part(&self, part: Part) -> &str {
        let bytes = self.text.get(self.range(part)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn header(&self, part: Part) -> Option<HeaderValue> {
        let range = self.range(part);
        if range.is_empty() {
            return None;
        }
        HeaderValue::from_maybe_shared(self.text.slice(range)).ok()
    }
}

/// The public identifier of the credential that led to a Consumer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identifier<'a> {
    None,
    Uuid(&'a [u8; 16]),
    Text(&'a str),
}

#[derive(Debug)]
pub(super) enum ConsumerChange {
    Put(NewConsumer),
    Remove,
}

/// What tells the keys of a shard apart.
type Rest = [u8; 10];

/// Sorted by key.
#[derive(Debug, Default)]
pub(super) struct ConsumerShard {
    keys: Box<[Rest]>,
    /// Where each one's packed bytes end.
    ends: Box<[u32]>,
    packed: Box<[u8]>,
}

impl ConsumerShard {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The Consumer under a key, with the identifier of the credential that led to it.
    pub(super) fn find(&self, key: &KeyId, credential: Identifier<'_>) -> Option<ConsumerRef> {
        let range = window(self.keys.len(), key.rank(), |at| {
            self.keys.get(at).map(rank_of)
        });
        let start = range.start;
        let at = start + self.keys.get(range)?.binary_search(key.rest()).ok()?;
        unpack(self.packed_at(at)?, credential)
    }

    fn packed_at(&self, at: usize) -> Option<&[u8]> {
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.packed.get(start..*self.ends.get(at)? as usize)
    }

    /// A copy with changes made, all of which belong to this shard.
    pub(super) fn changed<'a>(
        &self,
        changes: impl DoubleEndedIterator<Item = &'a (KeyId, ConsumerChange)>,
    ) -> Self {
        // Of the changes of one Consumer the last counts.
        let mut last: Vec<(&Rest, Option<&[u8]>)> = changes
            .rev()
            .map(|(id, change)| match change {
                ConsumerChange::Put(NewConsumer(packed)) => (id.rest(), Some(packed.as_slice())),
                ConsumerChange::Remove => (id.rest(), None),
            })
            .collect();
        last.sort_by_key(|(id, _)| **id);
        last.dedup_by_key(|(id, _)| **id);

        let mut merged: Vec<(&Rest, &[u8])> = Vec::with_capacity(self.keys.len() + last.len());
        let mut new = last.iter().peekable();
        for (at, key) in self.keys.iter().enumerate() {
            let mut replaced = false;
            while let Some((id, packed)) = new.next_if(|(id, _)| *id <= key) {
                replaced |= *id == key;
                merged.extend(packed.map(|packed| (*id, packed)));
            }
            if !replaced {
                merged.extend(self.packed_at(at).map(|packed| (key, packed)));
            }
        }
        merged.extend(new.filter_map(|(id, packed)| packed.map(|packed| (*id, packed))));

        let mut packed = Vec::with_capacity(merged.iter().map(|(_, packed)| packed.len()).sum());
        let mut ends = Vec::with_capacity(merged.len());
        let mut keys = Vec::with_capacity(merged.len());
        for (key, one) in merged {
            packed.extend_from_slice(one);
            let Ok(end) = u32::try_from(packed.len()) else {
                break;
            };
            ends.push(end);
            keys.push(*key);
        }
        Self {
            keys: keys.into(),
            ends: ends.into(),
            packed: packed.into(),
        }
    }
}

/// Writes the packed parts out as text.
fn unpack(packed: &[u8], credential: Identifier<'_>) -> Option<ConsumerRef> {
    let (flags, mut rest) = packed.split_first()?;
    let mut text = Vec::with_capacity(packed.len() + 2 * UUID_TEXT);
    let mut ends = [0; 6];
    let uuid = |text: &mut Vec<u8>, bytes: &[u8; 16]| {
        let mut buffer = [0; UUID_TEXT];
        text.extend_from_slice(
            uuid::Uuid::from_bytes_ref(bytes)
                .hyphenated()
                .encode_lower(&mut buffer)
                .as_bytes(),
        );
    };
    let mut end = |part: Part, text: &Vec<u8>| {
        if let (Some(end), Ok(length)) = (ends.get_mut(part as usize), u32::try_from(text.len())) {
            *end = length;
        }
    };
    match credential {
        Identifier::None => {}
        Identifier::Uuid(id) => uuid(&mut text, id),
        Identifier::Text(id) => text.extend_from_slice(id.as_bytes()),
    }
    end(Part::Credential, &text);
    if flags & UUID_ID == 0 {
        text.extend_from_slice(take(&mut rest)?);
    } else {
        let (id, after) = rest.split_first_chunk::<16>()?;
        uuid(&mut text, id);
        rest = after;
    }
    end(Part::Id, &text);
    text.extend_from_slice(take(&mut rest)?);
    end(Part::Username, &text);
    for (flag, part) in [
        (CUSTOM_ID, Part::CustomId),
        (GROUPS, Part::Groups),
        (PLUGINS, Part::Plugins),
    ] {
        if flags & flag != 0 {
            text.extend_from_slice(take(&mut rest)?);
        }
        end(part, &text);
    }
    Some(ConsumerRef {
        text: Bytes::from(text),
        ends,
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = match rest.split_first()? {
        (&LONG, after) => {
            let (length, after) = after.split_first_chunk::<2>()?;
            (u16::from_be_bytes(*length), after)
        }
        (short, after) => (u16::from(*short), after),
    };
    let (part, after) = after.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(part)
}
