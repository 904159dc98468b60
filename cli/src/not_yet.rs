//! docker's commands and flags that calque doesn't have yet: they are refused by name, never ignored.
//!
//! Whoever adds one takes its line out here; a test fails where a flag is both there and listed.

/// Why something isn't there.
type Reason = &'static str;

const NETWORK: Reason = "networks and published ports come with a later release (`--network host|none` work)";
const VOLUME: Reason = "volumes come with a later release (binds, `-v /path:/path`, work)";
const DETACHED: Reason = "detached containers come with a later release (`run` works in the foreground)";
const REGISTRY: Reason = "registries come with a later release (`load`, `save` and `oci-layout://` work)";
const LIMIT: Reason = "resource limits come with a later release";
const SECURITY: Reason = "choosing capabilities, devices and profiles comes with a later release";
const NAMESPACE: Reason = "sharing this namespace comes with a later release";
const SETTING: Reason = "it comes with a later release of the runner";
const HEALTH: Reason = "health checks come with a later release";
const CACHE: Reason = "the remote cache comes with a later release";
const OUTPUT: Reason =
    "other outputs come with a later release (the result goes to the local store; see `save`)";
const ATTEST: Reason = "attestations come with a later release";
const BUILDER: Reason = "it comes with a later release of the builder";
const FORMAT: Reason = "it comes with a later release (`--format json` works)";
const FILTER: Reason = "filters come with a later release (`--format json` and `jq` work)";
const PRUNE: Reason = "pruning comes with a later release";
const INSPECT: Reason = "looking into images comes with a later release (`layers` and `history` work)";
const NO_DAEMON: Reason = "calque has no daemon to reach or to set up";
const WINDOWS: Reason = "it is for Windows containers, which calque doesn't run";
const SWARM: Reason = "calque runs no cluster: Kubernetes and Nomad run its images";
const PLATFORM: Reason = "other platforms come with a later release";

/// A flag: long and short name (without dashes) and the reason.
type Flag = (&'static str, &'static str, Reason);

const ROOT_FLAGS: &[Flag] = &[
    ("config", "", "registries and their settings come with a later release"),
    ("context", "c", NO_DAEMON),
    ("debug", "D", "it comes with a later release"),
    ("host", "H", NO_DAEMON),
    ("log-level", "l", "it comes with a later release"),
    ("tls", "", NO_DAEMON),
    ("tlscacert", "", NO_DAEMON),
    ("tlscert", "", NO_DAEMON),
    ("tlskey", "", NO_DAEMON),
    ("tlsverify", "", NO_DAEMON),
];

const BUILD_FLAGS: &[Flag] = &[
    ("add-host", "", NETWORK),
    ("allow", "", "entitlements come with a later release"),
    ("annotation", "", OUTPUT),
    ("attest", "", ATTEST),
    ("builder", "", NO_DAEMON),
    ("cache-from", "", CACHE),
    ("cache-to", "", CACHE),
    ("cgroup-parent", "", LIMIT),
    ("compress", "", NO_DAEMON),
    ("cpu-period", "", LIMIT),
    ("cpu-quota", "", LIMIT),
    ("cpu-shares", "c", LIMIT),
    ("cpuset-cpus", "", LIMIT),
    ("cpuset-mems", "", LIMIT),
    ("debug", "D", BUILDER),
    ("disable-content-trust", "", REGISTRY),
    ("force-rm", "", "there are no intermediate containers to remove"),
    ("isolation", "", WINDOWS),
    ("memory", "m", LIMIT),
    ("memory-swap", "", LIMIT),
    ("metadata-file", "", OUTPUT),
    ("no-cache-filter", "", BUILDER),
    ("output", "o", OUTPUT),
    ("policy", "", BUILDER),
    ("provenance", "", ATTEST),
    ("pull", "", REGISTRY),
    ("push", "", REGISTRY),
    ("resource", "", LIMIT),
    ("rm", "", "there are no intermediate containers to remove"),
    ("sbom", "", ATTEST),
    ("security-opt", "", SECURITY),
    ("shm-size", "", LIMIT),
    ("squash", "", BUILDER),
    ("ssh", "", "forwarding an SSH agent comes with a later release"),
    ("ulimit", "", LIMIT),
];

