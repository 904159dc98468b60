//! Name resolution files for RUN and for containers; later bridges, port publishing and NAT.

mod dns;

pub use dns::{HostsEntry, hosts, resolv_conf};
