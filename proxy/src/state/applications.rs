//! Applications of OAuth 2.0, as the snapshot has them.

use plugins::directory::{KeyId, NewApplication};
use snapshot::proto;

/// What all credentials have.
pub(super) struct Fields<'a> {
    pub(super) id: &'a str,
    pub(super) namespace: &'a str,
    pub(super) consumer: KeyId,
    /// From, until.
    pub(super) times: (i64, i64),
}

/// Reads an application.
pub(super) fn read<'a>(
    proof: &'a proto::Application,
    key: KeyId,
    fields: &Fields<'a>,
) -> Result<NewApplication<'a>, String> {
    let (not_before, expires_at) = fields.times;
    let uris = proof.redirect_uris.iter().map(|uri| uri.as_str().into());
    Ok(NewApplication {
        key,
        namespace: fields.namespace,
        id: fields.id,
        client_id: client_id(proof)?,
        secret: secret_digest(proof)?,
        redirect_uris: uris.collect(),
        consumer: fields.consumer,
        not_before,
        expires_at,
    })
}

fn client_id(proof: &proto::Application) -> Result<&str, String> {
    let client_id = &*proof.client_id;
    if client_id.is_empty() || client_id.chars().any(char::is_control) {
        return Err("the client id is empty or holds control characters".to_owned());
    }
    Ok(client_id)
}

/// None: the application is public.
fn secret_digest(proof: &proto::Application) -> Result<Option<[u8; 32]>, String> {
    if proof.secret_digest.is_empty() {
        return Ok(None);
    }
    let digest = (&*proof.secret_digest).try_into();
    digest
        .map(Some)
        .map_err(|_| "the digest is not 32 bytes long".to_owned())
}
