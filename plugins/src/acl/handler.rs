//! What it does to a request.

use std::borrow::Cow;

use http::StatusCode;

use super::Config;
use crate::handler::{BuildContext, Exchange, Refusal, RequestBody, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {
    rule: Rule,
    hide_groups: bool,
}

/// Sorted groups.
#[derive(Debug)]
enum Rule {
    Allow(Box<[Box<str>]>),
    Deny(Box<[Box<str>]>),
}

impl Handler {
    pub(crate) fn build(config: Config, _context: BuildContext<'_>) -> Result<Self, String> {
        if let Some(problem) = config.check().first() {
            return Err(problem.to_string());
        }
        let sorted = |mut groups: Vec<String>| {
            groups.sort_unstable();
            groups.into_iter().map(Box::from).collect()
        };
        let rule = if config.allow.is_empty() {
            Rule::Deny(sorted(config.deny))
        } else {
            Rule::Allow(sorted(config.allow))
        };
        Ok(Self {
            rule,
            hide_groups: config.hide_groups_header,
        })
    }

    pub(crate) fn request<B: RequestBody>(&self, exchange: &mut Exchange<'_, B>) -> Verdict {
        let caller = &mut *exchange.caller;
        let Some(consumer) = &caller.consumer else {
            return Verdict::Refuse(Refusal {
                status: StatusCode::UNAUTHORIZED,
                message: Cow::Borrowed("Unauthorized"),
                members: Vec::new(),
                challenges: std::mem::take(&mut caller.challenges),
                reason: "no_consumer",
            });
        };
        let is_in = |groups: &[Box<str>]| {
            consumer
                .groups()
                .any(|group| groups.binary_search_by(|own| (**own).cmp(group)).is_ok())
        };
        let (passes, reason) = match &self.rule {
            Rule::Allow(groups) => (is_in(groups), "not_allowed"),
            Rule::Deny(groups) => (!is_in(groups), "denied"),
        };
        if !passes {
            return Verdict::Refuse(Refusal {
                status: StatusCode::FORBIDDEN,
                message: Cow::Borrowed("You cannot consume this service"),
                members: Vec::new(),
                challenges: Vec::new(),
                reason,
            });
        }
        caller.hide_groups |= self.hide_groups;
        Verdict::Continue("ok")
    }
}
