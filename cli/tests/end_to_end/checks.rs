//! `build --check`, `build --call` and `dockerfile parse|fmt`.

use std::fs;

use crate::harness::{Calque, Kernel};

/// Each of BuildKit's 22 rules in one Dockerfile, but the one of images for another platform.
const ALL_RULES: &str = r#"# check=experimental=InvalidDefinitionDescription
ARG TAG
# not its name
FROM busybox:x${TAG}$NOWHERE AS Build
MAINTAINER me
env LEGACY value
ENV PASSWORD=x A=$UNDEFINED
WORKDIR relative
EXPOSE 80/TCP
EXPOSE 127.0.0.1:80:80
COPY ignored.txt /
CMD one
CMD two \

  three
FROM --platform=$TARGETPLATFORM busybox as build
FROM --platform=linux/amd64 busybox AS scratch
FROM busybox:${TAG}
"#;

#[test]
#[ignore = "root: opens a store"]
fn root_every_rule_of_buildkits_is_checked() {
    let calque = Calque::new(Kernel::Newest);
    let context = calque.context(
        "rules",
        &[("Dockerfile", ALL_RULES), (".dockerignore", "ignored.txt\n"), ("ignored.txt", "")],
    );
    let arguments = ["build", "--call=check,format=json", "--build-arg=TAG=1", "--platform=linux/amd64"];
    let outcome = calque.run(arguments.iter().copied().chain([context.to_str().unwrap()]));
    outcome.assert_code(1);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let warnings = found["warnings"].as_array().unwrap();
    let mut names: Vec<&str> = warnings.iter().map(|warning| warning["ruleName"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names,
        [
            "ConsistentInstructionCasing",
            "CopyIgnoredFile",
            "DuplicateStageName",
            "ExposeInvalidFormat",
            "ExposeProtoCasing",
            "FromAsCasing",
            "FromPlatformFlagConstDisallowed",
            "InvalidDefaultArgInFrom",
            "InvalidDefinitionDescription",
            "JSONArgsRecommended",
            "LegacyKeyValueFormat",
            "MaintainerDeprecated",
            "MultipleInstructionsDisallowed",
            "NoEmptyContinuation",
            "RedundantTargetPlatform",
            "ReservedStageName",
            "SecretsUsedInArgOrEnv",
            "StageNameCasing",
            "UndefinedArgInFrom",
            "WorkdirRelativePath",
        ],
        "UndefinedVar needs the image"
    );
    let first = &warnings[0];
    assert!(first["description"].is_string() && first["detail"].is_string(), "{first}");
    assert!(first["location"]["ranges"][0]["start"]["line"].is_u64(), "{first}");
}

#[test]
#[ignore = "root: opens a store"]
fn root_check_tells_each_warning_with_its_place_and_exits_with_1() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let text = "FROM busybox\nARG VERSION=1\nRUN echo $VERSON\nLABEL v=$VERSON\nCMD run\n";
    let context = calque.context("check", &[("Dockerfile", text)]);
    let context = context.to_str().unwrap();
    let outcome = calque.run(["build", "--check", context]);
    outcome.assert_code(1);
    assert_eq!(
        outcome.stdout,
        "Check complete, 2 warnings have been found!\n\
         \n\
         WARNING: UndefinedVar\n\
         Variables should be defined before their use\n\
         warning: Usage of undefined variable '$VERSON' (did you mean $VERSION?)\n \
         --> Dockerfile:4:9\n  \
         |\n\
         4 | LABEL v=$VERSON\n  \
         |         ^^^^^^^\n\
         \n\
         WARNING: JSONArgsRecommended\n\
         JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals\n\
         warning: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n \
         --> Dockerfile:5:1\n  \
         |\n\
         5 | CMD run\n  \
         | ^^^^^^^\n"
    );
    let fine = calque.context("fine", &[("Dockerfile", "FROM busybox\nCMD [\"run\"]\n")]);
    assert_eq!(
        calque.ok(["build", "--call=check", fine.to_str().unwrap()]).stdout,
        "Check complete, no warnings found.\n"
    );
    let wrong = calque.context("wrong", &[("Dockerfile", "FROM busybox\nCOPPY a b\n")]);
    let outcome = calque.run(["build", "--check", wrong.to_str().unwrap()]);
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("did you mean `COPY`?"), "{}", outcome.stderr);
    assert!(calque.ok(["images", "-q"]).stdout.lines().count() == 1, "nothing was built");
}

