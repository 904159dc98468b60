//! What removes and hides, in a tree and in a tar.
