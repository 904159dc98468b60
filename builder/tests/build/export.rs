//! The image: config, history, times, tags.

use crate::harness::{Harness, Options};

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_config_history_and_tags_are_as_asked() {
    let harness = Harness::new();
    harness.file("f", "f");
    let options =
        Options { tags: &["app:1.0", "app:latest"], labels: &[("who", "flag")], ..Options::default() };
    let built = harness.build_with(
        "FROM busybox\nLABEL who=file keep=1\nENV A=b\nCOPY f /f\nRUN true\nWORKDIR /w\nUSER 5\nEXPOSE 80\nCMD [\"x\"]\n",
        &options,
    );
    let config = built.config();
    assert_eq!(config.config.labels["who"], "flag");
    assert_eq!(config.config.labels["keep"], "1");
    assert_eq!(config.config.working_dir, "/w");
    assert_eq!(config.config.user, "5");
    assert!(config.config.exposed_ports.contains_key("80/tcp"));
    let layers = config.history.iter().filter(|entry| !entry.empty_layer).count();
    // The base of the test has a layer and no history.
    assert_eq!((config.rootfs.diff_ids.len(), built.outcome.image.layers.len()), (layers + 1, layers + 1));
    assert!(config.created.is_some());
    for tag in ["app:1.0", "app"] {
        let id = harness.store.resolve_tag(&tag.parse().unwrap()).unwrap();
        assert_eq!(id, Some(built.outcome.image.id), "{tag}");
    }
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_failed_build_moves_no_tag() {
    let harness = Harness::new();
    let options = Options { tags: &["app"], ..Options::default() };
    let built = harness.build_with("FROM busybox\nRUN true\n", &options);
    harness.fail_with("FROM busybox\nRUN true\nRUN false\n", &options);
    let id = harness.store.resolve_tag(&"app".parse().unwrap()).unwrap();
    assert_eq!(id, Some(built.outcome.image.id));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_the_same_inputs_and_an_epoch_make_the_same_digest_in_another_store() {
    let dockerfile = "FROM busybox\nCOPY d /d\nWORKDIR /w/x\nCMD [\"/d/f\"]\n";
    let build = || {
        let harness = Harness::new();
        harness.file("d/f", "f");
        let options = Options { build_args: &[("SOURCE_DATE_EPOCH", "1700000000")], ..Options::default() };
        let built = harness.build_with(dockerfile, &options);
        assert_eq!(built.config().created.as_deref(), Some("2023-11-14T22:13:20Z"));
        // The base has the times of its making: only our layers are compared.
        built.config().rootfs.diff_ids[1..].to_vec()
    };
    assert_eq!(build(), build());
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_the_times_of_a_cached_build_are_those_of_the_first() {
    let harness = Harness::new();
    let first = harness.build("FROM busybox\nRUN true\nCMD [\"a\"]\n");
    let second = harness.build("FROM busybox\nRUN true\nCMD [\"a\"]\n");
    assert_eq!(second.outcome.image.config.bytes(), first.outcome.image.config.bytes());
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_an_image_without_layers_can_be_built() {
    let harness = Harness::new();
    let dockerfile = "FROM scratch\nENV A=1\n";
    let first = harness.build(dockerfile);
    assert!(first.outcome.image.layers.is_empty());
    assert_eq!(harness.build(dockerfile).outcome.image.id, first.outcome.image.id);
}
