//! `postern proxy`.

use proxy::{Plane, Source};

use crate::cli::Proxy;
use crate::run::Error;
use crate::shutdown;

pub(crate) async fn run(options: Proxy) -> Result<(), Error> {
    let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
    let plane = Plane::open(options.proxy).await?;
    plane
        .run(Source::Controller(options.controller), shutdown)
        .await?;
    Ok(())
}
