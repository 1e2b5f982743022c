//! The contract between the planes: messages, keys, hashes, diff.
//!
//! A snapshot is a set of resources, each under a key such as `Route/HTTPRoute/shop/orders`. Planes never compare
//! contents, only hashes; see `proto/postern.proto`, which says what each message means.

mod set;

/// The messages, as generated.
pub mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::indexing_slicing,
        clippy::too_many_lines,
        clippy::or_fun_call,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    include!(concat!(env!("OUT_DIR"), "/postern.v1.rs"));

    // What holds a secret does not print it.
    macro_rules! redacted {
        ($($message:ident),*) => {$(
            impl std::fmt::Debug for $message {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(concat!(stringify!($message), "(redacted)"))
                }
            }
        )*};
    }
    redacted!(Certificate, Secret, KeyAuth, Jwt, Application);
    impl std::fmt::Debug for jwt::Verification {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Verification(redacted)")
        }
    }
}

pub use set::{BUCKETS, Change, Diff, Entry, Hash, Set, bucket_of, hash_of};

/// The version of the protocol that [`proto::Hello`] names.
pub const PROTOCOL: u64 = 1;
