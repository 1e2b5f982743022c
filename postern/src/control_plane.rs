//! `postern controller`.

use tokio::runtime::Handle;

use crate::cli::Controller;
use crate::run::Error;
use crate::shutdown;

pub(crate) async fn run(options: Controller) -> Result<(), Error> {
    let shutdown = shutdown::on_signal().map_err(Error::Signals)?;
    let Controller { controller, store } = options;
    let store = match store.url {
        Some(_) => Some(store.open_shared(Handle::current()).await?),
        None => None,
    };
    controller::run(controller, store, shutdown).await?;
    Ok(())
}
