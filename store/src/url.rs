//! Which store is meant.

use std::path::PathBuf;
use std::str::FromStr;

/// A store, as a user names it: `memory:` or `file:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub(crate) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
}

/// A text that names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; a store is memory: or file:PATH")]
pub struct UrlError(String);

impl Url {
    /// The store that is gone with the process.
    #[must_use]
    pub const fn memory() -> Self {
        Self(Place::Memory)
    }

    /// The store in a file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Whether it is gone with the process.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        matches!(self.0, Place::Memory)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::memory()),
            Some(("file", path)) if !path.is_empty() => Ok(Self::file(path)),
            Some((scheme, _)) => Err(UrlError(format!(
                "there is no store of the kind {scheme:?}"
            ))),
            None => Err(UrlError("that is not a URL".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_have_names() {
        assert_eq!("memory:".parse(), Ok(Url::memory()));
        assert_eq!("file:/x".parse(), Ok(Url::file("/x")));
        for wrong in ["", "memory", "memory:x", "file:", "ftp://h"] {
            let error = wrong.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains("memory: or file:PATH"), "{error}");
        }
    }
}
