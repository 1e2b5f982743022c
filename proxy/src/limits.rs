//! How much a client may ask for, and how long anything may take.

use std::time::Duration;

use crate::options::duration;

/// How much a client may ask for.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Client connections per worker; more wait to be accepted
    #[arg(long, env = "POSTERN_MAX_CONNECTIONS", value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Bytes of a request's head: request line and headers (431)
    #[arg(long, env = "POSTERN_MAX_HEADER_BYTES", value_name = "SIZE", default_value = "32KiB", value_parser = size)]
    pub max_header_bytes: u32,

    /// Header lines of a request (431)
    #[arg(long, env = "POSTERN_MAX_HEADERS", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_headers: u16,

    /// Bytes of a request's target (414)
    #[arg(long, env = "POSTERN_MAX_URI_BYTES", value_name = "SIZE", default_value = "8KiB", value_parser = size)]
    pub max_uri_bytes: u32,

    /// Concurrent streams of one HTTP/2 connection
    #[arg(long, env = "POSTERN_MAX_STREAMS", value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_streams: u32,

    /// Idle connections kept per worker and endpoint
    #[arg(
        long,
        env = "POSTERN_UPSTREAM_MAX_IDLE",
        value_name = "N",
        default_value_t = 256
    )]
    pub upstream_max_idle: u32,
}

/// How long anything may take.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Timeouts")]
pub struct Timeouts {
    /// From the first byte of a request's head, or of a TLS handshake, to its last
    #[arg(long, env = "POSTERN_HEADER_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub header_timeout: Duration,

    /// Between requests on one connection
    #[arg(long, env = "POSTERN_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,

    /// Between two pieces of a request's body, and for a client to take more of a response
    #[arg(long, env = "POSTERN_BODY_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub body_timeout: Duration,

    /// To connect to an endpoint
    #[arg(long, env = "POSTERN_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub connect_timeout: Duration,

    /// For an upstream's response to begin, where the route says nothing; 0s: no limit
    #[arg(long, env = "POSTERN_RESPONSE_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub response_timeout: Duration,

    /// Idle connections to endpoints are closed after this time
    #[arg(long, env = "POSTERN_UPSTREAM_IDLE_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub upstream_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_uri_bytes: 8 << 10,
            max_streams: 128,
            upstream_max_idle: 256,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(60),
            upstream_idle_timeout: Duration::from_secs(60),
        }
    }
}

/// "4096", "32KiB", "1MiB".
fn size(text: &str) -> Result<u32, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let factor = match unit.trim() {
        "" | "B" => Some(1_u32),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        _ => None,
    };
    factor
        .and_then(|factor| number.parse::<u32>().ok()?.checked_mul(factor))
        .filter(|bytes| (1..=64 << 20).contains(bytes))
        .ok_or_else(|| {
            format!(
                "{text:?} is no size between 1 and 64MiB; write \"4096\", \"32KiB\" or \"1MiB\""
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
        #[command(flatten)]
        timeouts: Timeouts,
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_types() {
        let line = Line::parse_from(["postern"]);
        assert_eq!(
            format!("{:?}", line.limits),
            format!("{:?}", Limits::default())
        );
        assert_eq!(
            format!("{:?}", line.timeouts),
            format!("{:?}", Timeouts::default())
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for wrong in ["0", "", "KiB", "1GiB", "-1", "65MiB", "1kb"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
