//! What only some rules ask for. A rule that asks for none of it costs one look at an absent box.

mod cors;
mod mirror;

use std::time::Duration;

use http::{Response, StatusCode, request};

use crate::body::Body;
use crate::record::Record;
use crate::runtime::{Backend, Redirect, Rule};
pub(crate) use cors::{Cors, Shown};
pub(crate) use mirror::{Mirror, copy};

/// Of a rule.
#[derive(Debug, Default)]
pub struct Extras {
    pub(crate) cors: Option<Cors>,
    pub(crate) retry: Option<Retry>,
    pub(crate) mirrors: Vec<Mirror>,
}

/// Of a backend.
#[derive(Debug, Default)]
pub struct BackendExtras {
    pub(crate) mirrors: Vec<Mirror>,
    /// Answers instead of forwarding, after the plugins.
    pub(crate) redirect: Option<Redirect>,
}

/// When a request is sent again that an upstream could not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// After the first.
    pub(crate) attempts: u32,
    pub(crate) codes: Box<[StatusCode]>,
    pub(crate) backoff: Duration,
}

impl Extras {
    /// In a box, where there is any.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let none = self.cors.is_none() && self.retry.is_none() && self.mirrors.is_empty();
        (!none).then(|| Box::new(self))
    }

    /// Notes what pages of the request's origin may see of the answer, and answers a preflight: browsers send no credentials
    /// with it, and nothing of it goes to the upstream.
    pub(crate) fn answer(
        &self,
        head: &request::Parts,
        record: &mut Record,
    ) -> Option<Response<Body>> {
        let shown = record.shown.insert(self.cors.as_ref()?.shown(head)?);
        shown.preflight()
    }
}

impl Rule {
    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.extras.as_ref()?.retry.as_ref()
    }
}

impl Backend {
    pub(crate) fn redirect(&self) -> Option<&Redirect> {
        self.extras.as_ref()?.redirect.as_ref()
    }
}

impl BackendExtras {
    /// In a box, where there is any.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self.redirect.is_some() || !self.mirrors.is_empty()).then(|| Box::new(self))
    }
}
