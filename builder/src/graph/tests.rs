use super::*;

fn options() -> GraphOptions {
    GraphOptions {
        target: None,
        build_args: BTreeMap::new(),
        platform: "linux/arm64".parse().unwrap(),
        build_platform: "linux/amd64".parse().unwrap(),
        named_contexts: BTreeSet::new(),
        network: NetworkMode::Default,
        extra_hosts: Vec::new(),
    }
}

fn with_args(args: &[(&str, &str)]) -> GraphOptions {
    let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    GraphOptions { build_args, ..options() }
}

fn graph_with(text: &str, options: &GraphOptions) -> Result<BuildGraph, GraphErrors> {
    let parsed =
        parser::parse(&Source::new("Dockerfile", text)).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    BuildGraph::new(&parsed.dockerfile, options)
}

fn graph(text: &str) -> BuildGraph {
    graph_with(text, &options()).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

/// Code and marked text of each error.
fn errors(text: &str, options: &GraphOptions) -> Vec<(&'static str, String)> {
    let errors = graph_with(text, options).expect_err(text);
    errors.iter().map(|error| (error.code, text[error.span.range()].to_owned())).collect()
}

fn id(index: usize) -> StageId {
    StageId::new(index)
}

fn image_of(base: &Base) -> (String, String) {
    match base {
        Base::Image(image) => (image.reference.familiar(), image.platform.to_string()),
        other => panic!("{other:?}"),
    }
}

fn needed(graph: &BuildGraph) -> Vec<usize> {
    graph.needed().into_iter().map(StageId::index).collect()
}

#[test]
fn a_base_is_scratch_an_earlier_stage_or_an_image() {
    let graph = graph("FROM debian:12 AS a\nFROM a AS b\nFROM scratch\nFROM A\nFROM debian\n");
    let bases: Vec<&Base> = graph.stages().iter().map(BuildStage::base).collect();
    assert_eq!(image_of(bases[0]), ("debian:12".to_owned(), "linux/arm64".to_owned()));
    assert_eq!(bases[1..4], [&Base::Stage(id(0)), &Base::Scratch, &Base::Stage(id(0))]);
    assert_eq!(image_of(bases[4]).0, "debian:latest");
}

#[test]
fn a_name_means_the_last_stage_before() {
    let graph = graph("FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x /a /b\nFROM c AS x\n");
    assert_eq!(graph.stage(id(2)).base(), &Base::Stage(id(1)), "doubled names: the last one before wins");
    assert_eq!(graph.stage(id(2)).steps()[0].source(), Some(&ContentSource::Stage(id(1))));
    assert_eq!(image_of(graph.stage(id(3)).base()).0, "c:latest");
}

#[test]
fn a_stage_may_bear_the_name_of_its_base_and_a_later_name_gives_a_hint() {
    let graph = graph("FROM node AS node\nFROM tool AS x\nFROM node AS tool\n");
    assert_eq!(image_of(graph.stage(id(0)).base()).0, "node:latest");
    let Base::Image(image) = graph.stage(id(1)).base() else { panic!() };
    assert!(image.hint.as_ref().unwrap().contains("defined later"), "{image:?}");
    assert_eq!(graph.stage(id(2)).base(), &Base::Stage(id(0)));
}

#[test]
fn a_typo_of_a_stage_is_an_image_with_a_hint() {
    let graph = graph("FROM a AS builder\nFROM scratch\nCOPY --from=bulder /x /y\n");
    let Some(ContentSource::Image(image)) = graph.stage(id(1)).steps()[0].source() else { panic!() };
    assert_eq!(image.hint.as_deref(), Some("did you mean the stage `builder`?"));
    assert_eq!(graph.images().len(), 1, "the unneeded stage's base isn't asked for");
}

#[test]
fn global_args_expand_in_from_and_their_defaults_see_those_before() {
    let text = "ARG V=12\nARG IMG=debian:${V}\nARG P\nFROM --platform=${P:-$BUILDPLATFORM} ${IMG}-slim AS a\nFROM $IMG\n";
    let plain = graph(text);
    assert_eq!(image_of(plain.stage(id(0)).base()), ("debian:12-slim".to_owned(), "linux/amd64".to_owned()));
    assert_eq!(image_of(plain.stage(id(1)).base()).1, "linux/arm64");
    let given = graph_with(text, &with_args(&[("V", "13"), ("P", "linux/riscv64")])).unwrap();
    assert_eq!(
        image_of(given.stage(id(0)).base()),
        ("debian:13-slim".to_owned(), "linux/riscv64".to_owned())
    );
    let replaced = graph_with(text, &with_args(&[("IMG", "alpine")])).unwrap();
    assert_eq!(image_of(replaced.stage(id(0)).base()).0, "alpine-slim:latest");
}

#[test]
fn a_default_that_a_build_argument_replaces_is_not_looked_at() {
    let text = "ARG V=${X?needed}\nFROM a:$V\n";
    assert_eq!(
        errors(text, &options()).len(),
        1,
        "the blank tag isn't a second error: {:?}",
        errors(text, &options())
    );
    assert!(graph_with(text, &with_args(&[("V", "1")])).is_ok());
}

#[test]
fn platform_args_can_be_overridden() {
    let text = "FROM --platform=$TARGETPLATFORM a\n";
    assert_eq!(image_of(graph(text).stage(id(0)).base()).1, "linux/arm64");
    let given = graph_with(text, &with_args(&[("TARGETPLATFORM", "linux/s390x")])).unwrap();
    assert_eq!(image_of(given.stage(id(0)).base()).1, "linux/s390x");
    let short = graph("FROM --platform=arm64 a\nFROM --platform=linux a\nFROM --platform=Linux/X86_64 a\n");
    let platforms: Vec<_> = short.stages().iter().map(|stage| stage.platform().to_string()).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64", "linux/amd64"]);
}

#[test]
fn a_stage_on_a_stage_has_its_platform() {
    let graph = graph("FROM --platform=linux/amd64 x AS a\nFROM a\n");
    assert_eq!(graph.stage(id(1)).platform().to_string(), "linux/amd64");
}

#[test]
fn blank_bases_and_platforms_are_errors_with_a_suggestion() {
    let text = "ARG VERSION=1\nFROM $VERSON\nFROM --platform=$BUILDPLATFROM x\nFROM --platform=nonsense x\nFROM ${A?none}\n";
    let found = graph_with("ARG VERSION=1\nFROM $VERSON\n", &options()).unwrap_err();
    assert_eq!(found.first().help.as_deref(), Some("did you mean `${VERSION}`?"));
    let codes: Vec<_> = errors(text, &options());
    let expected = [
        ("blank-base", "$VERSON"),
        ("empty-platform", "$BUILDPLATFROM"),
        ("bad-platform", "nonsense"),
        ("bad-expansion", "${A?none}"),
    ];
    assert_eq!(codes, expected.map(|(code, text)| (code, text.to_owned())), "all at once");
}

#[test]
fn an_unset_argument_in_from_is_warned_of_unless_it_has_a_default() {
    let graph = graph("ARG TAG=1\nFROM a:${TGA}x AS a\nFROM a:${NO:-1}\n");
    let warnings = graph.warnings();
    let found: Vec<_> = warnings.iter().map(|warning| (warning.code, warning.message.as_str())).collect();
    assert_eq!(found, [("UndefinedArgInFrom", "FROM argument 'TGA' is not declared (did you mean TAG?)")]);
}

#[test]
fn from_of_copy_and_mounts() {
    let text = "FROM a AS one\nFROM b\nFROM c\n\
        COPY --from=one /a /b\nCOPY --from=1 /a /b\nCOPY --from=ONE /a /b\nCOPY --from=busybox:1 /a /b\nCOPY a /b\n\
        COPY --from=scratch /a /b\nADD a /b\n\
        RUN --mount=target=/x --mount=from=one,target=/y --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \
        --mount=from=1,target=/z --mount=type=cache,from=one,target=/d true\nENV A=1\n";
    let graph = graph(text);
    let steps = graph.stage(id(2)).steps();
    let stage = |index| ContentSource::Stage(id(index));
    let sources: Vec<_> = steps.iter().map(Step::source).collect();
    assert_eq!(sources[..3], [Some(&stage(0)), Some(&stage(1)), Some(&stage(0))]);
    let Some(ContentSource::Image(image)) = sources[3] else { panic!() };
    assert_eq!(
        (image.reference.familiar().as_str(), image.platform.to_string().as_str()),
        ("busybox:1", "linux/arm64")
    );
    assert_eq!(
        sources[4..],
        [
            Some(&ContentSource::Context),
            Some(&ContentSource::Scratch),
            Some(&ContentSource::Context),
            None,
            None
        ]
    );
    assert_eq!(
        steps[7].mount_sources(),
        [Some(ContentSource::Context), Some(stage(0)), None, None, Some(stage(1)), Some(stage(0))]
    );
    assert_eq!(needed(&graph), [0, 1, 2]);
}

#[test]
fn faults_in_from_are_found_all_at_once() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=7 /a /b\n\
        COPY --from=two /a /b\nCOPY --from=1 /a /b\nCOPY --from=three /a /b\nCOPY --from=2 /a /b\n\
        COPY --from=Bad//Name /a /b\nRUN --mount=from=three,target=/x true\nFROM c AS three\n";
    let expected = [
        ("unknown-stage", "7"),
        ("circular-dependency", "two"),
        ("circular-dependency", "1"),
        ("stage-defined-later", "three"),
        ("stage-defined-later", "2"),
        ("bad-reference", "Bad//Name"),
        ("stage-defined-later", "three"),
    ];
    assert_eq!(errors(text, &options()), expected.map(|(code, text)| (code, text.to_owned())));
}

