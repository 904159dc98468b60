//! `calque build`: from a Dockerfile to an image.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use builder::{
    BuildRequest, CachePolicy, CancelToken, NamedContext, NetworkMode, RemoteSource, SecretValue, Services,
    StoreImages,
};
use oci::{Platform, Reference};
use parser::Source;

use super::check;
use crate::arguments::{self, Count, Invocation, Verb, WRONG_FLAG};
use crate::interrupt::Interrupt;
use crate::output;
use crate::report::{self, Failure};
use crate::settings;
use crate::ui::{self, ProgressMode};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "build"), ("image", "build"), ("builder", "build"), ("buildx", "build")],
    about: "Build an image from a Dockerfile",
    synopsis: "[OPTIONS] PATH",
    examples: &[
        "build -t app:1.0 .",
        "build -f docker/Dockerfile --target test .",
        "build --build-arg VERSION=2 --secret id=token,env=TOKEN .",
        "build --build-context base=oci-layout:///srv/base:12 .",
        "build --check .",
        "build --call=targets,format=json .",
        "build -q .",
    ],
    is_trailing: false,
    flags,
    execute,
};

/// The scope of the cache mounts of all builds in a store.
const CACHE_SCOPE: &str = "default";
/// Names that are looked for when `-f` isn't given, the best first.
const DOCKERFILE_NAMES: [&str; 4] = ["Dockerfile", "Containerfile", "dockerfile", "containerfile"];
/// Most bytes of a Dockerfile.
pub(crate) const DOCKERFILE_LIMIT: u64 = 16 << 20;

fn flags() -> Vec<clap::Arg> {
    vec![
        arguments::list("tag", "NAME[:TAG]", "Name the image; may be given several times").short('t'),
        arguments::option("file", "PATH", "The Dockerfile, `-` for stdin [default: PATH/Dockerfile]")
            .short('f'),
        arguments::list("build-arg", "KEY[=VALUE]", "Set an ARG; without a value the environment's is taken"),
        arguments::option("target", "STAGE", "Build this stage [default: the last one]"),
        arguments::switch("no-cache", "Run every step again"),
        arguments::list("label", "KEY=VALUE", "Add a label to the image"),
        arguments::option(
            "network",
            "MODE",
            "Network of RUN: `default`, `host` or `none` [default: default]",
        ),
        arguments::list("secret", "SECRET", "For RUN --mount=type=secret: `id=ID[,src=PATH|,env=NAME]`"),
        arguments::list(
            "build-context",
            "NAME=PLACE",
            "Another context: a folder, `oci-layout://FOLDER[:TAG]`, `docker-image://NAME` or `target:STAGE`",
        ),
        arguments::option("platform", "OS/ARCH", "The platform to build for: only this machine's so far"),
        arguments::option(
            "progress",
            "MODE",
            "How to show progress: `auto`, `plain`, `tty`, `rawjson` or `quiet` [default: auto]",
        ),
        arguments::switch("check", "Check the Dockerfile and run nothing: `--call=check`"),
        arguments::option(
            "call",
            "METHOD",
            "Instead of building: `check`, `outline` or `targets`, then `,format=json` for JSON [default: build]",
        ),
        arguments::switch("quiet", "Show only the image's ID").short('q'),
        arguments::option("iidfile", "PATH", "Write the image's ID to this file"),
        arguments::switch("load", "Put the result into the local store, which is what happens anyway"),
        arguments::switch("durable", "Wait until the result would survive a crash of the machine"),
    ]
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let place = invocation.arguments(Count::Exactly(1))?.remove(0);
    let is_quiet = invocation.is_on("quiet");
    let call = check::of(invocation)?;
    let mode = progress_mode(invocation, is_quiet)?;
    let cancel = CancelToken::new()
        .map_err(|error| Failure::message(1, format!("cannot prepare for being interrupted: {error}")))?;
    let request = request(invocation, &place, cancel.clone())?;
    if let Some(call) = call {
        return check::execute(invocation, &request, call);
    }
    let id_file = invocation.value("iidfile").map(PathBuf::from);
    if let Some(path) = &id_file {
        remove_stale(path)?;
    }
    let interrupt = Interrupt::cancelling(cancel)
        .map_err(|error| Failure::message(1, format!("cannot listen for signals: {error}")))?;
    let store = invocation.app.store(1)?;
    let ui = ui::observer(mode, invocation.app.terminal, &request.dockerfile);
    let services = Services {
        store: &store,
        sandbox: &|| sandbox::Sandbox::open(sandbox::SandboxSettings::default()),
        base_images: &StoreImages::new(store.clone()),
        between_key_and_copy: None,
    };
    let result = builder::build(&request, &services, &*ui);
    let is_output_shown = ui.finish();
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            // What the failed build had half made is in the trash: a disk that it filled gets room again.
            invocation.app.settle_later();
            let failure = report::build_failure(&error, &request.dockerfile, interrupt.exit_code());
            return Err(if is_output_shown { failure.without_preface() } else { failure });
        }
    };
    if invocation.is_on("durable") {
        store.settle().map_err(|error| Failure::error(1, &error))?;
    } else {
        invocation.app.settle_later();
    }
    if let Some(path) = &id_file {
        write_id(path, &outcome.image.id.to_string())?;
    }
    if is_quiet {
        output::print_line(&outcome.image.id.to_string())?;
    }
    Ok(0)
}

