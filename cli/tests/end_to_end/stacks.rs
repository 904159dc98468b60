//! Three of the applications in testdata/stacks, as scripts/stacks.sh does with all of them: built, built again with nothing changed,
//! built with one file changed, and run.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Calque, Kernel, Outcome, binary, debian_archive};
use testutil::{RegistrySettings, workspace_dir};

#[test]
#[ignore = "root: builds Debian images, with the network of the host"]
fn root_stacks_build_are_cached_and_rebuild_what_a_change_needs() {
    let calque = Calque::new(Kernel::Newest);
    let base = calque.context("base", &[("Dockerfile", "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n")]);
    fs::hard_link(debian_archive(), base.join("base.tar"))
        .or_else(|_| fs::copy(debian_archive(), base.join("base.tar")).map(drop))
        .unwrap();
    calque.build(&base, "debian:bookworm");
    let mut flags = RegistrySettings::from_host().build_arguments(calque.dir());
    flags.extend(["--network", "host"].map(str::to_owned));

    for name in ["heredocs", "onbuild-base", "onbuild-child", "nginx"] {
        let stack = Stack::of(&calque, name);
        let image = format!("stack-{name}");
        stack.build(&image, &flags);
        stack.assert_smoke(&image, "before");
        stack.build(&image, &flags).assert_all_cached();

        stack.edit();
        let changed = format!("{image}-changed");
        let outcome = stack.build(&changed, &flags);
        let ran: Vec<String> = outcome
            .steps()
            .into_iter()
            .filter(|step| !step.is_cached && !step.label.contains("] FROM "))
            .map(|step| step.label[1..step.label.find(']').unwrap()].to_owned())
            .collect();
        assert_eq!(ran.join(", "), stack.settings["rebuilt"], "{name}:\n{}", outcome.stderr);
        let file = &stack.settings["file"];
        assert!(
            outcome.steps().iter().any(|step| step.cause.as_ref().is_some_and(|cause| cause.contains(file))),
            "{name}: no cause names {file}:\n{}",
            outcome.stderr
        );
        stack.assert_smoke(&changed, "after");
    }
}

/// A copy of a folder of testdata/stacks.
struct Stack<'a> {
    calque: &'a Calque,
    context: PathBuf,
    /// `stack.env`.
    settings: HashMap<String, String>,
}

impl<'a> Stack<'a> {
    fn of(calque: &'a Calque, name: &str) -> Self {
        let context = calque.dir().join(name);
        let copied =
            Command::new("cp").arg("-a").arg(stacks_dir().join(name)).arg(&context).status().unwrap();
        assert!(copied.success());
        let text = fs::read_to_string(context.join("stack.env")).unwrap();
        let settings = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
            .collect();
        Self { calque, context, settings }
    }

    fn build(&self, image: &str, flags: &[String]) -> Outcome {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.calque.build_with(&self.context, image, &flags)
    }

    /// Changes the one file that `stack.env` names.
    fn edit(&self) {
        let path = self.context.join(&self.settings["file"]);
        let before = fs::read(&path).unwrap();
        let edited =
            Command::new("sed").args(["-i", "-E", &self.settings["edit"]]).arg(&path).status().unwrap();
        assert!(edited.success() && fs::read(&path).unwrap() != before, "the edit changes nothing");
    }

    /// Requires that what the smoke test prints, on one line, matches the pattern called `which`.
    fn assert_smoke(&self, image: &str, which: &str) {
        let output = Command::new("sh")
            .args(["-eu", "-c", SMOKE, "smoke"])
            .arg(self.context.join("smoke.sh"))
            .arg(&self.settings[which])
            .env("calque", binary())
            .env("image", image)
            .env("CALQUE_ROOT", self.calque.store())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "`{image}` printed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Shows what the smoke test printed and looks for the pattern in it.
const SMOKE: &str = r#"printed=$(sh -eu "$1"); printf '%s\n' "$printed"; printf '%s\n' "$printed" | tr '\n' ' ' | grep -qE "$2""#;

fn stacks_dir() -> PathBuf {
    workspace_dir().join("testdata/stacks")
}
