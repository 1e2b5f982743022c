//! Who may open a stream: bearers of a token that the cluster vouches for.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};

/// Says who bears a token.
pub trait Authenticate: Send + Sync + 'static {
    /// Reviews a token.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Denied>>;
}

/// Who bears a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// "system:serviceaccount:postern:postern-proxy"
    pub user: String,
    /// The pod that the token was made for, where it says so.
    pub pod: Option<String>,
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token is no good.
    #[error("{0}")]
    Refused(String),
    /// Nobody could be asked; whoever is in stays in.
    #[error("the API server could not review the token: {0}")]
    Unavailable(String),
}

/// Lets the API server review tokens.
pub struct TokenReviews {
    api: Api<TokenReview>,
    audience: String,
    namespace: String,
    accounts: Vec<String>,
}

impl TokenReviews {
    /// Lets in the named ServiceAccounts of one namespace, with tokens for `audience`.
    #[must_use]
    pub fn new(
        client: kube::Client,
        audience: String,
        namespace: String,
        accounts: Vec<String>,
    ) -> Self {
        Self {
            api: Api::all(client),
            audience,
            namespace,
            accounts,
        }
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<Identity, Denied> {
        let refused = |why: String| Err(Denied::Refused(why));
        if status.authenticated != Some(true) {
            // The API server's own words; they never repeat the token.
            return refused(format!(
                "the token is not valid: {}",
                status.error.as_deref().unwrap_or("no reason given")
            ));
        }
        if !status
            .audiences
            .as_ref()
            .is_some_and(|audiences| audiences.contains(&self.audience))
        {
            return refused(format!(
                "the token is not for audience {:?}; mount a projected token for it",
                self.audience
            ));
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.unwrap_or_default();
        let allowed = self
            .accounts
            .iter()
            .any(|account| name == format!("system:serviceaccount:{}:{account}", self.namespace));
        if !allowed {
            return refused(format!(
                "{name} is not a proxy of this controller: allowed are the ServiceAccounts {} of namespace {} \
                 (--proxy-service-accounts)",
                self.accounts.join(", "),
                self.namespace
            ));
        }
        let pod = user.extra.and_then(|extra| {
            extra
                .get("authentication.kubernetes.io/pod-name")?
                .first()
                .cloned()
        });
        Ok(Identity { user: name, pod })
    }
}

impl Authenticate for TokenReviews {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    token: Some(token.to_owned()),
                    audiences: Some(vec![self.audience.clone()]),
                },
                ..TokenReview::default()
            };
            let answer = tokio::time::timeout(
                REVIEW_TIMEOUT,
                self.api.create(&PostParams::default(), &review),
            )
            .await;
            match answer {
                Ok(Ok(review)) => self.judge(review.status.unwrap_or_default()),
                Ok(Err(error)) => Err(Denied::Unavailable(error.to_string())),
                Err(_) => Err(Denied::Unavailable(format!(
                    "no answer within {} s",
                    REVIEW_TIMEOUT.as_secs()
                ))),
            }
        })
    }
}

const REVIEW_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Knows its tokens itself: for control planes outside a cluster, and for tests.
#[derive(Default)]
pub struct FixedTokens(parking_lot::RwLock<BTreeMap<String, Identity>>);

impl FixedTokens {
    /// Lets the bearer of a token in as `user`.
    pub fn allow(&self, token: impl Into<String>, user: impl Into<String>) {
        self.0.write().insert(
            token.into(),
            Identity {
                user: user.into(),
                pod: None,
            },
        );
    }

    /// No longer lets the bearer of a token in.
    pub fn revoke(&self, token: &str) {
        self.0.write().remove(token);
    }
}

impl Authenticate for FixedTokens {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Identity, Denied>> {
        let known = self.0.read().get(token).cloned();
        Box::pin(
            async move { known.ok_or_else(|| Denied::Refused("the token is not known".into())) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;

    fn status(user: &str, audience: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![audience.into()]),
            user: Some(UserInfo {
                username: Some(user.into()),
                extra: Some(BTreeMap::from([(
                    "authentication.kubernetes.io/pod-name".into(),
                    vec!["proxy-0".into()],
                )])),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    fn reviews() -> TokenReviews {
        struct Nowhere;
        impl tower::Service<http::Request<kube::client::Body>> for Nowhere {
            type Response = http::Response<kube::client::Body>;
            type Error = std::convert::Infallible;
            type Future = std::future::Pending<Result<Self::Response, Self::Error>>;
            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Pending
            }
            fn call(&mut self, _: http::Request<kube::client::Body>) -> Self::Future {
                std::future::pending()
            }
        }
        let client = kube::Client::new(Nowhere, "default");
        TokenReviews::new(
            client,
            "postern-controller".into(),
            "postern".into(),
            vec!["postern-proxy".into()],
        )
    }

    #[tokio::test]
    async fn only_the_proxies_account_with_the_right_audience_comes_in() {
        let reviews = reviews();
        let good = "system:serviceaccount:postern:postern-proxy";
        let identity = reviews.judge(status(good, "postern-controller")).unwrap();
        assert_eq!(
            identity,
            Identity {
                user: good.into(),
                pod: Some("proxy-0".into())
            }
        );

        for (user, audience, says) in [
            (good, "https://kubernetes.default.svc", "audience"),
            (
                "system:serviceaccount:other:postern-proxy",
                "postern-controller",
                "not a proxy of this controller",
            ),
            (
                "system:serviceaccount:postern:postern-proxy2",
                "postern-controller",
                "not a proxy of this controller",
            ),
            (
                "admin",
                "postern-controller",
                "not a proxy of this controller",
            ),
        ] {
            let denied = reviews.judge(status(user, audience)).unwrap_err();
            assert!(denied.to_string().contains(says), "{user}: {denied}");
        }
        let mut unauthenticated = status(good, "postern-controller");
        unauthenticated.authenticated = None;
        assert!(
            reviews
                .judge(unauthenticated)
                .unwrap_err()
                .to_string()
                .contains("not valid")
        );
    }
}
