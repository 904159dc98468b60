//! The contents of `/etc/resolv.conf` and `/etc/hosts`; pure.

/// A line of `/etc/hosts` that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsEntry {
    /// IPv4 or IPv6.
    pub address: std::net::IpAddr,
    /// Name of the host.
    pub name: String,
}

/// What a container's `/etc/resolv.conf` holds.
///
/// In the host's network namespace it is the host's own file, byte for byte: a resolver on 127.0.0.53 is reachable
/// there, and replacing it by a public one would leak names. In a namespace without links no resolver is reachable,
/// so none is named.
pub fn resolv_conf(host: &str, host_network: bool) -> String {
    if host_network { host.to_owned() } else { "# no resolver: this network has no links\n".to_owned() }
}

/// What a container's `/etc/hosts` holds: loopback, then `extra`, then its own name.
///
/// In the host's network namespace (`host` is its file) the host's lines come first, as in docker.
pub fn hosts(hostname: &str, host: Option<&str>, extra: &[HostsEntry]) -> String {
    let mut text = match host {
        Some(host) => host.to_owned(),
        None => "127.0.0.1\tlocalhost\n\
                 ::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::\tip6-localnet\n\
                 ff00::\tip6-mcastprefix\n\
                 ff02::1\tip6-allnodes\n\
                 ff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in extra {
        text.push_str(&format!("{}\t{}\n", entry.address, entry.name));
    }
    let named = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == hostname)
    };
    if !hostname.is_empty() && !text.lines().any(named) {
        text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_hosts_namespace_its_resolver_is_taken_as_it_is() {
        let host = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example";
        assert_eq!(resolv_conf(host, true), host);
    }

    #[test]
    fn without_links_no_resolver_is_named() {
        let text = resolv_conf("nameserver 127.0.0.53\n", false);
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }

    #[test]
    fn the_container_finds_its_own_name() {
        let text = hosts("box", None, &[]);
        assert!(text.contains("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("127.0.0.1\tbox\n"), "{text}");
    }

    #[test]
    fn extra_hosts_follow_the_hosts_own_lines() {
        let extra = [HostsEntry { address: "10.0.0.1".parse().unwrap(), name: "db".into() }];
        let text = hosts("vm", Some("127.0.0.1 localhost\n127.0.1.1 vm"), &extra);
        assert_eq!(text, "127.0.0.1 localhost\n127.0.1.1 vm\n10.0.0.1\tdb\n");
    }

    #[test]
    fn a_name_in_a_comment_does_not_count() {
        assert!(hosts("vm", Some("# vm\n::1 localhost # vm\n"), &[]).ends_with("127.0.0.1\tvm\n"));
    }
}
