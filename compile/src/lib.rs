//! Pure: Kubernetes objects in, snapshot, statuses and diagnostics out.
//!
//! Nothing here reads a clock, a file or a socket. Adapters decode objects with [`Object::from_json`], hand them to
//! [`Compiler::apply`] and take what follows from them with [`Compiler::update`]. The result does not depend on the order
//! in which objects came: an update after any history equals a compilation of the same objects from nothing.

mod compiler;
mod endpoint_slices;
mod ingress_classes;
mod inputs;
mod kind;
mod object;
mod output;
mod secrets;
mod services;

pub use compiler::Compiler;
pub use kind::{Kind, ObjectRef};
pub use object::{DecodeError, Object, Unreadable};
pub use output::{
    Condition, ConditionStatus, Diagnostic, GatewayService, Level, ObjectStatus, ProgrammedBy,
    Settings, StatusBody, Update, WantedSecret,
};
