//! Without overlayfs the layers are the same.

use std::fs;

use crate::harness::{ALL_KERNELS, Calque, Kernel, write};

/// Every time is set, so that the layers depend on nothing but the steps; but the directories of [`DATED`].
const DETERMINISTIC: &str = "\
FROM busybox
COPY src/ /src/
RUN <<END
mkdir -p /a/b /a/d/e
echo one > /a/one
echo two > /a/b/two
echo three > /a/d/e/three
ln /a/one /a/another
ln -s one /a/sym
mkfifo /a/pipe
chown 1000:100 /a/one /a/d
chmod 4755 /a/d/e/three
find /a -exec touch -h -d @1000000000 {} +
END
RUN printf TWO > /a/b/two && touch -d @1000000000 /a/b/two
RUN mv /a/d /a/moved && rm -rf /src && mkdir /src && echo new > /src/new && touch -d @1000000001 /a /src /src/new
RUN rm /a/one && chmod 700 /a/moved && touch -d @1000000002 /a
RUN rm -r /a/b && echo file > /a/b && ln -s b /a/to-b && touch -h -d @1000000003 /a /a/b /a/to-b
RUN true
COPY src/kept /a/b
WORKDIR /work/dir
RUN --mount=type=tmpfs,target=/no/such/dir --mount=type=bind,source=src,target=/mnt/bound \\
    cat /mnt/bound/kept > out && touch -d @1000000004 .. . out
RUN test ! -e /no && test ! -e /mnt/bound && rm -rf /src && mkdir /src && touch -d @1000000005 /src
";

/// The layers of COPY and WORKDIR whose directories get the present time.
const DATED: [usize; 2] = [1, 9];

#[test]
#[ignore = "root: starts containers"]
fn root_the_layers_are_the_same_without_overlayfs() {
    let place = tempfile::tempdir().unwrap();
    let context = place.path().join("app");
    write(&context.join("Dockerfile"), DETERMINISTIC);
    write(&context.join("src/kept"), "kept\n");
    write(&context.join("src/sub/file"), "file\n");
    let mut all = Vec::new();
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let built = calque.build(&context, "app");
        assert_eq!(built.stderr.contains("snapshots `tree`"), kernel == Kernel::Tree, "{}", built.stderr);
        calque.build(&context, "app").assert_all_cached();
        let seen = calque.shell(
            "app",
            "cat out /a/another /a/b; find /a /src /work | sort; stat -c %a:%u:%g /a/moved; ls /mnt /no 2>&1; true",
        );
        let diff_ids = calque.diff_ids("app").into_iter().enumerate();
        all.push((kernel, diff_ids.filter(|(index, _)| !DATED.contains(index)).collect::<Vec<_>>(), seen));
    }
    for (kernel, diff_ids, seen) in &all {
        assert_eq!(*seen, all[0].2, "{kernel:?}");
        assert_eq!(*diff_ids, all[0].1, "{kernel:?}");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_nothing_of_a_working_tree_stays() {
    let calque = Calque::with_busybox(Kernel::Tree);
    let context =
        calque.context("app", &[("Dockerfile", "FROM busybox\nRUN echo x > /x\nRUN echo y > /y\n")]);
    calque.build(&context, "app");
    let folders = || {
        let tmp = fs::read_dir(calque.store().join("tmp")).unwrap();
        tmp.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert!(folders().is_empty(), "{:?}", folders());
    // A failed step's changes, not its whole tree.
    write(&context.join("Dockerfile"), "FROM busybox\nRUN echo z > /z; exit 3\n");
    calque.run(crate::harness::build_arguments(&context, "app", &[])).assert_code(1);
    assert!(folders().is_empty(), "{:?}", folders());
    let kept: Vec<_> = fs::read_dir(calque.store().join("failed")).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 1);
    let tree: Vec<_> =
        fs::read_dir(kept[0].path().join("tree")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(tree, ["z"]);

    calque.ok(["run", "--network", "none", "--name", "one", "app", "sh", "-c", "rm /x; echo 2 > /two"]);
    assert_eq!(calque.shell("app", "ls /x"), "/x\n", "each container has a tree of its own");
    calque.ok(["rm", "one"]);
    let containers = fs::read_dir(calque.store().join("containers")).unwrap();
    let left: Vec<_> =
        containers.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".names").collect();
    assert!(left.is_empty(), "{left:?}");
}
