//! Real input: a Debian base, packages from its mirrors, and a Python application of several stages.

use std::fs;

use crate::harness::{BOTH_KERNELS, Calque, Outcome, debian_archive};
use crate::interop::assert_umoci_agrees;
use testutil::{RegistrySettings, workspace_dir};

#[test]
#[ignore = "root: builds a Debian image, with the network of the host"]
fn root_debian_and_a_python_application_build_and_run() {
    let mut results = Vec::new();
    for kernel in BOTH_KERNELS {
        let calque = Calque::new(kernel);
        let base =
            calque.context("base", &[("Dockerfile", "FROM scratch\nADD base.tar /\nCMD [\"bash\"]\n")]);
        fs::hard_link(debian_archive(), base.join("base.tar"))
            .or_else(|_| fs::copy(debian_archive(), base.join("base.tar")).map(drop))
            .unwrap();
        calque.build_with(&base, "debian:bookworm", &["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);

        let settings = RegistrySettings::from_host().build_arguments(calque.dir());
        let flags: Vec<&str> = settings.iter().map(String::as_str).chain(["--network", "host"]).collect();
        let python = workspace_dir().join("testdata/python");
        let outcome: Outcome = calque.build_with(&python, "app:1.0", &flags);
        let versions =
            calque.shell("app:1.0", "python3 --version; git --version; curl --version | head -n 1");
        assert!(
            versions.contains("Python 3.11")
                && versions.contains("git version")
                && versions.contains("curl 7"),
            "{versions}"
        );
        assert_eq!(
            calque.ok(["run", "--rm", "--network", "none", "app:1.0", "7"]).stdout,
            "signed: 7\nchecked: 7\n",
            "{}",
            outcome.stderr
        );
        // The machine's settings are no part of the image.
        let left = calque.shell(
            "app:1.0",
            "ls /etc/apt/apt.conf.d/99host /etc/pip.conf /run/secrets 2>/dev/null | grep . || echo nothing",
        );
        assert_eq!(left, "nothing\n");

        calque.build_with(&python, "app:1.0", &flags).assert_all_cached();
        results.push(calque.diff_ids("debian:bookworm"));
        if kernel == BOTH_KERNELS[0] {
            assert_umoci_agrees(&calque, "app:1.0");
        }
    }
    assert_eq!(results[0], results[1], "the modes differ");
}
