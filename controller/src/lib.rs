//! Postern's control plane.

pub mod files;
pub mod publish;
