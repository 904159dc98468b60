//! Where each thing lies.