fn progress_mode(invocation: &Invocation<'_>, is_quiet: bool) -> Result<ProgressMode, Failure> {
    let flag = invocation.value("progress");
    let given = flag.map(str::to_owned).or_else(settings::progress);
    let mode = match given {
        None => ProgressMode::Auto,
        Some(text) => {
            text.parse().map_err(|reason: String| wrong_flag(invocation, "progress", &text, &reason))?
        }
    };
    match mode {
        _ if is_quiet => Ok(ProgressMode::Quiet),
        ProgressMode::Tty if invocation.app.terminal.interactive => Ok(mode),
        ProgressMode::Tty if flag.is_some() => {
            Err(wrong_flag(invocation, "progress", "tty", "stderr is not a terminal"))
        }
        // The environment says what is wanted where it is possible.
        ProgressMode::Tty => Ok(ProgressMode::Plain),
        mode => Ok(mode),
    }
}

fn wrong_flag(invocation: &Invocation<'_>, flag: &str, value: &str, reason: &str) -> Failure {
    let message = format!("invalid value `{value}` for flag `--{flag}`: {reason}");
    Failure::usage(WRONG_FLAG, message, &invocation.name)
}

/// Translates the command line.
fn request(invocation: &Invocation<'_>, place: &str, cancel: CancelToken) -> Result<BuildRequest, Failure> {
    let mut tags = Vec::new();
    for text in invocation.values("tag") {
        let tag: Reference = text
            .parse()
            .map_err(|error: oci::ReferenceError| wrong_flag(invocation, "tag", text, &error.to_string()))?;
        if tag.digest().is_some() {
            return Err(wrong_flag(invocation, "tag", text, "a tag can't have a digest"));
        }
        tags.push(tag);
    }
    let platform = platform(invocation)?;
    let network = match invocation.value("network") {
        None | Some("default") => NetworkMode::Default,
        Some("host") => NetworkMode::Host,
        Some("none") => NetworkMode::None,
        Some(other) => {
            let message =
                format!("`--network {other}` is not supported yet: only `default`, `host` and `none` are");
            return Err(Failure::message(WRONG_FLAG, message));
        }
    };
    let mut secrets = BTreeMap::new();
    for text in invocation.values("secret") {
        let (id, value) = secret(text).map_err(|reason| wrong_flag(invocation, "secret", text, &reason))?;
        secrets.insert(id, value);
    }
    let mut named_contexts = BTreeMap::new();
    for text in invocation.values("build-context") {
        let (name, context) =
            named_context(text).map_err(|reason| wrong_flag(invocation, "build-context", text, &reason))?;
        named_contexts.insert(name, context);
    }
    let mut labels = BTreeMap::new();
    for text in invocation.values("label") {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(wrong_flag(invocation, "label", text, "the name is empty"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    let build_args = build_args(invocation)?;
    let context = context(place)?;
    let (dockerfile, dockerfile_path) = dockerfile(invocation.value("file"), &context)?;
    Ok(BuildRequest {
        dockerfile,
        dockerfile_path,
        context: Some(context),
        named_contexts,
        target: invocation.value("target").filter(|target| !target.is_empty()).map(str::to_owned),
        build_args,
        labels,
        tags,
        platform,
        cache: if invocation.is_on("no-cache") { CachePolicy::Ignore } else { CachePolicy::Use },
        secrets,
        network,
        extra_hosts: Vec::new(),
        proxies: settings::proxies(),
        resolv_conf: fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        cache_scope: CACHE_SCOPE.to_owned(),
        cancel,
    })
}

fn build_args(invocation: &Invocation<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let mut build_args = BTreeMap::new();
    // As buildx does: the clamp of times is given to the build without a flag.
    if let Some(epoch) = settings::source_date_epoch().map_err(|error| Failure::error(1, &error))? {
        build_args.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
    }
    for text in invocation.values("build-arg") {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, settings::variable(text)),
        };
        if key.is_empty() {
            return Err(wrong_flag(invocation, "build-arg", text, "the name is empty"));
        }
        if let Some(value) = value {
            build_args.insert(key.to_owned(), value);
        }
    }
    Ok(build_args)
}

/// `--platform`, which can be this machine's only.
fn platform(invocation: &Invocation<'_>) -> Result<Platform, Failure> {
    let host = Platform::host();
    let given = invocation.value("platform").map(str::to_owned).or_else(settings::default_platform);
    let Some(text) = given.filter(|text| text != "local") else { return Ok(host) };
    if text.contains(',') {
        let message = format!("`--platform {text}` is not supported yet: one platform at a time is");
        return Err(Failure::message(WRONG_FLAG, message));
    }
    let platform: Platform = text
        .parse()
        .map_err(|error: oci::PlatformError| wrong_flag(invocation, "platform", &text, &error.to_string()))?;
    if !host.accepts(&platform) {
        let message = format!("`--platform {text}` is not supported yet: this machine is {host}");
        return Err(Failure::message(WRONG_FLAG, message));
    }
    Ok(platform)
}

/// The folder that COPY reads.
fn context(place: &str) -> Result<PathBuf, Failure> {
    let is_url = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| place.starts_with(prefix));
    if place == "-" {
        let message = "a build context from stdin (`-`) is not supported yet: name a folder";
        return Err(Failure::message(1, message).hint("`-f -` reads the Dockerfile alone from stdin"));
    }
    if is_url {
        let message =
            format!("the build context `{place}` is a URL, which is not supported yet: name a folder");
        return Err(Failure::message(1, message));
    }
    let path = Path::new(place);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::path::absolute(path)
            .map_err(|error| Failure::message(1, format!("cannot find out the current directory: {error}"))),
        Ok(_) => Err(Failure::message(1, format!("the build context `{place}` is not a folder"))
            .hint("the Dockerfile is named with `-f`")),
        Err(error) => Err(Failure::message(1, format!("cannot open the build context `{place}`: {error}"))),
    }
}

