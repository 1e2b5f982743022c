//! How long a request waits for its upstream, where its rule or the upstream's policy says otherwise than the proxy.

use std::time::Duration;

use snapshot::proto;

use crate::limits::Timeouts;

/// Milliseconds; 0: not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    connect: u32,
    send: u32,
    response: u32,
}

/// What holds for one request; zero: for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Until a connection is there.
    pub(super) connect: Duration,
    /// Between two pieces of the request's body that the upstream takes.
    pub(super) send: Duration,
    /// From the end of the request to the head of the response.
    pub(super) response: Duration,
}

impl Patience {
    pub(crate) const fn read(from: &proto::Patience) -> Self {
        Self {
            connect: from.connect_ms,
            send: from.send_ms,
            response: from.response_ms,
        }
    }

    /// What this says, and for the rest the other.
    pub(super) fn or(self, other: Self) -> Self {
        let or = |own, other| if own == 0 { other } else { own };
        Self {
            connect: or(self.connect, other.connect),
            send: or(self.send, other.send),
            response: or(self.response, other.response),
        }
    }

    pub(super) fn within(self, usual: &Timeouts) -> Allowed {
        let or = |own, usual| match own {
            0 => usual,
            own => Duration::from_millis(u64::from(own)),
        };
        let response = or(self.response, usual.response_timeout);
        Allowed {
            connect: or(self.connect, usual.connect_timeout),
            send: or(self.send, response),
            response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_counts_and_the_proxy_for_the_rest() {
        let usual = Timeouts {
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(60),
            ..Timeouts::default()
        };
        let said = |connect, send, response| Patience {
            connect,
            send,
            response,
        };
        for (rule, policy, expected) in [
            (said(0, 0, 0), Patience::default(), (3_000, 60_000, 60_000)),
            (said(0, 0, 5), said(7, 0, 9), (7, 5, 5)),
            (said(1, 2, 0), said(7, 8, 9), (1, 2, 9)),
        ] {
            let allowed = rule.or(policy).within(&usual);
            let millis = [allowed.connect, allowed.send, allowed.response].map(|of| of.as_millis());
            assert_eq!((millis[0], millis[1], millis[2]), expected);
        }
    }
}
