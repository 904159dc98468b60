//! The real binary, end to end: every line of what calque promises, on real inputs.
//!
//! All of it needs root, for it mounts file systems and starts containers; `make test` runs it. Each test has a
//! store of its own, and the harness checks at its end that nothing stayed mounted.

mod bad_input;
mod binary;
mod builds;
mod causes;
mod checks;
mod crash;
mod cut_off;
mod debian;
mod harness;
mod hostile;
mod identity;
mod interop;
mod interrupt;
mod lifecycle;
mod metadata;
mod snapshots;
mod stacks;
mod terminal;
mod together;
mod tree;
