//! ustar and PAX headers; pure.