#[test]
#[ignore = "root: builds"]
fn root_check_error_true_fails_a_build_before_its_first_step() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let text = "# check=error=true\nFROM busybox\nRUN echo it-ran\nCMD run\n";
    let context = calque.context("strict", &[("Dockerfile", text)]);
    let context = context.to_str().unwrap();
    let outcome = calque.run(["build", "--progress=plain", context]);
    outcome.assert_code(1);
    assert!(
        outcome.stderr.contains("lint violation found for rules: JSONArgsRecommended"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("Dockerfile:4:1"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("it-ran"), "no step ran: {}", outcome.stderr);
    let skip = "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended;error=true";
    calque.ok(["build", "-q", skip, context]);
    let inline =
        "# check=error=true\nFROM busybox\n# check=skip=JSONArgsRecommended it is meant so\nCMD run\n";
    let context = calque.context("inline", &[("Dockerfile", inline)]);
    calque.ok(["build", "-q", context.to_str().unwrap()]);
    let warned = calque.context("warned", &[("Dockerfile", "FROM busybox\nCMD run\n")]);
    let outcome = calque.ok(["build", "--progress=plain", warned.to_str().unwrap()]);
    assert!(outcome.stderr.contains(" 1 warning found:\n - JSONArgsRecommended: "), "{}", outcome.stderr);
}

#[test]
#[ignore = "root: builds"]
fn root_faults_of_expansion_are_all_found_before_the_first_step() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let text = "FROM busybox\nRUN echo it-ran\nLABEL a=${A:?first}\nEXPOSE nonsense\n";
    let context = calque.context("late", &[("Dockerfile", text)]);
    let outcome = calque.run(["build", "--progress=plain", context.to_str().unwrap()]);
    outcome.assert_code(1);
    for part in ["first", "Dockerfile:3:", "invalid port `nonsense`", "Dockerfile:4:"] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("it-ran"), "{}", outcome.stderr);
}

const DESCRIBED: &str = r#"# VERSION of the program
ARG VERSION=1
# build compiles it
FROM busybox AS build
# TOKEN is for nothing
ARG TOKEN
RUN --mount=type=secret,id=key,required --mount=type=cache,target=/c --mount=type=ssh true
FROM busybox AS release
ARG VERSION
COPY --from=build /bin/true /x
"#;

#[test]
#[ignore = "root: opens a store"]
fn root_targets_and_outline_have_buildxs_shape() {
    let calque = Calque::new(Kernel::Newest);
    let context = calque.context("described", &[("Dockerfile", DESCRIBED)]);
    let context = context.to_str().unwrap();
    assert_eq!(
        calque.ok(["build", "--call=targets", context]).stdout,
        "TARGET              DESCRIPTION\n\
         build               compiles it\n\
         release (default)   \n"
    );
    let targets: serde_json::Value =
        serde_json::from_str(&calque.ok(["build", "--call=targets,format=json", context]).stdout).unwrap();
    assert_eq!(targets["targets"][0]["name"], "build");
    assert_eq!(targets["targets"][0]["description"], "compiles it");
    assert_eq!(targets["targets"][0]["base"], "busybox");
    assert_eq!(targets["targets"][1]["default"], true);
    let text = calque.ok(["build", "--call=outline", context]).stdout;
    assert_eq!(
        text,
        "TARGET:      release\n\
         \n\
         BUILD ARG   VALUE     DESCRIPTION\n\
         VERSION     1         of the program\n\
         TOKEN                 is for nothing\n\
         \n\
         SECRET    REQUIRED\n\
         key       true\n\
         \n\
         SSH       REQUIRED\n\
         default   \n\
         \n\
         CACHE MOUNT\n\
         /c\n"
    );
    let outline: serde_json::Value = serde_json::from_str(
        &calque.ok(["build", "--call=outline,format=json", "--target=build", context]).stdout,
    )
    .unwrap();
    assert_eq!(outline["name"], "build");
    assert_eq!(outline["secrets"][0]["required"], true);
    assert_eq!(outline["cache"][0]["ID"], "/c");
    for wrong in ["--call=nonsense", "--call=check,format=xml"] {
        calque.run(["build", wrong, context]).assert_code(125);
    }
}

#[test]
#[ignore = "root: as all end-to-end tests"]
fn root_a_dockerfile_is_shown_as_json_and_laid_out() {
    let calque = Calque::new(Kernel::Newest);
    let dir = calque.context("text", &[("Dockerfile", "from  a\ncopy --chown=x   <<E /  \nbody\nE\n")]);
    let file = dir.join("Dockerfile");
    let name = file.to_str().unwrap();
    let lines = calque.ok(["dockerfile", "parse", name]).stdout;
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[0]["instruction"], &objects[0]["stage"]), (&"FROM".into(), &0.into()));
    assert_eq!(objects[1]["flags"][0]["name"], "chown");
    assert_eq!(objects[1]["heredocs"][0]["body"], "body\n");
    assert_eq!(objects[0]["span"]["start"]["line"], 1);
    fs::write(&file, "from  a\ncopy   <<E /  \nbody\nE\n").unwrap();
    let outcome = calque.run(["dockerfile", "fmt", "--check", name]);
    outcome.assert_code(1);
    assert_eq!(outcome.stdout.trim_end(), name);
    let even = "FROM a\nCOPY <<E /\nbody\nE\n";
    assert_eq!(calque.ok(["dockerfile", "fmt", name]).stdout, even);
    calque.ok(["dockerfile", "fmt", "-w", name]);
    assert_eq!(fs::read_to_string(&file).unwrap(), even);
    calque.ok(["dockerfile", "fmt", "--check", name]);
    fs::write(&file, "FROM a\nCOPPY b c\n").unwrap();
    let outcome = calque.run(["dockerfile", "fmt", "-w", name]);
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("did you mean `COPY`?"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "FROM a\nCOPPY b c\n", "a wrong file stays");
}
