//! What can become of a call.

/// Why there is no answer. It holds nothing of the request, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The URL is not one that may be called: not http or https, without a host, with a user, or with a number that only some
    /// would read as an address.
    #[error("not a URL that can be called")]
    Url,
    /// The address is in a denied network.
    #[error("the address is in a network that must not be called")]
    Denied,
    /// The name has no address, or nobody accepts a connection there.
    #[error("cannot be reached")]
    Unreachable,
    /// The forward proxy cannot be reached, or does not let the call through.
    #[error("the forward proxy does not let the call through")]
    Proxy,
    /// The TLS handshake failed, most often because the certificate is not trusted.
    #[error("the TLS handshake failed")]
    Tls,
    /// No whole answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The answer is longer than allowed.
    #[error("the answer is too long")]
    TooLarge,
    /// The connection broke, or the answer is not HTTP.
    #[error("the answer is not HTTP, or broke off")]
    Protocol,
    /// The data plane is being shut down.
    #[error("the data plane is being shut down")]
    Stopped,
}

impl Error {
    /// A constant for logs and metric labels.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Url => "bad_url",
            Self::Denied => "denied",
            Self::Unreachable => "unreachable",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Protocol => "protocol",
            Self::Stopped => "stopped",
        }
    }
}