#[test]
fn the_messages_of_from_say_what_docker_says() {
    let first = |text: &str| graph_with(text, &options()).unwrap_err().first().clone();
    let later = first("FROM a AS one\nCOPY --from=two /a /b\nFROM b AS two\n");
    assert_eq!(later.message, "stage `two` needs to be defined before current stage `one`");
    let own = first("FROM a\nCOPY --from=0 /a /b\n");
    assert_eq!(own.message, "circular dependency detected on stage: `stage-0`");
    let index = first("FROM a\nFROM b\nFROM c\nCOPY --from=9 /a /b\n");
    assert_eq!(
        (index.message.as_str(), index.help.as_deref()),
        ("invalid stage index 9", Some("the earlier stages are 0 to 1"))
    );
}

#[test]
fn only_what_the_target_needs_is_needed() {
    let text = "FROM a AS base\nFROM base AS unused\nFROM b AS tools\nFROM base AS app\nCOPY --from=tools /t /t\n\
        FROM scratch AS last\nRUN --mount=from=app,target=/app true\n";
    assert_eq!(needed(&graph(text)), [0, 2, 3, 4]);
    let target = |name: &str| graph_with(text, &GraphOptions { target: Some(name.to_owned()), ..options() });
    for (name, stages) in
        [("base", vec![0]), ("APP", vec![0, 2, 3]), ("1", vec![0, 1]), ("4", vec![0, 2, 3, 4])]
    {
        let graph = target(name).unwrap();
        assert_eq!(needed(&graph), stages, "{name}");
    }
    let unknown = |name: &str| target(name).unwrap_err().first().clone();
    assert_eq!(unknown("tolls").help.as_deref(), Some("did you mean `tools`?"));
    assert_eq!(unknown("tolls").message, "target stage `tolls` could not be found");
    assert!(unknown("nothing").help.unwrap().starts_with("the stages are `base`, `unused`"));
    assert_eq!(unknown("5").code, "unknown-target");
}