const RUN_FLAGS: &[Flag] = &[
    ("add-host", "", NETWORK),
    ("annotation", "", SETTING),
    ("attach", "a", DETACHED),
    ("blkio-weight", "", LIMIT),
    ("blkio-weight-device", "", LIMIT),
    ("cap-add", "", SECURITY),
    ("cap-drop", "", SECURITY),
    ("cgroup-parent", "", LIMIT),
    ("cgroupns", "", NAMESPACE),
    ("cidfile", "", SETTING),
    ("cpu-count", "", WINDOWS),
    ("cpu-percent", "", WINDOWS),
    ("cpu-period", "", LIMIT),
    ("cpu-quota", "", LIMIT),
    ("cpu-rt-period", "", LIMIT),
    ("cpu-rt-runtime", "", LIMIT),
    ("cpu-shares", "c", LIMIT),
    ("cpus", "", LIMIT),
    ("cpuset-cpus", "", LIMIT),
    ("cpuset-mems", "", LIMIT),
    ("detach", "d", DETACHED),
    ("detach-keys", "", DETACHED),
    ("device", "", SECURITY),
    ("device-cgroup-rule", "", SECURITY),
    ("device-read-bps", "", LIMIT),
    ("device-read-iops", "", LIMIT),
    ("device-write-bps", "", LIMIT),
    ("device-write-iops", "", LIMIT),
    ("disable-content-trust", "", REGISTRY),
    ("dns", "", NETWORK),
    ("dns-opt", "", NETWORK),
    ("dns-option", "", NETWORK),
    ("dns-search", "", NETWORK),
    ("domainname", "", SETTING),
    ("env-file", "", SETTING),
    ("expose", "", NETWORK),
    ("gpus", "", SECURITY),
    ("group-add", "", SETTING),
    ("health-cmd", "", HEALTH),
    ("health-interval", "", HEALTH),
    ("health-retries", "", HEALTH),
    ("health-start-interval", "", HEALTH),
    ("health-start-period", "", HEALTH),
    ("health-timeout", "", HEALTH),
    ("hostname", "h", SETTING),
    ("init", "", SETTING),
    ("io-maxbandwidth", "", WINDOWS),
    ("io-maxiops", "", WINDOWS),
    ("ip", "", NETWORK),
    ("ip6", "", NETWORK),
    ("ipc", "", NAMESPACE),
    ("isolation", "", WINDOWS),
    ("label", "l", SETTING),
    ("label-file", "", SETTING),
    ("link", "", NETWORK),
    ("link-local-ip", "", NETWORK),
    ("log-driver", "", DETACHED),
    ("log-opt", "", DETACHED),
    ("mac-address", "", NETWORK),
    ("memory", "m", LIMIT),
    ("memory-reservation", "", LIMIT),
    ("memory-swap", "", LIMIT),
    ("memory-swappiness", "", LIMIT),
    ("mount", "", VOLUME),
    ("network-alias", "", NETWORK),
    ("no-healthcheck", "", HEALTH),
    ("oom-kill-disable", "", LIMIT),
    ("oom-score-adj", "", LIMIT),
    ("pid", "", NAMESPACE),
    ("pids-limit", "", LIMIT),
    ("platform", "", PLATFORM),
    ("privileged", "", SECURITY),
    ("publish", "p", NETWORK),
    ("publish-all", "P", NETWORK),
    ("read-only", "", SETTING),
    ("restart", "", DETACHED),
    ("runtime", "", SETTING),
    ("security-opt", "", SECURITY),
    ("shm-size", "", LIMIT),
    ("sig-proxy", "", SETTING),
    ("stop-signal", "", DETACHED),
    ("stop-timeout", "", DETACHED),
    ("storage-opt", "", LIMIT),
    ("sysctl", "", SETTING),
    ("tmpfs", "", VOLUME),
    ("ulimit", "", LIMIT),
    ("use-api-socket", "", NO_DAEMON),
    ("uts", "", NAMESPACE),
    ("volume-driver", "", VOLUME),
    ("volumes-from", "", VOLUME),
];

