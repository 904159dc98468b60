//! Instructions that change the image's config alone: their values checked, and applied.

use oci::{ImageConfig, RunConfig};

use crate::expanded::ConfigChange;
use crate::history;
use crate::scope::shown_value;

/// Changes `config`, and gives what history says of it; `ONBUILD` says nothing (BuildKit). `cmd_is_ours` says whether
/// a `CMD` of this very stage came before: else `ENTRYPOINT` drops the one that the base had.
pub(crate) fn apply(config: &mut ImageConfig, change: &ConfigChange, cmd_is_ours: bool) -> Option<String> {
    let run = &mut config.config;
    Some(match change {
        ConfigChange::Arg(args) => {
            let shown = args.iter().map(|(name, value)| match value {
                Some(value) => format!("{name}={}", shown_value(name, value)),
                None => name.clone(),
            });
            format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
        }
        ConfigChange::Env(pairs) => {
            for (key, value) in pairs {
                run.set_env(key, value);
            }
            format!("ENV {}", pair_list(pairs))
        }
        ConfigChange::Label(pairs) => {
            run.labels.extend(pairs.iter().cloned());
            format!("LABEL {}", pair_list(pairs))
        }
        ConfigChange::User(user) => {
            run.user.clone_from(user);
            format!("USER {user}")
        }
        ConfigChange::Cmd(argv) => {
            run.cmd = not_empty(argv);
            run.extra.insert("ArgsEscaped".to_owned(), true.into());
            format!("CMD {}", history::quoted_list(argv))
        }
        ConfigChange::Entrypoint(argv) => {
            run.entrypoint = not_empty(argv);
            if !cmd_is_ours {
                run.cmd = None;
            }
            format!("ENTRYPOINT {}", history::quoted_list(argv))
        }
        ConfigChange::Shell(argv) => {
            run.shell = not_empty(argv);
            format!("SHELL {}", history::plain_list(argv))
        }
        ConfigChange::Expose(ports) => {
            run.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Default::default())));
            format!("EXPOSE {}", history::plain_list(ports))
        }
        ConfigChange::Volume(paths) => {
            run.volumes.extend(paths.iter().map(|path| (path.clone(), Default::default())));
            format!("VOLUME {}", history::plain_list(paths))
        }
        ConfigChange::StopSignal(signal) => {
            run.stop_signal.clone_from(signal);
            format!("STOPSIGNAL {signal}")
        }
        ConfigChange::Healthcheck(check) => {
            run.healthcheck = Some(check.clone());
            format!("HEALTHCHECK {}", history::healthcheck(check))
        }
        ConfigChange::Onbuild(text) => {
            run.on_build.push(text.clone());
            return None;
        }
        ConfigChange::Maintainer(author) => {
            config.author = Some(author.clone());
            format!("MAINTAINER {author}")
        }
    })
}

