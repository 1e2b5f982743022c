//! What it does to a request.

use super::Config;
use crate::handler::{BuildContext, Exchange, RequestBody, Verdict};

/// Ready to run.
#[derive(Debug)]
pub struct Handler {}

impl Handler {
    pub(crate) fn build(_config: Config, _context: BuildContext<'_>) -> Result<Self, String> {
        Ok(Self {})
    }

    pub(crate) async fn request<B: RequestBody>(&self, _exchange: &mut Exchange<'_, B>) -> Verdict {
        Verdict::Continue("ok")
    }
}
