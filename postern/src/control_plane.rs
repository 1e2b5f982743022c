//! `postern controller`.

use crate::cli::Controller;
use crate::run::Error;
use crate::shutdown;

pub(crate) async fn run(options: Controller) -> Result<(), Error> {
    let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
    controller::run(options.controller, shutdown).await?;
    Ok(())
}