/// The Dockerfile's text and where it was read from.
fn dockerfile(file: Option<&str>, context: &Path) -> Result<(Source, Option<PathBuf>), Failure> {
    if file == Some("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().take(DOCKERFILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| {
            Failure::message(1, format!("cannot read the Dockerfile from stdin: {error}"))
        })?;
        return Ok((text("Dockerfile", bytes)?, None));
    }
    let Some(name) = file else {
        for name in DOCKERFILE_NAMES {
            let path = context.join(name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => return Ok((read(name, &path)?, Some(path))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message =
                        format!("cannot look into the build context `{}`: {error}", context.display());
                    return Err(Failure::message(1, message));
                }
            }
        }
        return Err(no_dockerfile(context));
    };
    // docker looks beside the caller; podman and buildah in the context too.
    let beside = PathBuf::from(name);
    let path = if beside.exists() || !context.join(name).exists() { beside } else { context.join(name) };
    Ok((read(name, &path)?, Some(path)))
}

fn no_dockerfile(context: &Path) -> Failure {
    let failure = Failure::message(
        1,
        format!(
            "there is no Dockerfile in `{}`: looked for {}",
            context.display(),
            DOCKERFILE_NAMES.join(", ")
        ),
    );
    failure.hint("name it with `-f`")
}

