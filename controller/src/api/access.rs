//! Who calls, and what they may do.
//!
//! In a cluster a caller is who the API server says that the bearer of a token is, and may do to the objects behind the
//! Admin API what they may do to them with kubectl. On loopback everybody may do everything.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use compile::{Kind, ObjectRef};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use super::refused::Refused;

/// How long a review may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Reviews at a time: whoever sends bad tokens must not keep the API server busy.
const AT_ONCE: usize = 32;

/// Decides who may do what.
pub(crate) enum Access {
    /// Whoever reaches a loopback address.
    Loopback,
    /// The API server decides.
    Cluster {
        client: kube::Client,
        reviews: Semaphore,
    },
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Local,
    User(Box<UserInfo>),
}

impl Caller {
    /// For the log.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Local => "loopback",
            Self::User(user) => user.username.as_deref().unwrap_or_default(),
        }
    }
}

impl Access {
    pub(crate) fn cluster(client: kube::Client) -> Self {
        Self::Cluster {
            client,
            reviews: Semaphore::new(AT_ONCE),
        }
    }

    /// Who sends these headers.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        let Self::Cluster { client, reviews } = self else {
            return Ok(Caller::Local);
        };
        let token = bearer(headers).ok_or_else(|| {
            Refused::Unauthenticated("a Kubernetes bearer token is needed".to_owned())
        })?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let _turn = reviews.acquire().await.map_err(|_| Refused::Unexpected)?;
        let api: Api<TokenReview> = Api::all(client.clone());
        let answer = asked(api.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        match status.user {
            Some(user) if status.authenticated == Some(true) => Ok(Caller::User(Box::new(user))),
            _ => Err(Refused::Unauthenticated(
                "the bearer token is not valid".to_owned(),
            )),
        }
    }

    /// Whether the caller may do this to objects of a kind: one by name, all of a namespace, or all there are.
    pub(crate) async fn may(
        &self,
        caller: &Caller,
        verb: &str,
        kind: Kind,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, Refused> {
        let (client, reviews, user) = match (self, caller) {
            (Self::Loopback, Caller::Local) => return Ok(true),
            (Self::Cluster { client, reviews }, Caller::User(user)) => (client, reviews, user),
            _ => return Ok(false),
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                groups: user.groups.clone(),
                uid: user.uid.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(kind.group().to_owned()),
                    version: Some(kind.version().to_owned()),
                    resource: Some(kind.plural().to_owned()),
                    namespace: namespace.map(str::to_owned),
                    name: name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let _turn = reviews.acquire().await.map_err(|_| Refused::Unexpected)?;
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        let answer = asked(api.create(&PostParams::default(), &review)).await?;
        Ok(answer
            .status
            .is_some_and(|status| status.allowed && status.denied != Some(true)))
    }

    /// Refuses who may not.
    pub(crate) async fn need(
        &self,
        caller: &Caller,
        verb: &str,
        kind: Kind,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), Refused> {
        if self.may(caller, verb, kind, namespace, name).await? {
            return Ok(());
        }
        let what = kind.plural();
        let place = match (namespace, name) {
            (Some(namespace), Some(name)) => format!("{what} {namespace}/{name}"),
            (Some(namespace), None) => format!("{what} in namespace {namespace}"),
            _ => format!("{what} in all namespaces (?namespace= chooses one)"),
        };
        Err(Refused::Forbidden(format!(
            "{} may not {verb} {place}",
            caller.name()
        )))
    }

    /// Refuses who may not do this to an object.
    pub(crate) async fn need_for(
        &self,
        caller: &Caller,
        verb: &str,
        object: &ObjectRef,
    ) -> Result<(), Refused> {
        let namespace = Some(&*object.namespace).filter(|namespace| !namespace.is_empty());
        self.need(caller, verb, object.kind, namespace, Some(&object.name))
            .await
    }
}

async fn asked<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Refused> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, "the API server cannot review a call of the Admin API");
            Err(Refused::Unavailable(
                "the API server could not review the call".to_owned(),
            ))
        }
        Err(_) => Err(Refused::Unavailable(format!(
            "the API server gave no review within {} s",
            TIMEOUT.as_secs()
        ))),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_needed() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]), Some("abc".to_owned()));
        assert_eq!(of(&["bearer  abc"]), Some("abc".to_owned()));
        for none in [
            &[][..],
            &["Basic abc"],
            &["Bearer "],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn a_caller_of_one_world_is_nobody_in_the_other() {
        let user = Caller::User(Box::default());
        let may = |caller| async move {
            Access::Loopback
                .may(&caller, "get", Kind::Consumer, None, None)
                .await
        };
        assert_eq!(may(user).await, Ok(false));
        assert_eq!(may(Caller::Local).await, Ok(true));
    }
}
