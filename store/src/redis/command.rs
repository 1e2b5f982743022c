//! What is asked of Redis.

use std::time::Duration;

use redis::{Cmd, cmd};

use crate::Key;

/// Writes where the last write is the expected one. `ARGV`: the version and its place, the new value, milliseconds or 0.
const REPLACE: &str = "\
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, ARGV[2], ARGV[2] + #ARGV[1] - 1) ~= ARGV[1] then return 0 end
if ARGV[4] == '0' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1";

/// Writes where nothing is, or the same.
const LEASE: &str = "\
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1";

/// Deletes where it is this.
const RELEASE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// Longest time that Redis is told; anything longer is for ever.
const LONGEST: u64 = 1000 * 86_400 * 365 * 1000;

/// What all names of entries begin with.
const PREFIX: &str = "postern:";

/// What an entry is called in Redis.
pub(super) fn name(key: &Key) -> String {
    format!("{PREFIX}{}", key.to_hex())
}

/// Which entry is called so; none of ours where it is called otherwise.
pub(super) fn key(name: &str) -> Option<Key> {
    Key::from_hex(name.strip_prefix(PREFIX)?)
}

/// Some names of entries behind a cursor; about so many are looked at.
pub(super) fn scan(cursor: u64, most: usize) -> Cmd {
    let mut command = cmd("SCAN");
    command
        .arg(cursor)
        .arg("MATCH")
        .arg(format!("{PREFIX}*"))
        .arg("COUNT")
        .arg(most);
    command
}

/// Where a Cluster keeps it: CRC-16 (XMODEM) of the name, which has no braces.
pub(super) fn slot(name: &str) -> u16 {
    let crc = name.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    });
    crc % 16_384
}

/// How long an entry lives; 0 is for ever, and what is shorter than a millisecond lives for one.
pub(super) fn milliseconds(ttl: Option<Duration>) -> u64 {
    let Some(ttl) = ttl else { return 0 };
    match u64::try_from(ttl.as_millis()) {
        Ok(ttl) if ttl <= LONGEST => ttl.max(1),
        _ => 0,
    }
}

pub(super) fn get(name: &str) -> Cmd {
    with(cmd("GET"), name)
}

pub(super) fn take(name: &str) -> Cmd {
    with(cmd("GETDEL"), name)
}

pub(super) fn remove(name: &str) -> Cmd {
    with(cmd("DEL"), name)
}

pub(super) fn put(name: &str, blob: &[u8], ttl: u64) -> Cmd {
    let mut command = with(cmd("SET"), name);
    command.arg(blob);
    if ttl > 0 {
        command.arg("PX").arg(ttl);
    }
    command
}

pub(super) fn put_new(name: &str, blob: &[u8], ttl: u64) -> Cmd {
    let mut command = put(name, blob, ttl);
    command.arg("NX");
    command
}

pub(super) fn replace(name: &str, expected: &[u8], blob: &[u8], ttl: u64, at: usize) -> Cmd {
    let mut command = script(REPLACE, name);
    // Lua counts from one.
    command.arg(expected).arg(at + 1).arg(blob).arg(ttl);
    command
}

pub(super) fn lease(name: &str, blob: &[u8], ttl: u64) -> Cmd {
    let mut command = script(LEASE, name);
    command.arg(blob).arg(ttl);
    command
}

pub(super) fn release(name: &str, blob: &[u8]) -> Cmd {
    let mut command = script(RELEASE, name);
    command.arg(blob);
    command
}

fn script(text: &str, name: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(1).arg(name);
    command
}

fn with(mut command: Cmd, name: &str) -> Cmd {
    command.arg(name);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT says.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot(""), 0);
    }

    #[test]
    fn times_are_what_redis_takes() {
        assert_eq!(milliseconds(None), 0);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 1);
        assert_eq!(milliseconds(Some(Duration::from_secs(2))), 2000);
        assert_eq!(milliseconds(Some(Duration::MAX)), 0);
    }
}
