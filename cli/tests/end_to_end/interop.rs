//! Other programs read what calque writes, and see the same files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Calque, Kernel};
use crate::tree::{differences, mount_points, read_tree};
use testutil::{Requirement, descendants, require};

const DOCKERFILE: &str = "\
FROM busybox AS made
RUN mkdir -p /made/deep && echo made > /made/file && ln /made/file /made/hard && ln -s ../file /made/deep/soft \\
    && ln -s /made/file /made/absolute && chown -h 1234:2345 /made/deep/soft && chown 65534:100 /made/deep \\
    && chmod 4755 /made/file && chmod 1777 /made/deep && mkfifo /made/pipe && touch /made/empty \\
    && echo long > \"/made/$(printf '%0200d' 7)\" && echo wild > '/made/ä ö*[x]' && touch -d '2030-01-01 00:00:00' /made/empty
FROM busybox
COPY tree/ /tree/
COPY --from=made /made /made
RUN rm -r /made/deep && mkdir /made/deep && echo again > /made/deep/new && rm /etc/shadow && rm -rf /var/www && chmod 700 /tree
RUN mv /made/absolute /made/moved && echo more >> /made/file && rm -r /home && ln -s /tree /home
WORKDIR /work/a/b
CMD [\"sh\"]
";

fn program(name: &'static str, arguments: &[&str]) -> String {
    assert!(require(Requirement::Program(name)));
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compares `umoci unpack` of the saved image with what a container of it sees, file for file.
#[track_caller]
pub(crate) fn assert_umoci_agrees(calque: &Calque, image: &str) {
    let layout = calque.dir().join("umoci-layout");
    let bundle = calque.dir().join("umoci-bundle");
    let archive = calque.dir().join("umoci.tar");
    calque.ok(["save", "-o", archive.to_str().unwrap(), image]);
    program(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &format!("docker-archive:{}", archive.display()),
            &format!("oci:{}:image", layout.display()),
        ],
    );
    program(
        "umoci",
        &["unpack", "--image", &format!("{}:image", layout.display()), bundle.to_str().unwrap()],
    );
    assert_container_has(calque, image, &bundle.join("rootfs"));
    fs::remove_dir_all(bundle).unwrap();
    fs::remove_dir_all(layout).unwrap();
    fs::remove_file(archive).unwrap();
}

#[track_caller]
fn assert_container_has(calque: &Calque, image: &str, expected: &Path) {
    let mut started = calque.start([
        "run",
        "--rm",
        "--userns",
        "host",
        "--network",
        "none",
        "--entrypoint",
        "sh",
        image,
        "-c",
        "echo ready; sleep 1000; :",
        "marker-tree",
    ]);
    started.wait_for("ready");
    let pid = descendants(started.pid())
        .into_iter()
        .find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with("sh") && line.contains("marker-tree"))
        })
        .unwrap();
    // Folders on which the runtime mounts something may be made for that, and then lie in no layer.
    let skipped: BTreeSet<PathBuf> = mount_points(pid);
    let mounted = read_tree(Path::new(&format!("/proc/{pid}/root")), 0, &skipped);
    let unpacked = read_tree(expected, 0, &skipped);
    started.signal(rustix::process::Signal::KILL);
    started.wait();
    calque.ok(["ps", "-a"]);
    assert!(unpacked.len() > 100, "{} entries", unpacked.len());
    let differences = differences(&unpacked, &mounted, 20);
    assert!(differences.is_empty(), "umoci (one) and the mount (two) differ:\n{}", differences.join("\n"));
}

#[test]
#[ignore = "root: mounts overlays, unpacks as root"]
fn root_umoci_unpacks_what_calque_mounts() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context(
        "app",
        &[("Dockerfile", DOCKERFILE), ("tree/a.txt", "a\n"), ("tree/b/c.txt", "c\n"), ("tree/b/empty", "")],
    );
    calque.build(&context, "app:1.0");
    assert_umoci_agrees(&calque, "app:1.0");
}

#[test]
#[ignore = "root: mounts overlays"]
fn root_skopeo_reads_every_form_of_save() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("app", &[("Dockerfile", DOCKERFILE), ("tree/a.txt", "a\n")]);
    calque.build(&context, "app:1.0");
    let archive = calque.dir().join("app.tar");
    calque.ok(["save", "-o", archive.to_str().unwrap(), "app:1.0"]);
    for form in ["docker-archive", "oci-archive"] {
        let text = program("skopeo", &["inspect", "--config", &format!("{form}:{}", archive.display())]);
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let diff_ids: Vec<&str> =
            config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(diff_ids, calque.diff_ids("app:1.0"), "{form}");
    }
    // skopeo copy reads every layer and verifies its digest.
    let copied = calque.dir().join("copied");
    program(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &format!("docker-archive:{}", archive.display()),
            &format!("oci:{}:app", copied.display()),
        ],
    );
    // And calque takes back what skopeo wrote, and its own: the same image.
    let id = calque.image_id("app:1.0");
    let other = Calque::new(Kernel::Newest);
    other.ok(["load", "-i", archive.to_str().unwrap()]);
    assert_eq!(other.image_id("app:1.0"), id);
    assert_eq!(other.shell("app:1.0", "cat /made/deep/new"), "again\n");
    let third = Calque::new(Kernel::Newest);
    let tar = third.dir().join("copied.tar");
    program("tar", &["-C", copied.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    // skopeo rewrites the config for the other format, so the image has another ID; its layers are the same.
    third.ok(["load", "-i", tar.to_str().unwrap()]);
    let loaded = third.ok(["image", "ls", "-aq"]).stdout;
    assert_eq!(third.diff_ids(loaded.trim()), calque.diff_ids("app:1.0"));
}

#[test]
#[ignore = "root: mounts overlays"]
fn root_a_saved_image_is_the_same_bytes_each_time() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("app", &[("Dockerfile", DOCKERFILE), ("tree/a.txt", "a\n")]);
    calque.build(&context, "app:1.0");
    let read = |name: &str| {
        let path = calque.dir().join(name);
        calque.ok(["save", "-o", path.to_str().unwrap(), "app:1.0"]);
        fs::read(path).unwrap()
    };
    assert!(read("one.tar") == read("two.tar"), "two saves differ");
}

#[test]
#[ignore = "root: mounts overlays"]
fn root_from_takes_scratch_and_named_contexts() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let more = calque.context("more", &[("m.txt", "more\n")]);
    let context =
        calque.context("app", &[("Dockerfile", "FROM base AS b\nFROM b\nCOPY --from=more m.txt /m\n")]);
    // A layout made by another program as the base.
    let layout = calque.dir().join("layout");
    let archive = testutil::busybox_archive();
    program(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            &format!("docker-archive:{}", archive.display()),
            &format!("oci:{}:bb", layout.display()),
        ],
    );
    calque.build_with(
        &context,
        "app",
        &[
            "--build-context",
            &format!("more={}", more.display()),
            "--build-context",
            &format!("base=oci-layout://{}:bb", layout.display()),
        ],
    );
    assert_eq!(calque.shell("app", "cat /m"), "more\n");

    let scratch =
        calque.context("scratch", &[("Dockerfile", "FROM scratch\nCOPY a.txt /\n"), ("a.txt", "a\n")]);
    calque.build(&scratch, "scratch-app");
    assert_eq!(calque.diff_ids("scratch-app").len(), 1);
}
