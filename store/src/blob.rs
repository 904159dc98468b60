//! Content-addressed blobs.
