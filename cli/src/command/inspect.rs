//! `calque inspect`: images and containers as docker's API describes them.

use serde::Serialize;
use serde_json::{Value, json};
use store::{Container, ContainerState, FindContainerError, FindImageError, Image, Store};

use super::{images, ps};
use crate::arguments::{self, Count, Invocation, Verb, WRONG_FLAG};
use crate::output;
use crate::report::Failure;
use crate::template::Template;

/// The command for whatever has the name.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "inspect")],
    about: "Show all that is known of containers and images, as JSON",
    synopsis: "[OPTIONS] NAME|ID [NAME|ID...]",
    examples: &["inspect app:1.0", "inspect -f {{.Id}} app:1.0", "inspect --type container focused_hopper"],
    is_trailing: false,
    flags: || {
        vec![
            arguments::option("type", "TYPE", "Look among these only: `image` or `container`"),
            format_flag(),
        ]
    },
    execute,
};

/// The command for images.
pub(crate) const IMAGE: Verb = Verb {
    places: &[("image", "inspect")],
    about: "Show all that is known of images, as JSON",
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    examples: &["image inspect app:1.0"],
    is_trailing: false,
    flags: || vec![format_flag()],
    execute: |invocation| inspect(invocation, Kind::Image),
};

/// The command for containers.
pub(crate) const CONTAINER: Verb = Verb {
    places: &[("container", "inspect")],
    about: "Show all that is known of containers, as JSON",
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: &["container inspect focused_hopper"],
    is_trailing: false,
    flags: || vec![format_flag()],
    execute: |invocation| inspect(invocation, Kind::Container),
};

fn format_flag() -> clap::Arg {
    arguments::option("format", "FORMAT", "`json`, or a text with fields in it: `{{.Id}}`").short('f')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any,
    Image,
    Container,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let kind = match invocation.value("type") {
        None => Kind::Any,
        Some("image") => Kind::Image,
        Some("container") => Kind::Container,
        Some(other @ ("network" | "volume" | "node" | "plugin" | "secret" | "service" | "task")) => {
            let message = format!("`--type {other}` is not supported yet: only `image` and `container` are");
            return Err(Failure::message(WRONG_FLAG, message));
        }
        Some(other) => {
            let message = format!("unknown type `{other}`: it can be `image` or `container`");
            return Err(Failure::usage(WRONG_FLAG, message, &invocation.name));
        }
    };
    inspect(invocation, kind)
}

fn inspect(invocation: &Invocation<'_>, kind: Kind) -> Result<u8, Failure> {
    let names = invocation.arguments(Count::AtLeast(1))?;
    let template = invocation.value("format").map(Template::parse).transpose().map_err(|error| {
        Failure::message(WRONG_FLAG, format!("invalid value for flag `--format`: {error}"))
    })?;
    let store = invocation.app.store(1)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in &names {
        match look_up(&store, name, kind)? {
            Some(value) => found.push(value),
            None => missing.push(name),
        }
    }
    match template {
        None => output::print_line(&pretty(&found))?,
        Some(template) => {
            for object in &found {
                let text = template.render(object).map_err(|error| Failure::error(1, &error))?;
                output::print_line(&text)?;
            }
        }
    }
    let mut failure = Failure::silent(1);
    for name in &missing {
        failure = failure.and(match kind {
            Kind::Any => format!("no such object: `{name}`"),
            Kind::Image => format!("no such image: `{name}`"),
            Kind::Container => format!("no such container: `{name}`"),
        });
    }
    if missing.is_empty() { Ok(0) } else { Err(failure) }
}

/// docker's order: containers first.
fn look_up(store: &Store, name: &str, kind: Kind) -> Result<Option<Value>, Failure> {
    if kind != Kind::Image {
        match store.find_container(name) {
            Ok(container) => return Ok(Some(describe_container(store, &container))),
            Err(FindContainerError::NotFound(_)) => {}
            Err(error) => return Err(Failure::error(1, &error)),
        }
    }
    if kind != Kind::Container {
        match store.find_image(name) {
            Ok(image) => return describe_image(store, &image).map(Some),
            Err(FindImageError::NotFound { .. } | FindImageError::Malformed(_)) => {}
            Err(error) => return Err(Failure::error(1, &error)),
        }
    }
    Ok(None)
}

/// docker's indentation.
fn pretty(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("maps with text keys are JSON");
    String::from_utf8(bytes).expect("JSON is text")
}

fn describe_image(store: &Store, image: &Image) -> Result<Value, Failure> {
    let config = image.config.value();
    let tags = store.tags().map_err(|error| Failure::error(1, &error))?;
    let names: Vec<String> =
        tags.iter().filter(|tag| tag.image == image.id).map(|tag| tag.reference.familiar()).collect();
    let mut value = json!({
        "Id": image.id.to_string(),
        "RepoTags": names,
        "RepoDigests": [],
        "Comment": config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Config": serde_json::to_value(&config.config).expect("a config is JSON"),
        "Architecture": config.platform.architecture,
        "Os": config.platform.os,
        "Size": images::size(store, image)?,
        "RootFS": {
            "Type": config.rootfs.kind,
            "Layers": config.rootfs.diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "Metadata": { "LastTagTime": image.stored },
        "Calque": { "Layers": image.layers.iter().map(ToString::to_string).collect::<Vec<_>>() },
    });
    if let Some(variant) = &config.platform.variant {
        value["Variant"] = json!(variant);
    }
    Ok(value)
}

/// Go's zero time, which docker's API has where there is none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

fn describe_container(store: &Store, container: &Container) -> Value {
    let record = &container.record;
    let settings = runner::Settings::from_record(record).unwrap_or_default();
    let (pid, started, finished, code) = match &container.state {
        ContainerState::Created => (0, NO_TIME, NO_TIME, 0),
        ContainerState::Running { pid, started, .. } => (*pid, started.as_str(), NO_TIME, 0),
        ContainerState::Exited { code, finished } => {
            (0, NO_TIME, finished.as_deref().unwrap_or(NO_TIME), *code)
        }
    };
    let is_running = matches!(container.state, ContainerState::Running { .. });
    let path = |name: &str| match store.container_dir(&record.id) {
        Ok(dir) if dir.file(name).exists() => dir.file(name).display().to_string(),
        _ => String::new(),
    };
    json!({
        "Id": record.id,
        "Created": record.created,
        "Path": record.argv.first(),
        "Args": record.argv.get(1..).unwrap_or_default(),
        "State": {
            "Status": ps::state(&container.state),
            "Running": is_running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": pid,
            "ExitCode": code,
            "Error": "",
            "StartedAt": started,
            "FinishedAt": finished,
        },
        "Image": record.image.to_string(),
        "ResolvConfPath": path("resolv.conf"),
        "HostnamePath": path("hostname"),
        "HostsPath": path("hosts"),
        "Name": format!("/{}", record.name),
        "Platform": "linux",
        "HostConfig": {
            "Binds": settings.binds,
            "NetworkMode": settings.network,
            "AutoRemove": record.auto_remove,
            "UsernsMode": if settings.host_userns { "host" } else { "" },
        },
        "Mounts": settings.mounts,
        "Config": {
            "Hostname": settings.hostname,
            "User": settings.user,
            "OpenStdin": settings.interactive,
            "Tty": settings.tty,
            "Env": settings.env,
            "Cmd": settings.cmd,
            "Entrypoint": settings.entrypoint,
            "Image": record.reference,
            "WorkingDir": settings.working_dir,
        },
    })
}