pub(crate) fn read(name: &str, path: &Path) -> Result<Source, Failure> {
    let cannot = |error: io::Error| {
        Failure::message(1, format!("cannot read the Dockerfile `{}`: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(cannot)?
        .take(DOCKERFILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    text(name, bytes)
}

pub(crate) fn text(name: &str, bytes: Vec<u8>) -> Result<Source, Failure> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > DOCKERFILE_LIMIT) {
        let message = format!("the Dockerfile `{name}` is larger than {} MiB", DOCKERFILE_LIMIT >> 20);
        return Err(Failure::message(1, message));
    }
    let wrong = |at: usize, what: &str, bytes: &[u8]| {
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::message(1, format!("`{name}` is not a Dockerfile: line {line} has {what}"))
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(wrong(at, "a zero byte, so this is a binary file", &bytes));
    }
    match String::from_utf8(bytes) {
        // A byte order mark is no part of the text.
        Ok(text) => Ok(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text))),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(wrong(at, "bytes that are not UTF-8", error.as_bytes()))
        }
    }
}

/// `id=ID[,src=PATH|,env=NAME][,type=file|env]`, as docker reads it.
fn secret(text: &str) -> Result<(String, SecretValue), String> {
    let (mut id, mut source, mut env, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is no `key=value`"))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => source = Some(value),
            "env" => env = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(format!("unknown type `{value}`: it can be `file` or `env`")),
            _ => return Err(format!("unknown key `{key}`: there are id, src, env and type")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("the id is missing")?;
    let (path, name) = match (kind, source, env) {
        (_, Some(_), Some(_)) => return Err("`src` and `env` exclude each other".to_owned()),
        // With `type=env` docker lets `src` name the variable.
        (Some("env"), Some(name), None) | (_, None, Some(name)) => (None, Some(name)),
        (_, Some(path), None) => (Some(path), None),
        (Some("env"), None, None) => (None, Some(id)),
        (Some(_), None, None) => (Some(id), None),
        (None, None, None) if settings::variable(id).is_some() => (None, Some(id)),
        (None, None, None) => (Some(id), None),
    };
    let bytes = match (path, name) {
        (_, Some(name)) => settings::variable(name)
            .ok_or_else(|| format!("the environment has no variable `{name}`"))?
            .into_bytes(),
        (path, None) => secret_file(path.unwrap_or(id))?,
    };
    if bytes.len() > SecretValue::LIMIT_BYTES {
        return Err(format!("a secret has {} KiB at most", SecretValue::LIMIT_BYTES / 1024));
    }
    Ok((id.to_owned(), SecretValue::new(bytes)))
}

fn secret_file(path: &str) -> Result<Vec<u8>, String> {
    let limit = u64::try_from(SecretValue::LIMIT_BYTES).expect("it is small") + 1;
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read `{path}`: {error}"))?;
    Ok(bytes)
}

/// `NAME=PLACE`.
fn named_context(text: &str) -> Result<(String, NamedContext), String> {
    let (name, place) = text.split_once('=').ok_or("expected `NAME=PLACE`")?;
    if name.is_empty() || place.is_empty() {
        return Err("expected `NAME=PLACE`".to_owned());
    }
    let context = if let Some(layout) = place.strip_prefix("oci-layout://") {
        // The tag follows the last colon that is not part of the path; the digest an `@`.
        let (path, reference) = match layout.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
                _ => (layout, None),
            },
        };
        if path.is_empty() {
            return Err("the layout's folder is missing".to_owned());
        }
        NamedContext::OciLayout { path: absolute(path)?, reference: reference.map(str::to_owned) }
    } else if let Some(reference) = place.strip_prefix("docker-image://") {
        NamedContext::Image(reference.parse().map_err(|error: oci::ReferenceError| error.to_string())?)
    } else if let Some(stage) = place.strip_prefix("target:") {
        NamedContext::Stage(stage.to_owned())
    } else if let Some(remote) = RemoteSource::parse(place)? {
        match remote {
            RemoteSource::Git(source) => NamedContext::Git(source),
            RemoteSource::Http(_) => {
                return Err(
                    "archives behind a URL come with a later release (git repositories work)".to_owned()
                );
            }
        }
    } else if place.contains("://") {
        return Err(
            "this kind of address is unknown: name a folder, an `oci-layout://` or a repository".to_owned()
        );
    } else if Path::new(place).is_dir() {
        NamedContext::Folder(absolute(place)?)
    } else {
        return Err(format!("`{place}` is not a folder"));
    };
    Ok((name.to_owned(), context))
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("cannot find out the current directory: {error}"))
}

