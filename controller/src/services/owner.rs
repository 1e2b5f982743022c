//! Who owns the Services outside the controller's namespace.
//!
//! The right to change them there comes with a ClusterRole and goes with it, and whoever has lost the right cannot clean up
//! any more. So the ClusterRole owns them, and Kubernetes removes them after it.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, Resource as _};

/// A reference to the ClusterRole of this name, as it is now.
pub(super) async fn reference(
    client: &kube::Client,
    name: &str,
) -> Result<OwnerReference, kube::Error> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = roles.get_metadata(name).await?;
    let owner = OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: role.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    Ok(owner)
}
