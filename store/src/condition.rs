//! What a write wants to find, the same for all backends.

use crate::Version;

/// When a write is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Whatever is there.
    Any,
    /// Where nothing is.
    Absent,
    /// Where the last write is this one.
    Version(Version),
    /// Where nothing is, or the same bytes are.
    Same,
}
