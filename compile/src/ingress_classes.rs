//! IngressClasses: which Ingresses are ours.

/// How Ingresses named their class before `spec.ingressClassName`.
pub(crate) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Marks the IngressClass of Ingresses that name none.
pub(crate) const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