/// docker removes an old file first: after a failure there is none that could be taken for a result.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::message(1, format!("cannot remove the old `{}`: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn write_id(path: &Path, id: &str) -> Result<(), Failure> {
    fs::write(path, id).map_err(|error| {
        Failure::message(1, format!("cannot write the image's ID to `{}`: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_docker_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "s3cret").unwrap();
        let path = path.to_str().unwrap();
        for text in
            [format!("id=a,src={path}"), format!("source={path},id=a"), format!("type=file,id=a,src={path}")]
        {
            let (id, value) = secret(&text).unwrap();
            assert_eq!((id.as_str(), value.reveal()), ("a", &b"s3cret"[..]), "{text}");
        }
        // PATH is a variable that every test has.
        let home = settings::variable("PATH").unwrap();
        for text in ["id=PATH", "id=a,env=PATH", "id=a,type=env,src=PATH", "id=PATH,type=env"] {
            assert_eq!(secret(text).unwrap().1.reveal(), home.as_bytes(), "{text}");
        }
        for text in ["", "a", "src=x", "id=", "id=a,src=/no/such", "id=a,env=NO_SUCH_VARIABLE_", "id=a,x=y"] {
            assert!(secret(text).is_err(), "{text}");
        }
        fs::write(path, vec![b'x'; SecretValue::LIMIT_BYTES + 1]).unwrap();
        assert!(secret(&format!("id=a,src={path}")).unwrap_err().contains("500 KiB"));
    }

    #[test]
    fn named_contexts_are_told_apart_by_their_form() {
        let layout = |path: &str, reference: Option<&str>| NamedContext::OciLayout {
            path: path.into(),
            reference: reference.map(str::to_owned),
        };
        let cases = [
            ("a=oci-layout:///x/y", layout("/x/y", None)),
            ("a=oci-layout:///x/y:12", layout("/x/y", Some("12"))),
            ("a=oci-layout:///x:1/y", layout("/x:1/y", None)),
            ("a=oci-layout:///x/y@sha256:ab", layout("/x/y", Some("sha256:ab"))),
            ("a=docker-image://busybox", NamedContext::Image("busybox".parse().unwrap())),
            ("a=target:build", NamedContext::Stage("build".into())),
            ("a=/", NamedContext::Folder("/".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(named_context(text), Ok(("a".to_owned(), expected)), "{text}");
        }
        for text in ["a", "=x", "a=", "a=https://x", "a=/no/such/folder", "a=docker-image://A"] {
            assert!(named_context(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_dockerfile_is_looked_for_by_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let name = || dockerfile(None, dir.path()).map(|(source, _)| source.name().to_owned());
        assert!(name().unwrap_err().to_string().contains("Containerfile"));
        for file in ["containerfile", "dockerfile", "Containerfile", "Dockerfile"] {
            fs::write(dir.path().join(file), "FROM scratch\n").unwrap();
            assert_eq!(name().unwrap(), file);
        }
        fs::write(dir.path().join("other"), "FROM scratch\n").unwrap();
        assert!(
            dockerfile(Some("other"), dir.path()).is_ok(),
            "in the context when it isn't beside the caller"
        );
        assert!(dockerfile(Some("no-such"), dir.path()).is_err());
    }

    #[test]
    fn a_binary_file_is_no_dockerfile() {
        let error = |bytes: &[u8]| text("Dockerfile", bytes.to_vec()).unwrap_err().to_string();
        assert!(error(b"FROM a\n\x7fELF\0").contains("line 2 has a zero byte"));
        assert!(error(b"FROM a\n\nRUN \xff").contains("line 3 has bytes that are not UTF-8"));
        assert_eq!(text("Dockerfile", b"\xef\xbb\xbfFROM a\r\n".to_vec()).unwrap().text(), "FROM a\r\n");
    }

    #[test]
    fn only_folders_can_be_a_context() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (place, what) in [
            ("-", "stdin"),
            ("https://example.invalid/x.git", "URL"),
            ("git@example.invalid:x", "URL"),
            ("/no/such/folder", "cannot open"),
            (file.path().to_str().unwrap(), "not a folder"),
        ] {
            let failure = context(place).unwrap_err();
            assert!(failure.to_string().contains(what) && failure.exit() == 1, "{failure}");
        }
        assert_eq!(context("/").unwrap(), Path::new("/"));
    }
}
