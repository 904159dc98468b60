use std::collections::{BTreeMap, BTreeSet};

use oci::RunConfig;
use parser::{CacheSharing, Source};

use super::*;
use crate::NetworkMode;
use crate::expanded::{Chmod, CopySourceStep, CopyStep, Mount, RunStep, VariableKind};
use crate::graph::{ContentSource, GraphOptions};

fn options(args: &[(&str, &str)]) -> GraphOptions {
    GraphOptions {
        target: None,
        build_args: args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        platform: "linux/amd64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        named_contexts: BTreeSet::new(),
        network: NetworkMode::Default,
        extra_hosts: vec!["db".to_owned()],
    }
}

fn graph(text: &str, args: &[(&str, &str)]) -> BuildGraph {
    let parsed =
        parser::parse(&Source::new("Dockerfile", text)).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    BuildGraph::new(&parsed.dockerfile, &options(args)).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn base_config() -> ImageConfig {
    let mut config = ImageConfig::scratch("linux/amd64".parse().unwrap());
    config.config.env = vec!["PATH=/bin".to_owned(), "BASE=b".to_owned()];
    config
}

/// The last stage of a Dockerfile, all of it expanded and applied; earlier stages it stands on, too.
struct Built {
    state: StageState,
    steps: Vec<ExpandedStep>,
    warnings: Vec<String>,
}

fn build(text: &str, args: &[(&str, &str)]) -> Built {
    build_stage(&graph(text, args), None).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn build_stage(graph: &BuildGraph, stage: Option<StageId>) -> Result<Built, ParseError> {
    let id = stage.unwrap_or_else(|| graph.target());
    let image = base_config();
    let parent = match graph.stage(id).base() {
        crate::graph::Base::Stage(parent) => Some(build_stage(graph, Some(*parent))?),
        _ => None,
    };
    let base = match (&parent, graph.stage(id).base()) {
        (Some(parent), _) => BaseState::Stage(&parent.state),
        (None, crate::graph::Base::Scratch) => BaseState::Scratch,
        (None, _) => BaseState::Image(&image),
    };
    let mut built =
        Built { state: StageState::new(graph, id, base), steps: Vec::new(), warnings: Vec::new() };
    for step in graph.stage(id).steps() {
        let expansion = built.state.expand(graph, step)?;
        built.state.apply(&expansion.step, Some("2024-01-01T00:00:00Z"));
        built.warnings.extend(expansion.warnings.iter().map(|warning| warning.message.clone()));
        built.steps.push(expansion.step);
    }
    Ok(built)
}

/// Code and marked text of the fault in the last stage.
fn fault(text: &str) -> (&'static str, String) {
    match build_stage(&graph(text, &[]), None) {
        Err(error) => (error.code, text[error.span.range()].to_owned()),
        Ok(_) => panic!("no fault: {text}"),
    }
}

impl Built {
    fn runs(&self) -> Vec<&RunStep> {
        self.steps
            .iter()
            .filter_map(|step| if let ExpandedStep::Run(run) = step { Some(&**run) } else { None })
            .collect()
    }

    fn run(&self) -> &RunStep {
        self.runs().last().copied().expect("a RUN")
    }

    fn copy(&self) -> &CopyStep {
        let mut copies = self.steps.iter().filter_map(|step| match step {
            ExpandedStep::Copy(copy) | ExpandedStep::Add(copy) => Some(&**copy),
            _ => None,
        });
        copies.next_back().expect("a COPY or ADD")
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.state.scope().get(name)
    }

    fn config(&self) -> &RunConfig {
        &self.state.config().config
    }

    fn history(&self) -> Vec<&str> {
        self.state.config().history.iter().map(|entry| entry.created_by.as_deref().unwrap()).collect()
    }
}

#[test]
fn a_global_argument_is_not_seen_until_it_is_declared() {
    let text = |line: &str| format!("ARG G=g\nFROM a\n{line}\nENV R=[$G]\n");
    assert_eq!(build(&text(""), &[]).value("R"), Some("[]"));
    assert_eq!(build(&text("ARG G"), &[]).value("R"), Some("[g]"));
    assert_eq!(build(&text("ARG G=own"), &[]).value("R"), Some("[own]"), "a default of the stage wins");
    assert_eq!(build(&text("ARG G"), &[("G", "given")]).value("R"), Some("[given]"));
    assert_eq!(build(&text("ARG G=own"), &[("G", "given")]).value("R"), Some("[given]"));
    assert_eq!(build(&text("ARG NOPE"), &[]).value("NOPE"), None, "declared is not set");
}

#[test]
fn platform_arguments_need_a_declaration_too() {
    let built = build("FROM a\nENV A=$TARGETARCH\nARG TARGETARCH\nENV B=$TARGETARCH\n", &[]);
    assert_eq!((built.value("A"), built.value("B")), (Some(""), Some("amd64")));
}

#[test]
fn arguments_reach_the_stages_that_are_built_on_theirs_and_no_others() {
    let text = "FROM a AS x\nARG V=1\nENV E=e\nFROM x AS y\nRUN y\nFROM a\nRUN z\n";
    let graph = graph(text, &[]);
    let child = build_stage(&graph, Some(graph.stages()[1].id())).unwrap();
    assert_eq!(child.run().env["V"].value, "1");
    assert_eq!(child.run().history, "RUN |1 V=1 /bin/sh -c y # buildkit");
    let stranger = build_stage(&graph, None).unwrap();
    assert!(!stranger.run().env.contains_key("V") && !stranger.run().env.contains_key("E"));
}

#[test]
fn env_and_arg_shadow_each_other_by_order() {
    // BuildKit's code, which the docs' sentence "ENV always overrides ARG" doesn't say.
    let later_env = build("FROM a\nARG X=arg\nENV X=env\nRUN r\n", &[("X", "given")]);
    assert_eq!((later_env.value("X"), later_env.run().env["X"].kind), (Some("env"), VariableKind::Env));
    assert_eq!(later_env.run().history, "RUN |1 X=env /bin/sh -c r # buildkit");

    let later_arg = build("FROM a\nENV X=env\nARG X=arg\nRUN r\n", &[]);
    assert_eq!((later_arg.value("X"), later_arg.run().env["X"].kind), (Some("arg"), VariableKind::Arg));
    assert_eq!(later_arg.config().env_value("X"), Some("env"), "the image keeps its ENV");

    let unset = build("FROM a\nENV X=env\nARG X\nRUN r\n", &[]);
    assert_eq!(unset.value("X"), Some("env"), "an ARG without a value changes nothing");

    let child = build("FROM a AS p\nENV X=env\nARG X=arg\nFROM p\nRUN r\n", &[]);
    assert_eq!(child.value("X"), Some("env"), "a child starts from the image's ENV");
}

#[test]
fn all_words_of_an_instruction_see_the_environment_before_it() {
    let built = build("FROM a\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nLABEL l=$abc m=$l\n", &[]);
    assert_eq!((built.value("def"), built.value("ghi")), (Some("hello"), Some("bye")));
    assert_eq!((built.config().labels["l"].as_str(), built.config().labels["m"].as_str()), ("bye", ""));
}

#[test]
fn defaults_of_one_arg_line_see_those_before_on_it() {
    let built = build("FROM a\nARG A=1 B=$A-$BASE C=$B\nENV R=$C\n", &[]);
    assert_eq!(built.value("R"), Some("1-b"));
    assert_eq!(built.history()[0], "ARG A=1 B=1-b C=1-b");
    let given = build("FROM a\nARG A=${X?needed}\n", &[("A", "2")]);
    assert_eq!(given.value("A"), Some("2"), "a replaced default isn't looked at");
}

#[test]
fn run_has_env_and_args_in_order_of_names_and_the_default_path() {
    let built = build("FROM scratch\nENV Z=1 A=2\nARG M=3\nRUN r\n", &[]);
    let env: Vec<_> =
        built.run().env.iter().map(|(name, it)| (name.as_str(), it.value.as_str(), it.kind)).collect();
    let (arg, set) = (VariableKind::Arg, VariableKind::Env);
    assert_eq!(
        env,
        [("A", "2", set), ("M", "3", arg), ("PATH", RunConfig::DEFAULT_PATH, set), ("Z", "1", set)]
    );
    assert_eq!(built.run().workdir, "/");
}

#[test]
fn run_text_is_never_expanded() {
    let built = build("FROM a\nENV X=1\nRUN echo $X '$Y' \\$X\nRUN [\"echo\", \"$X\"]\nCMD echo $X\n", &[]);
    assert_eq!(built.runs()[0].argv, ["/bin/sh", "-c", "echo $X '$Y' \\$X"]);
    assert_eq!(built.runs()[1].argv, ["echo", "$X"]);
    assert_eq!(built.config().cmd.as_deref().unwrap(), ["/bin/sh", "-c", "echo $X"]);
    assert!(built.warnings.is_empty());
}

#[test]
fn shell_stands_before_shell_forms_only() {
    let built = build(
        "FROM a\nSHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN a | b\nRUN [\"c\"]\nCMD d\nENTRYPOINT e\n",
        &[],
    );
    assert_eq!(built.runs()[0].argv, ["/bin/bash", "-eo", "pipefail", "-c", "a | b"]);
    assert_eq!(built.runs()[1].argv, ["c"]);
    assert_eq!(built.config().cmd.as_deref().unwrap(), ["/bin/bash", "-eo", "pipefail", "-c", "d"]);
    assert_eq!(built.config().entrypoint.as_deref().unwrap().last().unwrap(), "e");
    assert_eq!(built.config().shell.as_deref().unwrap()[0], "/bin/bash");
}

#[test]
fn a_heredoc_that_stands_alone_is_the_script() {
    let built = build("FROM a\nENV X=1\nRUN <<EOF\necho $X\nmake\nEOF\n", &[]);
    assert_eq!(built.run().argv, ["/bin/sh", "-c", "echo $X\nmake\n"]);
    assert!(built.run().script.is_none());
    let quoted = build("FROM a\nRUN <<-'EOF'\n\techo\n\tEOF\n", &[]);
    assert_eq!(quoted.run().argv, ["/bin/sh", "-c", "echo\n"]);
}

#[test]
fn a_heredoc_with_a_shebang_is_a_file() {
    let built = build("FROM a\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n", &[]);
    assert_eq!(built.run().argv, ["/dev/pipes/EOF"]);
    let script = built.run().script.as_ref().unwrap();
    assert_eq!(
        (script.path.as_str(), script.body.as_str()),
        ("/dev/pipes/EOF", "#!/usr/bin/python3\nprint(1)\n")
    );
}

#[test]
fn heredocs_beside_a_command_go_to_the_shell() {
    let built = build("FROM a\nRUN cat <<A - <<B > /x\none\nA\ntwo\nB\nRUN python3 <<EOF\n#!no\nEOF\n", &[]);
    assert_eq!(built.runs()[0].argv[2], "cat <<A - <<B > /x\none\nA\ntwo\nB");
    assert_eq!(built.runs()[1].argv[2], "python3 <<EOF\n#!no\nEOF");
}

#[test]
fn proxies_reach_run_but_neither_history_nor_scope_unless_declared() {
    let args = [("HTTP_PROXY", "http://p"), ("no_proxy", "x")];
    let built = build("FROM a\nRUN r\n", &args);
    let proxies: Vec<_> = built.run().proxy_env.keys().map(String::as_str).collect();
    assert_eq!(proxies, ["HTTP_PROXY", "NO_PROXY", "http_proxy", "no_proxy"]);
    assert_eq!(built.run().history, "RUN /bin/sh -c r # buildkit");
    assert!(!built.run().env.contains_key("HTTP_PROXY"));

    let declared = build("FROM a\nARG HTTP_PROXY\nENV no_proxy=mine\nRUN r\n", &args);
    assert_eq!(declared.run().env["HTTP_PROXY"].value, "http://p");
    assert_eq!(declared.run().proxy_env.keys().collect::<Vec<_>>(), ["NO_PROXY", "http_proxy"]);
    assert_eq!(declared.run().history, "RUN |1 HTTP_PROXY=http://p /bin/sh -c r # buildkit");
}

#[test]
fn secrets_in_arguments_are_warned_of_and_hidden_in_history() {
    let built = build(
        "FROM a\nARG API_TOKEN\nARG PUBLIC_KEY=k\nENV DB_PASSWORD=x\nRUN r\n",
        &[("API_TOKEN", "hunter2")],
    );
    assert_eq!(built.run().env["API_TOKEN"].value, "hunter2", "RUN has it");
    assert_eq!(built.run().history, "RUN |2 API_TOKEN=**** PUBLIC_KEY=k /bin/sh -c r # buildkit");
    assert!(!built.history().iter().any(|text| text.contains("hunter2")));
    assert_eq!(built.warnings.len(), 2, "{:?}", built.warnings);
}

#[test]
fn an_undefined_variable_is_warned_of_once_with_a_suggestion() {
    let built =
        build("FROM a\nARG VERSION=1\nARG UNSET\nLABEL v=$VERSON-$VERSON u=$UNSET d=${D:-x} e=\\$E\n", &[]);
    assert_eq!(built.warnings, ["Usage of undefined variable '$VERSON' (did you mean $VERSION?)"]);
}

#[test]
fn checks_that_are_skipped_say_nothing() {
    let text = |check: &str| format!("# check={check}\nFROM a\nARG API_TOKEN\nENV A=$B\n");
    assert_eq!(build(&text("error=false"), &[]).warnings.len(), 2);
    assert_eq!(build(&text("skip=UndefinedVar"), &[]).warnings.len(), 1);
    assert!(build(&text("skip=all"), &[]).warnings.is_empty());
}

#[test]
fn workdir_is_relative_to_the_one_before() {
    let built =
        build("FROM a\nENV D=d\nWORKDIR x/./y\nWORKDIR ../$D\nUSER u\nWORKDIR /\nWORKDIR ../..//e/\n", &[]);
    let paths: Vec<_> = built
        .steps
        .iter()
        .filter_map(|step| match step {
            ExpandedStep::Workdir(workdir) => {
                Some((workdir.path.as_str(), workdir.user.as_str(), step.makes_layer()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(paths, [("/x/y", "", true), ("/x/d", "", true), ("/", "u", false), ("/e", "u", true)]);
    assert_eq!(built.config().working_dir, "/e");
    let empty: Vec<bool> = built.state.config().history.iter().map(|entry| entry.empty_layer).collect();
    assert_eq!(empty, [true, false, false, true, true, false]);
}

#[test]
fn copy_is_expanded_and_its_target_absolute() {
    let built =
        build("FROM a\nENV S=src T=dst\nWORKDIR /w\nCOPY --chown=$S:1 --chmod=0755 $S/a ${S}/b* $T/\n", &[]);
    let copy = built.copy();
    let paths: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySourceStep::Path { text, .. } | CopySourceStep::Remote { text, .. } => text.as_str(),
            CopySourceStep::Document { name, .. } => name.as_str(),
        })
        .collect();
    assert_eq!(paths, ["src/a", "src/b*"]);
    assert_eq!((copy.target.as_str(), copy.chown.as_deref()), ("/w/dst/", Some("src:1")));
    assert_eq!(
        (&copy.chmod, &copy.from, copy.unpack),
        (&Some(Chmod::Mode(0o755)), &ContentSource::Context, false)
    );
    assert_eq!(copy.history, "COPY --chown=src:1 --chmod=0755 src/a src/b* dst/ # buildkit");
}

#[test]
fn targets_keep_their_slash() {
    let target =
        |word: &str| build(&format!("FROM a\nWORKDIR /w\nCOPY x {word}\n"), &[]).copy().target.clone();
    for (word, expected) in [
        ("y", "/w/y"),
        ("y/", "/w/y/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("..", "/"),
        ("/a/../b", "/b"),
        ("/", "/"),
        ("/a/.", "/a/"),
    ] {
        assert_eq!(target(word), expected, "{word}");
    }
}

#[test]
fn documents_of_copy_are_expanded_unless_quoted() {
    let built = build("FROM a\nENV X=1\nCOPY <<A <<'B' f /d/\nv=$X \"q\"\nA\nv=$X\nB\n", &[]);
    let sources = &built.copy().sources;
    assert!(matches!(&sources[0], CopySourceStep::Path { text, .. } if text == "f"), "paths come first");
    assert!(
        matches!(&sources[1], CopySourceStep::Document { name, body, .. } if name == "A" && body == "v=1 \"q\"\n")
    );
    assert!(
        matches!(&sources[2], CopySourceStep::Document { name, body, .. } if name == "B" && body == "v=$X\n")
    );
    assert_eq!(built.copy().history, "COPY f <<A <<B /d/ # buildkit");
}

#[test]
fn add_unpacks_unless_it_is_told_not_to() {
    assert!(build("FROM scratch\nADD base.tar /\n", &[]).copy().unpack);
    assert!(!build("FROM scratch\nADD --unpack=false base.tar /\n", &[]).copy().unpack);
    assert_eq!(build("FROM scratch\nADD base.tar /\n", &[]).history(), ["ADD base.tar / # buildkit"]);
}

#[test]
fn mounts_have_dockers_defaults() {
    let built = build(
        "FROM x AS s\nFROM a\nENV D=dir\nWORKDIR /w\n\
         RUN --mount=target=$D --mount=type=bind,from=s,source=a/../b,target=/t,rw \
         --mount=type=cache,target=/c --mount=type=cache,target=c2,id=$D,sharing=locked,mode=0700,uid=1,gid=2,ro \
         --mount=type=tmpfs,target=/m,size=64m --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOK \
         --mount=type=secret,target=/etc/k,mode=0444,required r\n",
        &[],
    );
    let mounts: Vec<Mount> = built.run().mounts.iter().map(|step| step.mount.clone()).collect();
    let s = |text: &str| text.to_owned();
    let secret = |id: &str, target: Option<&str>, env: Option<&str>, required, mode| Mount::Secret {
        id: s(id),
        target: target.map(str::to_owned),
        env: env.map(str::to_owned),
        required,
        mode,
        uid: 0,
        gid: 0,
    };
    let stage = ContentSource::Stage(crate::graph::StageId::new(0));
    let expected = [
        Mount::Bind { target: s("/w/dir"), from: ContentSource::Context, source: s("/"), readonly: true },
        Mount::Bind { target: s("/t"), from: stage, source: s("/b"), readonly: false },
        Mount::Cache {
            target: s("/c"),
            id: s("/c"),
            sharing: CacheSharing::Shared,
            from: None,
            source: s("/"),
            readonly: false,
            mode: 0o755,
            uid: 0,
            gid: 0,
        },
        Mount::Cache {
            target: s("/w/c2"),
            id: s("dir"),
            sharing: CacheSharing::Locked,
            from: None,
            source: s("/"),
            readonly: true,
            mode: 0o700,
            uid: 1,
            gid: 2,
        },
        Mount::Tmpfs { target: s("/m"), size_bytes: Some(64 << 20) },
        secret("tok", Some("/run/secrets/tok"), None, false, 0o400),
        secret("tok", None, Some("TOK"), false, 0o400),
        secret("k", Some("/etc/k"), None, true, 0o444),
    ];
    for (mount, expected) in mounts.iter().zip(&expected) {
        assert_eq!(mount, expected);
    }
    assert_eq!(mounts.len(), expected.len());
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let table = [
        ("RUN --security=insecure r", "`RUN --security=insecure`"),
        ("RUN --device=nvidia.com/gpu=all r", "`RUN --device`"),
        ("RUN --mount=type=ssh r", "`RUN --mount=type=ssh`"),
    ];
    for (line, what) in table {
        let error = build_stage(&graph(&format!("FROM a\n{line}\n"), &[]), None).err().expect(line);
        assert_eq!(
            (error.code, error.message),
            ("unsupported", format!("{what} is not supported yet")),
            "{line}"
        );
    }
}

#[test]
fn faults_of_values_have_their_place() {
    let table = [
        ("EXPOSE 80 x", "bad-port", "x"),
        ("EXPOSE 80/http", "bad-port", "80/http"),
        ("STOPSIGNAL ${S:-NOPE}", "bad-signal", "${S:-NOPE}"),
        ("ENV $E=1", "blank-name", "$E"),
        ("VOLUME $E", "blank-volume", "$E"),
        ("WORKDIR $E", "blank-workdir", "$E"),
        ("COPY --chmod=999 a b", "bad-chmod", "999"),
        ("COPY --link --chown=app a b", "named-owner-of-link", "app"),
        ("COPY a b c", "several-into-file", "c"),
        ("ADD git@example.org:x/y.git /x", "bad-remote", "git@example.org:x/y.git"),
        ("ENV U=http://u:p@h/x\nADD $U /x", "bad-remote", "$U"),
        ("ADD --checksum=sha256:0 http://h/a b", "bad-checksum", "sha256:0"),
        ("ADD --checksum=main git://h/a b", "bad-checksum", "main"),
        ("ADD --checksum=sha256:0 http://h/a http://h/b c/", "checksum-of-many", "sha256:0"),
        ("ADD --keep-git-dir http://h/a b", "keep-git-dir-of-local", "ADD --keep-git-dir http://h/a b"),
        ("COPY https://example.org/a b", "remote-source", "https://example.org/a"),
        ("ADD --checksum=sha256:0 a b", "checksum-of-local", "sha256:0"),
        ("ADD --keep-git-dir a b", "keep-git-dir-of-local", "ADD --keep-git-dir a b"),
        ("RUN --mount=target=/ r", "bad-mount-target", "/"),
        ("RUN --mount=type=cache,target=/c,uid=x r", "bad-mount-option", "x"),
        ("LABEL a=${B?none}", "bad-expansion", "${B?none}"),
    ];
    for (line, code, place) in table {
        assert_eq!(fault(&format!("FROM a\n{line}\n")), (code, place.to_owned()), "{line}");
    }
}

#[test]
fn a_link_takes_numeric_owners() {
    assert!(build("FROM a\nCOPY --link --chown=1000:1000 a b\n", &[]).copy().link);
}

#[test]
fn the_host_name_and_the_network_come_from_the_build() {
    let built = build(
        "FROM a\nRUN r\nRUN --network=none r\nRUN --network=host r\n",
        &[("BUILDKIT_SANDBOX_HOSTNAME", "h")],
    );
    let networks: Vec<_> = built.runs().iter().map(|run| run.network).collect();
    assert_eq!(networks, [NetworkMode::Default, NetworkMode::None, NetworkMode::Host]);
    assert_eq!((built.run().hostname.as_str(), built.run().extra_hosts.join(" ").as_str()), ("h", "db"));
    assert_eq!(build("FROM a\nRUN r\n", &[]).run().hostname, "buildkitsandbox");

    let text = "FROM a\nRUN r\nRUN --network=default r\n";
    let parsed = parser::parse(&Source::new("Dockerfile", text)).unwrap();
    let graph =
        BuildGraph::new(&parsed.dockerfile, &GraphOptions { network: NetworkMode::None, ..options(&[]) })
            .unwrap();
    let built = build_stage(&graph, None).unwrap();
    assert!(built.runs().iter().all(|run| run.network == NetworkMode::None));
}

#[test]
fn the_cmd_of_a_base_stage_is_inherited_and_an_entrypoint_drops_it() {
    let text = "FROM a AS p\nCMD [\"c\"]\nFROM p\nENTRYPOINT [\"e\"]\n";
    assert_eq!(build(text, &[]).config().cmd, None);
    let same = build("FROM a\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n", &[]);
    assert_eq!(same.config().cmd.as_deref().unwrap(), ["c"]);
    assert_eq!(build("FROM a AS p\nCMD [\"c\"]\nFROM p\n", &[]).config().cmd.as_deref().unwrap(), ["c"]);
}

#[test]
fn a_config_is_whole_and_its_history_has_the_times_given() {
    let built = build(
        "FROM scratch\nMAINTAINER me\nLABEL a=1\nEXPOSE 80 8000-8001/udp\nVOLUME [\"/v\"]\nUSER u:g\nSTOPSIGNAL INT\n\
         HEALTHCHECK --interval=1s CMD true\nONBUILD RUN x\nCOPY a /\n",
        &[],
    );
    let config = built.state.config();
    assert_eq!(config.author.as_deref(), Some("me"));
    assert_eq!(built.config().exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "8000/udp", "8001/udp"]);
    assert_eq!((built.config().user.as_str(), built.config().stop_signal.as_str()), ("u:g", "INT"));
    assert_eq!(built.config().on_build, ["RUN x"]);
    assert_eq!(built.config().healthcheck.as_ref().unwrap().interval, 1_000_000_000);
    assert_eq!(config.history.len(), 8, "ONBUILD has no entry: {:?}", built.history());
    let last = config.history.last().unwrap();
    assert_eq!(last.comment.as_deref(), Some("calque.dockerfile.v1"));
    assert_eq!((last.created.as_deref(), last.empty_layer), (Some("2024-01-01T00:00:00Z"), false));
    assert!(config.history[..7].iter().all(|entry| entry.empty_layer));
    assert_eq!(config.created.as_deref(), Some("2024-01-01T00:00:00Z"));
}

#[test]
fn a_child_has_no_triggers_of_its_base() {
    let built = build("FROM a AS p\nONBUILD ENV X=1\nFROM p\nENV Y=$X\n", &[]);
    assert!(built.config().on_build.is_empty());
    assert_eq!(built.value("Y"), Some("1"), "the trigger ran first");
}

#[test]
fn a_fault_in_an_images_trigger_is_told_at_the_from() {
    let text = "FROM a\nRUN r\n";
    let mut graph = graph(text, &[]);
    graph.add_triggers(graph.target(), &["LABEL aaaaaaaaaaaaaaaaaaaaaaaaa=${B?none}".to_owned()]).unwrap();
    let error = build_stage(&graph, None).err().unwrap();
    assert_eq!(&text[error.span.range()], "FROM a");
}

#[test]
fn the_environment_at_a_step_is_what_was_set_before_it_in_any_order() {
    use proptest::prelude::*;
    // ENV and ARG lines in any order against a plain map: the later one wins, an ARG without a value changes nothing.
    let line = (any::<bool>(), prop::sample::select(vec!["A", "B", "C"]), prop::option::of("[a-z]{1,3}"));
    proptest!(|(lines in prop::collection::vec(line, 0..12))| {
        let mut text = String::from("FROM scratch\n");
        let mut expected = BTreeMap::new();
        for (is_env, name, value) in &lines {
            match (is_env, value) {
                (true, value) => {
                    let value = value.clone().unwrap_or_default();
                    text.push_str(&format!("ENV {name}={value}\n"));
                    expected.insert((*name).to_owned(), value);
                }
                (false, Some(value)) => {
                    text.push_str(&format!("ARG {name}={value}\n"));
                    expected.insert((*name).to_owned(), value.clone());
                }
                (false, None) => text.push_str(&format!("ARG {name}\n")),
            }
        }
        text.push_str("RUN r\n");
        let built = build(&text, &[]);
        let mut env: BTreeMap<_, _> = built.run().env.iter().map(|(name, it)| (name.clone(), it.value.clone())).collect();
        env.remove("PATH");
        prop_assert_eq!(env, expected, "{}", text);
    });
}
