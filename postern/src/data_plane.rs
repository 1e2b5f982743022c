//! `postern proxy`.

use proxy::Source;

use crate::cli::Proxy;
use crate::run::Error;
use crate::shutdown;

pub(crate) async fn run(options: Proxy) -> Result<(), Error> {
    let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
    proxy::run(
        options.proxy,
        Source::Controller(options.controller),
        shutdown,
    )
    .await?;
    Ok(())
}
