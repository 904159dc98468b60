//! The same tests once more, without everything that an old kernel lacks.

use std::process::Command;

use crate::ground::DISABLE;

/// Runs the other tests of this program in a process without `features`.
fn again_without(features: &str) {
    if std::env::var_os(DISABLE).is_some() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--include-ignored", "--skip", "oldest::"])
        .env(DISABLE, features)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "without {features}:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("0 failed; 0 ignored"), "{text}");
}

#[test]
#[ignore = "root: runs all of these tests again"]
fn root_everything_holds_in_the_oldest_mode() {
    again_without("overlay-fd,idmap,mount-setattr,openat2,clone3,close-range");
}

#[test]
#[ignore = "root: runs all of these tests again"]
fn root_everything_holds_with_idmaps_and_layers_by_name() {
    again_without("overlay-fd,clone3");
}
