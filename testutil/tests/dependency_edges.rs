//! Who may depend on whom: `docs/architecture.md`, "Crates and edges". Any other edge fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate → those of our crates that it may use. `testutil` is for tests only; `calque` (in `cli/`) uses all.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("oci", &[]),
    ("parser", &[]),
    ("sys", &[]),
    ("sandbox", &["sys"]),
    ("network", &["sys"]),
    ("store", &["oci", "sys"]),
    ("builder", &["parser", "oci", "sys", "store", "sandbox", "network"]),
    ("runner", &["oci", "sys", "store", "sandbox", "network"]),
    ("calque", &["oci", "parser", "sys", "store", "sandbox", "network", "builder", "runner"]),
    ("testutil", &[]),
    ("bench", &[]),
];

#[test]
fn the_crates_depend_only_on_whom_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(testutil::workspace_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();

    let mut wrong = Vec::new();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        let Some(may_use) = allowed.get(from) else {
            wrong
                .push(format!("`{from}` is a new crate: give it its edges here and in docs/architecture.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            if ours.contains(to) && !may_use.contains(&to) && !(for_tests && to == "testutil") {
                wrong.push(format!("`{from}` may not depend on `{to}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(allowed.keys().all(|name| ours.contains(name)), "a crate in the table is gone: {ours:?}");
}

#[test]
fn only_sys_has_unsafe_code() {
    let root = testutil::workspace_dir();
    let mut pending = vec![root.clone()];
    let mut wrong = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "sys", "fuzz"].contains(&name.as_str()) {
                    pending.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // The lint denies it; what this finds is a lint that was silenced.
                let silenced = ["allow(", "expect("].map(|attribute| format!("{attribute}{}", "unsafe_code"));
                if silenced.iter().any(|attribute| text.contains(attribute)) {
                    wrong.push(path);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "`unsafe` belongs into `sys`: {wrong:?}");
}
