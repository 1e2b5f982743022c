//! Postern in a real cluster.
