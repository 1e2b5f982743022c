//! Postern's control plane.

pub mod publish;