const PS_FLAGS: &[Flag] = &[("filter", "f", FILTER)];
const RM_FLAGS: &[Flag] = &[("link", "l", NETWORK), ("volumes", "v", VOLUME)];
const IMAGE_LS_FLAGS: &[Flag] = &[("digests", "", REGISTRY), ("filter", "f", FILTER), ("tree", "", INSPECT)];
const IMAGE_RM_FLAGS: &[Flag] = &[("no-prune", "", PRUNE), ("platform", "", PLATFORM)];
const PLATFORM_FLAGS: &[Flag] = &[("platform", "", PLATFORM)];
const INSPECT_FLAGS: &[Flag] = &[("platform", "", PLATFORM), ("size", "s", SETTING)];
const SYSTEM_DF_FLAGS: &[Flag] = &[("verbose", "v", FORMAT)];

/// The flags that are missing in a command, by the last word of its name or the last two.
const FLAGS: &[(&str, &[Flag])] = &[
    ("calque", ROOT_FLAGS),
    ("build", BUILD_FLAGS),
    ("run", RUN_FLAGS),
    ("ps", PS_FLAGS),
    ("container ls", PS_FLAGS),
    ("container list", PS_FLAGS),
    ("rm", RM_FLAGS),
    ("container remove", RM_FLAGS),
    ("images", IMAGE_LS_FLAGS),
    ("image ls", IMAGE_LS_FLAGS),
    ("image list", IMAGE_LS_FLAGS),
    ("rmi", IMAGE_RM_FLAGS),
    ("image rm", IMAGE_RM_FLAGS),
    ("image remove", IMAGE_RM_FLAGS),
    ("history", PLATFORM_FLAGS),
    ("load", PLATFORM_FLAGS),
    ("save", PLATFORM_FLAGS),
    ("inspect", INSPECT_FLAGS),
    ("df", SYSTEM_DF_FLAGS),
];

/// Commands that are missing, by the name of their group.
const COMMANDS: &[(&str, &[(&str, Reason)])] = &[
    (
        "calque",
        &[
            ("attach", DETACHED),
            ("bake", BUILDER),
            ("builds", "the history of builds comes with a later release"),
            ("cache", "looking into the cache comes with a later release"),
            ("commit", SETTING),
            ("compose", "it comes with a later release"),
            ("config", SWARM),
            ("context", NO_DAEMON),
            ("cp", SETTING),
            ("create", DETACHED),
            ("debug", INSPECT),
            ("diff", INSPECT),
            ("events", DETACHED),
            ("exec", DETACHED),
            ("export", SETTING),
            ("fsck", "it comes with a later release"),
            (
                "import",
                "it comes with a later release (`load` works, and `FROM scratch` with `ADD rootfs.tar /`)",
            ),
            ("info", "it comes with a later release (`version` and `system df` work)"),
            ("kill", DETACHED),
            ("login", REGISTRY),
            ("logout", REGISTRY),
            ("logs", DETACHED),
            ("manifest", REGISTRY),
            ("network", NETWORK),
            ("node", SWARM),
            ("pause", DETACHED),
            ("plan", "it comes with a later release"),
            ("plugin", NO_DAEMON),
            ("port", NETWORK),
            ("pull", REGISTRY),
            ("push", REGISTRY),
            ("rename", DETACHED),
            ("report", INSPECT),
            ("restart", DETACHED),
            ("search", REGISTRY),
            ("secret", SWARM),
            ("service", SWARM),
            ("stack", SWARM),
            ("start", DETACHED),
            ("stats", DETACHED),
            ("stop", DETACHED),
            ("swarm", SWARM),
            ("top", DETACHED),
            ("tui", INSPECT),
            ("unpause", DETACHED),
            ("update", LIMIT),
            ("volume", VOLUME),
            ("wait", DETACHED),
            ("why", "it comes with a later release (a build prints the cause under each step that ran)"),
        ],
    ),
    (
        "calque container",
        &[
            ("attach", DETACHED),
            ("commit", SETTING),
            ("cp", SETTING),
            ("create", DETACHED),
            ("diff", INSPECT),
            ("exec", DETACHED),
            ("export", SETTING),
            ("kill", DETACHED),
            ("logs", DETACHED),
            ("pause", DETACHED),
            ("port", NETWORK),
            ("prune", PRUNE),
            ("rename", DETACHED),
            ("restart", DETACHED),
            ("start", DETACHED),
            ("stats", DETACHED),
            ("stop", DETACHED),
            ("top", DETACHED),
            ("unpause", DETACHED),
            ("update", LIMIT),
            ("wait", DETACHED),
        ],
    ),
    (
        "calque image",
        &[
            ("import", "it comes with a later release (`load` works)"),
            ("prune", PRUNE),
            ("pull", REGISTRY),
            ("push", REGISTRY),
        ],
    ),
    (
        "calque system",
        &[
            ("dial-stdio", NO_DAEMON),
            ("events", DETACHED),
            ("info", "it comes with a later release (`version` and `system df` work)"),
            ("prune", PRUNE),
            ("reset", PRUNE),
        ],
    ),
    ("calque builder", &[("prune", PRUNE)]),
    (
        "calque buildx",
        &[
            ("bake", BUILDER),
            ("create", NO_DAEMON),
            ("dap", BUILDER),
            ("debug", INSPECT),
            ("dial-stdio", NO_DAEMON),
            ("du", "looking into the cache comes with a later release"),
            ("history", "the history of builds comes with a later release"),
            ("imagetools", REGISTRY),
            ("inspect", NO_DAEMON),
            ("ls", NO_DAEMON),
            ("prune", PRUNE),
            ("rm", NO_DAEMON),
            ("stop", NO_DAEMON),
            ("use", NO_DAEMON),
            ("version", "it is `calque version`"),
        ],
    ),
];

