//! Errors that say what, where and what to do.

use crate::harness::{Failed, Harness, Options, chain};

fn help(failed: &Failed) -> Option<String> {
    match &failed.error {
        builder::BuildError::Step { source, .. } => source.help(),
        _ => None,
    }
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_a_missing_source_is_explained() {
    let harness = Harness::new();
    harness.file("src/main.rs", "m");
    harness.file("dist/app.js", "a");
    harness.file(".dockerignore", "# built files\n\ndist\n");
    let dockerfile = "FROM busybox\nCOPY src/mian.rs /x\n";
    let failed = harness.fail(dockerfile);
    assert!(
        failed.error.to_string().contains("`src/mian.rs` is not in the build context"),
        "{}",
        failed.error
    );
    assert_eq!(help(&failed).as_deref(), Some("did you mean `src/main.rs`?"));
    assert_eq!(&dockerfile[failed.error.span().unwrap().range()], "src/mian.rs");
    let failed = harness.fail("FROM busybox\nCOPY dist/app.js /x\n");
    assert!(failed.error.to_string().contains("excluded by .dockerignore:3 (`dist`)"), "{}", failed.error);
    let failed = harness.fail("FROM busybox\nCOPY ../outside /x\n");
    assert!(failed.error.to_string().contains("`../outside` leaves the build context"), "{}", failed.error);
    assert!(help(&failed).unwrap().contains("--build-context"));
    let failed = harness.fail("FROM busybox AS b\nFROM busybox\nCOPY --from=b /etc/paswd /x\n");
    assert!(failed.error.to_string().contains("the stage `b`"), "{}", failed.error);
    assert_eq!(help(&failed).as_deref(), Some("did you mean `etc/passwd`?"));
    let failed = harness.fail("FROM busybox\nRUN --mount=source=nope,target=/x true\n");
    assert!(failed.error.to_string().contains("nope"), "{}", failed.error);
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_an_unknown_image_says_where_it_was_looked_for() {
    let harness = Harness::new();
    let failed = harness.fail("FROM nosuch:1\nRUN true\n");
    let text = chain(&failed.error);
    assert!(
        text.contains("nosuch:1") && text.contains(&harness.store.options().root.display().to_string()),
        "{text}"
    );
    assert!(text.contains("pulling from registries is not supported yet"), "{text}");
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_a_context_that_is_none_is_named() {
    let harness = Harness::new();
    let missing = harness.dir.path().join("missing");
    let options = Options { context: Some(missing.clone()), ..Options::default() };
    let failed = harness.fail_with("FROM busybox\nCOPY . /\n", &options);
    assert!(chain(&failed.error).contains(&missing.display().to_string()), "{}", chain(&failed.error));
    harness.file(".dockerignore", "[\n");
    let failed = harness.fail("FROM busybox\nCOPY . /\n");
    assert!(chain(&failed.error).contains(".dockerignore"), "{}", chain(&failed.error));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_an_epoch_that_is_no_number_is_refused() {
    let harness = Harness::new();
    let options = Options { build_args: &[("SOURCE_DATE_EPOCH", "today")], ..Options::default() };
    let failed = harness.fail_with("FROM busybox\n", &options);
    assert!(failed.error.to_string().contains("today"), "{}", failed.error);
}
