//! Containers on this kernel, as root: in its newest mode, and, by a second run of the same tests, in the oldest.

mod ground;
mod hostile;
mod isolation;
mod lifecycle;
mod mounts;
mod oldest;
mod ownership;