/// Why `flag`, with its dashes, is missing in `command` (`calque image ls`); nothing for one that docker doesn't
/// know either.
pub(crate) fn flag(command: &str, flag: &str) -> Option<Reason> {
    let (long, name) = match flag.strip_prefix("--") {
        Some(name) => (true, name),
        None => (false, flag.strip_prefix('-')?),
    };
    flags_of(command)
        .find(|entry| !name.is_empty() && name == if long { entry.0 } else { entry.1 })
        .map(|f| f.2)
}

fn flags_of(command: &str) -> impl Iterator<Item = &'static Flag> {
    FLAGS
        .iter()
        .filter(move |(name, _)| command == *name || command.ends_with(&format!(" {name}")))
        .flat_map(|(_, flags)| *flags)
}

/// Why `name` is missing in the group `group` (`calque image`).
pub(crate) fn command(group: &str, name: &str) -> Option<Reason> {
    let (_, commands) = COMMANDS.iter().find(|(entry, _)| *entry == group)?;
    commands.iter().find(|(entry, _)| *entry == name).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_listed_as_missing() {
        fn check(command: &clap::Command, name: &str) {
            for argument in command.get_arguments() {
                let long = argument.get_long().map(|long| format!("--{long}"));
                let short = argument.get_short().map(|short| format!("-{short}"));
                for given in [long, short].into_iter().flatten() {
                    assert_eq!(flag(name, &given), None, "{name} {given}");
                }
            }
            for child in command.get_subcommands() {
                assert_eq!(super::command(name, child.get_name()), None, "{name} {}", child.get_name());
                check(child, &format!("{name} {}", child.get_name()));
            }
        }
        let mut root = crate::app::command();
        root.build();
        check(&root, "calque");
    }

    #[test]
    fn a_missing_flag_is_found_under_every_name_of_its_command() {
        for command in ["calque build", "calque buildx build", "calque image build", "calque builder build"] {
            assert!(flag(command, "--push").is_some(), "{command}");
        }
        assert!(flag("calque container run", "-p").is_some());
        assert!(flag("calque run", "--p").is_none());
        assert!(flag("calque run", "-").is_none());
        assert!(flag("calque images", "--publish").is_none());
    }
}