fn pair_list(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn not_empty(argv: &[String]) -> Option<Vec<String>> {
    (!argv.is_empty()).then(|| argv.to_vec())
}

/// The argv of a shell form: `SHELL`, else `/bin/sh -c`, and the text as one argument.
pub(crate) fn with_shell(config: &RunConfig, text: String) -> Vec<String> {
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut argv = config.shell.clone().filter(|shell| !shell.is_empty()).unwrap_or_else(default);
    argv.push(text);
    argv
}

/// Makes a base's config the start of a new image: its triggers are not ours, `PATH` has a value, and the fields that
/// old dockers wrote about the container they committed say nothing of this image.
pub(crate) fn inherit(mut config: ImageConfig) -> ImageConfig {
    config.config.on_build.clear();
    for stale in ["container", "container_config", "docker_version", "id", "parent", "throwaway"] {
        config.extra.remove(stale);
    }
    if config.config.env_value("PATH").is_none() {
        config.config.set_env("PATH", RunConfig::DEFAULT_PATH);
    }
    config
}

/// The `80/tcp`s of one word of EXPOSE: `80`, `80/UDP`, `8000-8010/tcp`, and docker's forgotten `ip:host:80`.
///
/// # Errors
///
/// Why the word is no port.
pub(crate) fn parse_ports(word: &str) -> Result<Vec<String>, String> {
    let mut parts = word.rsplitn(3, ':');
    let own = parts.next().unwrap_or_default();
    let published = parts.next();
    let address = parts.next();
    let (port, protocol) = own.split_once('/').unwrap_or((own, "tcp"));
    if port.is_empty() {
        return Err(format!("no port specified: `{word}`"));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid protocol `{protocol}`: expected `tcp`, `udp` or `sctp`")),
    };
    if let Some(address) = address.filter(|address| !address.is_empty()) {
        let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        plain.parse::<std::net::IpAddr>().map_err(|_| format!("invalid IP address `{address}`"))?;
    }
    let (start, end) = port_range(port).ok_or_else(|| format!("invalid port `{port}`"))?;
    if let Some(published) = published.filter(|published| !published.is_empty()) {
        let (from, to) = port_range(published).ok_or_else(|| format!("invalid port `{published}`"))?;
        if to - from != end - start && end != start {
            return Err(format!("the ranges `{published}` and `{port}` differ in length"));
        }
    }
    Ok((start..=end).map(|port| format!("{port}/{protocol}")).collect())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    match text.split_once('-') {
        Some((start, end)) => number(start).zip(number(end)).filter(|(start, end)| start <= end),
        None => number(text).map(|port| (port, port)),
    }
}

const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether docker takes `text` for a signal: `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, in any case.
pub(crate) fn is_signal(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|number| (1..=64).contains(&number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: Option<&str>, range: std::ops::RangeInclusive<u32>| {
        rest.is_some_and(|rest| rest.parse().is_ok_and(|number| range.contains(&number)))
    };
    SIGNALS.contains(&name)
        || offset(name.strip_prefix("RTMIN+"), 1..=15)
        || offset(name.strip_prefix("RTMAX-"), 1..=14)
}

#[cfg(test)]
mod tests {
    use oci::{Healthcheck, Platform};

    use super::*;

    fn config() -> ImageConfig {
        ImageConfig::scratch(Platform::host())
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn an_entrypoint_drops_the_inherited_cmd_only() {
        let entrypoint = ConfigChange::Entrypoint(list(&["/app"]));
        let mut inherited = config();
        inherited.config.cmd = Some(list(&["old"]));
        apply(&mut inherited, &entrypoint, false);
        assert_eq!(inherited.config.cmd, None);

        let mut own = config();
        apply(&mut own, &ConfigChange::Cmd(list(&["new"])), false);
        apply(&mut own, &entrypoint, true);
        assert_eq!(own.config.cmd, Some(list(&["new"])));
        apply(&mut own, &ConfigChange::Entrypoint(Vec::new()), true);
        assert_eq!(own.config.entrypoint, None, "an empty list clears");
    }

    #[test]
    fn history_has_buildkits_shapes() {
        let pairs = |items: &[(&str, &str)]| {
            items.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let arg = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let table = [
            (ConfigChange::Env(pairs(&[("A", "1"), ("B", "x y")])), "ENV A=1 B=x y"),
            (ConfigChange::Label(pairs(&[("a.b", "1")])), "LABEL a.b=1"),
            (ConfigChange::Arg(vec![arg("A", Some("1")), arg("B", None)]), "ARG A=1 B"),
            (ConfigChange::Arg(vec![arg("API_TOKEN", Some("hunter2"))]), "ARG API_TOKEN=****"),
            (ConfigChange::User("app".into()), "USER app"),
            (ConfigChange::Cmd(list(&["a", "b"])), r#"CMD ["a" "b"]"#),
            (ConfigChange::Entrypoint(list(&["a"])), r#"ENTRYPOINT ["a"]"#),
            (ConfigChange::Shell(list(&["/bin/bash", "-c"])), "SHELL [/bin/bash -c]"),
            (ConfigChange::Expose(list(&["80/tcp", "53/udp"])), "EXPOSE [80/tcp 53/udp]"),
            (ConfigChange::Volume(list(&["/a", "/b"])), "VOLUME [/a /b]"),
            (ConfigChange::StopSignal("SIGTERM".into()), "STOPSIGNAL SIGTERM"),
            (ConfigChange::Maintainer("me".into()), "MAINTAINER me"),
            (
                ConfigChange::Healthcheck(Healthcheck {
                    test: Some(list(&["NONE"])),
                    ..Healthcheck::default()
                }),
                "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            ),
        ];
        for (change, expected) in table {
            assert_eq!(apply(&mut config(), &change, false).as_deref(), Some(expected));
        }
        let mut config = config();
        assert_eq!(apply(&mut config, &ConfigChange::Onbuild("RUN x".into()), false), None);
        assert_eq!(config.config.on_build, ["RUN x"]);
    }

    #[test]
    fn ports_ranges_and_protocols() {
        let ports = |word: &str| parse_ports(word).unwrap();
        assert_eq!(ports("80"), ["80/tcp"]);
        assert_eq!(ports("80/"), ["80/tcp"]);
        assert_eq!(ports("53/UDP"), ["53/udp"]);
        assert_eq!(ports("8000-8002/sctp"), ["8000/sctp", "8001/sctp", "8002/sctp"]);
        assert_eq!(ports("127.0.0.1:8080:80"), ["80/tcp"]);
        assert_eq!(ports("[::1]:8080:80"), ["80/tcp"]);
        assert_eq!(ports("8080:80"), ["80/tcp"]);
        for bad in [
            "",
            "/tcp",
            "x",
            "80/http",
            "65536",
            "9-8",
            "-1",
            "+80",
            "1.2.3.4.5:1:2",
            "80-82:1-2",
            "a:80",
            "1-2-3",
        ] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
        assert_eq!(ports("1-65535").len(), 65535);
    }

    #[test]
    fn signals_by_name_and_number() {
        for good in ["SIGTERM", "TERM", "term", "15", "9", "64", "SIGRTMIN+3", "RTMAX-14", "SIGRTMIN"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "SIG", "0", "65", "NOPE", "SIGRTMIN+16", "RTMAX-0", "-9", "SIGSIGTERM"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }

    #[test]
    fn a_base_without_a_path_gets_the_default_and_keeps_its_own() {
        let mut base = config();
        base.config.on_build = list(&["RUN x"]);
        base.extra.insert("container_config".to_owned(), serde_json::json!({}));
        base.extra.insert("os.version".to_owned(), "1".into());
        let ours = inherit(base.clone());
        assert_eq!(ours.config.env, [format!("PATH={}", RunConfig::DEFAULT_PATH)]);
        assert!(ours.config.on_build.is_empty(), "triggers belong to the child");
        assert_eq!(ours.extra.keys().collect::<Vec<_>>(), ["os.version"]);
        base.config.env = list(&["PATH=/x"]);
        assert_eq!(inherit(base).config.env, ["PATH=/x"]);
    }

    #[test]
    fn later_values_win_and_labels_are_merged() {
        let mut config = config();
        let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        apply(&mut config, &ConfigChange::Label(pair("a", "1")), false);
        apply(&mut config, &ConfigChange::Label(pair("a", "2")), false);
        apply(&mut config, &ConfigChange::Label(pair("b", "3")), false);
        assert_eq!(
            config.config.labels.into_iter().collect::<Vec<_>>(),
            [pair("a", "2"), pair("b", "3")].concat()
        );
    }
}