#[test]
fn a_faulty_stage_counts_even_where_it_is_not_needed() {
    assert_eq!(errors("FROM $X\nFROM a\n", &options()).len(), 1);
}

#[test]
fn named_contexts_stand_before_stages_and_images() {
    let contexts = |names: &[&str]| GraphOptions {
        named_contexts: names.iter().map(|&name| name.to_owned()).collect(),
        ..options()
    };
    let named = |name: &str| Base::NamedContext(name.to_owned());
    let of_image = |text: &str, context: &str| {
        graph_with(text, &contexts(&[context])).unwrap().stage(id(0)).base().clone()
    };
    for (from, context) in [
        ("debian", "debian"),
        ("debian", "debian:latest"),
        ("debian:latest", "debian"),
        ("docker.io/library/debian:12", "debian:12"),
        ("debian:12", "docker.io/debian:12"),
        (
            "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
    ] {
        assert_eq!(of_image(&format!("FROM {from}\n"), context), named(context), "{from} {context}");
    }
    assert!(matches!(of_image("FROM debian:12\n", "debian"), Base::Image(_)), "another tag is another image");
    assert_eq!(of_image("FROM scratch\n", "scratch"), Base::Scratch, "scratch can't be replaced");

    let text = "FROM golang AS deps\nRUN make\nFROM deps\nCOPY --from=deps /a /b\nCOPY --from=files /a /b\n";
    let graph = graph_with(text, &contexts(&["deps", "files"])).unwrap();
    assert_eq!(graph.stage(id(0)).base(), &named("deps"), "a stage of that name is replaced");
    assert!(graph.stage(id(0)).steps().is_empty());
    assert_eq!(graph.stage(id(1)).base(), &named("deps"));
    let source = |index: usize| graph.stage(id(1)).steps()[index].source().cloned();
    assert_eq!(source(0), Some(ContentSource::NamedContext("deps".to_owned())));
    assert_eq!(source(1), Some(ContentSource::NamedContext("files".to_owned())));
    assert_eq!(needed(&graph), [1]);
}

#[test]
fn numbers_count_from_of_images_and_steps_with_a_layer() {
    let graph = graph(
        "FROM a AS build\nENV X=1\nRUN make   all\nWORKDIR /x\nUSER u\nFROM build\nCOPY a /b\nFROM scratch\nADD a /b\n",
    );
    let labels = |index: usize| {
        let stage = graph.stage(id(index));
        let steps = stage.steps().iter().map(|step| stage.step_label(step));
        stage.from_label().into_iter().chain(steps).collect::<Vec<_>>()
    };
    assert_eq!(
        labels(0),
        ["[build 1/3] FROM a", "ENV X=1", "[build 2/3] RUN make all", "[build 3/3] WORKDIR /x", "USER u"]
    );
    assert_eq!(labels(1), ["[stage-1 1/1] COPY a /b"]);
    assert_eq!(labels(2), ["[stage-2 1/1] ADD a /b"]);
    let build = graph.stage(id(0));
    assert_eq!(build.step_number(&build.steps()[1]).as_deref(), Some("build 2/3"));
}

#[test]
fn numbers_are_aligned_and_one_stage_needs_no_name() {
    let text = format!("FROM a AS x\n{}", "RUN b\n".repeat(10));
    let graph = graph(&text);
    let stage = graph.stage(id(0));
    assert_eq!(stage.from_label().unwrap(), "[ 1/11] FROM a");
    assert_eq!(stage.step_label(&stage.steps()[9]), "[11/11] RUN b");
}

#[test]
fn a_heredoc_shows_its_first_line() {
    let graph = graph("FROM a\nRUN <<EOF\nset -e\nmake\nEOF\nRUN <<EOF\nmake\nEOF\n");
    let texts: Vec<_> = graph.stage(id(0)).steps().iter().map(Step::text).collect();
    assert_eq!(texts, ["RUN <<EOF (set -e...)", "RUN <<EOF (make)"]);
}

#[test]
fn triggers_of_a_base_stage_come_first() {
    let text = "FROM a AS base\nONBUILD COPY x /x\nONBUILD RUN y\nRUN own\nFROM b AS tools\nFROM base AS mid\nRUN z\n\
        FROM mid\nRUN last\n";
    let graph = graph(text);
    let mid = graph.stage(id(2));
    let labels: Vec<_> = mid.steps().iter().map(|step| mid.step_label(step)).collect();
    assert_eq!(labels, ["[mid 1/3] ONBUILD COPY x /x", "[mid 2/3] ONBUILD RUN y", "[mid 3/3] RUN z"]);
    assert_eq!(mid.steps()[1].origin(), Origin::StageTrigger);
    assert!(text[mid.steps()[1].span().range()].ends_with("RUN y"));
    assert_eq!(graph.stage(id(3)).steps().len(), 1, "triggers fire once");
}

#[test]
fn triggers_of_a_base_image_come_first_and_may_need_further_stages() {
    let text = "FROM a AS tools\nFROM onbuild\nRUN own\n";
    let mut graph = graph(text);
    assert_eq!(needed(&graph), [1]);
    graph.add_triggers(id(1), &["COPY --from=tools /a /b".to_owned(), "ENV A=1".to_owned()]).unwrap();
    assert_eq!(needed(&graph), [0, 1]);
    let stage = graph.stage(id(1));
    let labels: Vec<_> = stage.steps().iter().map(|step| stage.step_label(step)).collect();
    assert_eq!(
        labels,
        ["[stage-1 2/3] ONBUILD COPY --from=tools /a /b", "ONBUILD ENV A=1", "[stage-1 3/3] RUN own"]
    );
    assert_eq!(stage.steps().iter().map(Step::position).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(&text[stage.steps()[0].span().range()], "FROM onbuild", "its place is the FROM");
}

#[test]
fn a_faulty_trigger_is_told_at_the_from() {
    let text = "FROM a\n";
    for (trigger, message) in [
        ("COPPY a b", "in the base image's `ONBUILD COPPY a b`:"),
        ("COPY --from=0 /a /b", "circular dependency detected on stage"),
        ("COPY --from=$X /a /b", "`X` is no global argument"),
    ] {
        let errors = graph(text).add_triggers(id(0), &[trigger.to_owned()]).unwrap_err();
        assert!(errors.first().message.contains(message), "{errors:?}");
        assert_eq!(&text[errors.first().span.range()], "FROM a");
    }
}

#[test]
fn from_of_copy_and_mounts_may_use_global_arguments_alone() {
    let text = "ARG TOOLS=one\nFROM a AS one\nFROM b\nARG LOCAL=one\nCOPY --from=$TOOLS /a /b\nCOPY --from=${NO:-img} /a /b\n";
    let graph = graph(text);
    let sources: Vec<_> = graph.stages()[1].steps()[1..].iter().map(|step| step.source().unwrap()).collect();
    assert_eq!(sources[0], &ContentSource::Stage(id(0)));
    assert!(matches!(sources[1], ContentSource::Image(_)), "{sources:?}");
    let local =
        "ARG TOOLS=x\nFROM a\nARG LOCAL=x\nCOPY --from=$LOCAL /a /b\nRUN --mount=from=$TOLS,target=/x y\n";
    let expected = [("variable-in-from", "$LOCAL"), ("variable-in-from", "$TOLS")];
    assert_eq!(errors(local, &options()), expected.map(|(code, text)| (code, text.to_owned())));
}

#[test]
fn a_check_above_an_instruction_holds_for_it_and_above_from_for_the_stage() {
    let text = "\n# check=skip=UndefinedArgInFrom for a reason\nFROM a:x$T\nFROM a:y$T\n";
    let warnings = graph(text).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let graph = graph("FROM a\n# check=skip=X,Y why\nENV A=1\nENV B=1\n# check=skip=Z\n\nFROM b\n");
    let at = |text: &str| Some(Span::new(text.len(), text.len() + 1));
    assert!(graph.skips("Y", at("FROM a\n# check=skip=X,Y why\n")));
    assert!(!graph.skips("Y", at("FROM a\n# check=skip=X,Y why\nENV A=1\n")), "the next one has its own");
    assert!(!graph.skips("why", at("FROM a\n# check=skip=X,Y why\n")));
    assert!(!graph.skips("Z", Some(graph.stages()[1].from())), "an empty line is between them");
}

#[test]
fn build_arguments_that_nothing_declares_are_told() {
    let text = "ARG G=1\nFROM a AS x\nARG S\nFROM b\nARG VERSION=1\n";
    let args = [
        ("G", "1"),
        ("S", "1"),
        ("VERSON", "1"),
        ("OTHER", "1"),
        ("http_proxy", "p"),
        ("BUILDKIT_INLINE_CACHE", "1"),
        ("TARGETARCH", "x"),
        ("SOURCE_DATE_EPOCH", "0"),
    ];
    let graph = graph_with(text, &with_args(&args)).unwrap();
    let messages: Vec<_> = graph.warnings().into_iter().map(|warning| warning.message).collect();
    assert_eq!(
        messages,
        [
            "one or more build-args [OTHER VERSON] were not consumed (did you mean `VERSION`?)",
            "the build-arg BUILDKIT_INLINE_CACHE has no effect in calque"
        ]
    );
    assert_eq!(graph.source_date_epoch(), Some("0"));
}

#[test]
fn checks_that_are_skipped_say_nothing() {
    let codes = |head: &str, args: &[(&str, &str)]| {
        let graph = graph_with(&format!("{head}FROM a:x$T\n"), &with_args(args)).unwrap();
        graph.warnings().into_iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    assert_eq!(codes("", &[]), ["UndefinedArgInFrom"]);
    assert!(codes("# check=skip=UndefinedArgInFrom\n", &[]).is_empty());
    let argument = ("BUILDKIT_DOCKERFILE_CHECK", "skip=all");
    assert!(
        codes("# check=skip=Other\n", &[argument]).is_empty(),
        "the argument stands in the directive's place"
    );
    let graph = graph_with("# check=error=true\nFROM a\n", &options()).unwrap();
    assert!(graph.check().error);
    assert_eq!(
        errors("FROM a\n", &with_args(&[("BUILDKIT_DOCKERFILE_CHECK", "nonsense")]))[0].0,
        "invalid-check"
    );
}

#[test]
fn source_date_epoch_may_stand_in_the_file() {
    assert_eq!(graph("ARG SOURCE_DATE_EPOCH=7\nFROM a\n").source_date_epoch(), Some("7"));
    assert_eq!(graph("ARG SOURCE_DATE_EPOCH\nFROM a\n").source_date_epoch(), None);
    let given =
        graph_with("ARG SOURCE_DATE_EPOCH=7\nFROM a\n", &with_args(&[("SOURCE_DATE_EPOCH", "9")])).unwrap();
    assert_eq!(given.source_date_epoch(), Some("9"));
}

#[test]
fn target_stage_is_the_target_or_the_last_name() {
    let of = |text: &str, target: Option<&str>| {
        let options = GraphOptions { target: target.map(str::to_owned), ..options() };
        graph_with(text, &options).unwrap().global().get("TARGETSTAGE").map(str::to_owned)
    };
    assert_eq!(of("FROM a AS x\nFROM b AS y\n", None).as_deref(), Some("y"));
    assert_eq!(of("FROM a AS x\nFROM b AS y\n", Some("x")).as_deref(), Some("x"));
    assert_eq!(of("FROM a\n", None).as_deref(), Some("default"));
}

#[test]
fn every_stage_depends_on_earlier_ones_only() {
    use proptest::prelude::*;
    let word = prop::sample::select(vec!["a", "b", "c", "0", "1", "2", "3", "img"]);
    let stage = (
        word.clone(),
        prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
        prop::collection::vec(word, 0..3),
    );
    let file = prop::collection::vec(stage, 1..6);
    proptest!(|(stages in file)| {
        let mut text = String::new();
        for (base, name, sources) in &stages {
            text.push_str(&format!("FROM {base}"));
            if let Some(name) = name {
                text.push_str(&format!(" AS {name}"));
            }
            text.push('\n');
            for source in sources {
                text.push_str(&format!("COPY --from={source} /x /y\n"));
            }
        }
        if let Ok(graph) = graph_with(&text, &options()) {
            for stage in graph.stages() {
                prop_assert!(stage.dependencies().iter().all(|other| *other < stage.id()), "{}", text);
            }
            let needed = graph.needed();
            prop_assert!(needed.contains(&graph.target()));
            prop_assert!(needed.iter().all(|id| graph.stage(*id).dependencies().iter().all(|other| needed.contains(other))));
        }
    });
}
