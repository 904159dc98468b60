//! A disk that fills up, and a machine that crashes: each on a file system of its own, in a private mount namespace.
//!
//! The tests run this binary again under `unshare(1)`, with [`PLACE`] in its environment.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::{DiffId, Digest, Document, ImageConfig, Platform, Reference};
use store::{
    ContainerRecord, InputNode, InputValue, LayerFacts, LayerOrigin, Sharing, StepKey, StepPlace, StepRecord,
    Store, StoreMode, StoreOptions, is_full,
};

const PLACE: &str = "CALQUE_TEST_STORE_DISK";

type Outcome = Result<(), Box<dyn Error>>;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { root: dir.join("root"), runtime: dir.join("run"), mode: StoreMode::Root }
}

fn key(text: &str) -> StepKey {
    blake3::hash(text.as_bytes()).into()
}

fn node(text: &str) -> InputNode {
    let mut node = InputNode::new();
    node.insert("text", InputValue::Text(text.to_owned()));
    node
}

fn layer(store: &Store, text: &str) -> Result<store::Layer, Box<dyn Error>> {
    let draft = store.draft()?;
    fs::write(draft.tree_path().join("f"), text.repeat(1000))?;
    Ok(draft.commit(LayerFacts {
        created: "2026-01-02T03:04:05Z".to_owned(),
        origin: LayerOrigin::Step(text.to_owned()),
        diff_id: Some(DiffId::new(Digest::of(text.as_bytes()))),
    })?)
}

/// What a build and a run do to the store.
fn everything(store: &Store, text: &str) -> Outcome {
    let layer = layer(store, text)?;
    let record = StepRecord {
        step_key: key(text),
        content_key: None,
        shape: blake3::hash(b"shape").into(),
        layer: layer.id(),
        created: "2026-01-02T03:04:05Z".to_owned(),
        window: None,
        place: StepPlace { build: "D".into(), stage: "0".into(), position: 0, text: text.to_owned() },
        inputs: node(text).id(),
        secrets: Vec::new(),
    };
    store.put_step(record, vec![node(text)])?;
    let mut lease = store.lease()?;
    store.find_step(&key(text), &mut lease)?.ok_or("the record is lost")?;
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let mut config = ImageConfig::scratch(platform);
    config.rootfs.diff_ids.push(store.diff_id(&layer)?);
    let image = store.put_image(Document::from_value(config), vec![layer.id()])?;
    let reference: Reference = "app".parse()?;
    store.tag(&reference, image.id)?;
    let record = ContainerRecord {
        id: Store::new_container_id(),
        name: format!("c-{text}"),
        image: image.id,
        reference: "app".to_owned(),
        layers: image.layers.clone(),
        argv: vec![],
        created: "2026-01-02T03:04:05Z".to_owned(),
        auto_remove: false,
        settings: serde_json::Value::Null,
    };
    store.create_container(&record)?;
    store.remove_container(&record.id)?;
    store.cache_mount("s", text, Sharing::Locked, &mut || ())?.set_ready()?;
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lease")).collect()
}

/// Runs the test `name` of this binary, which is to do its work at `place`, after `mount` in a mount namespace.
fn in_private_mounts(name: &str, place: &Path, mount: &str) {
    let command = format!("{mount} && exec \"$0\" --exact {name} --nocapture --include-ignored");
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &command])
        .arg(std::env::current_exe().unwrap())
        .env(PLACE, place)
        .status()
        .unwrap();
    assert!(status.success());
}

fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

#[test]
#[ignore = "root: mounts a small tmpfs"]
fn root_a_full_disk_is_told_and_leaves_the_store_clean() {
    let Some(disk) = place() else {
        let dir = tempfile::tempdir().unwrap();
        let mount = format!("mount -t tmpfs -o size=8m tmpfs {}", dir.path().display());
        let name = "root_a_full_disk_is_told_and_leaves_the_store_clean";
        return in_private_mounts(name, dir.path(), &mount);
    };
    let store = Store::open(options(&disk)).unwrap();
    everything(&store, "before").unwrap();
    let ballast = disk.join("ballast");
    let page = vec![1_u8; 4096];
    let mut failures = 0;
    // From no room at all to enough, a page at a time: each operation fails at each of its writes once.
    for pages in 0..200 {
        let mut filled = Vec::new();
        let mut file = fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &page).is_ok() {
            filled.push(());
        }
        drop(file);
        let room = filled.len().saturating_sub(pages) as u64 * 4096;
        fs::OpenOptions::new().write(true).open(&ballast).unwrap().set_len(room).unwrap();
        let text = format!("page-{pages}");
        let outcome = everything(&store, &text);
        fs::remove_file(&ballast).unwrap();
        if let Err(error) = &outcome {
            failures += 1;
            let mut chain = vec![error.to_string()];
            let mut source = error.source();
            while let Some(cause) = source {
                chain.push(cause.to_string());
                source = cause.source();
            }
            assert!(is_full(&**error), "{pages} pages: {chain:?}");
        }
        assert_eq!(names(&disk.join("root/tmp")), [""; 0], "{pages} pages");
        let mut lease = store.lease().unwrap();
        let before = store.find_step(&key("before"), &mut lease).unwrap().unwrap();
        store.layer(before.layer).unwrap().open_tree().unwrap();
        if outcome.is_ok() {
            assert!(store.find_step(&key(&text), &mut lease).unwrap().is_some());
            println!("{failures} failures, then {pages} pages were enough");
            break;
        }
        // With room again it succeeds.
        everything(&store, &text).unwrap_or_else(|error| panic!("{pages} pages: {error}"));
        drop(lease);
        store.sweep().unwrap();
    }
    assert!(failures > 5, "{failures}");
}

#[test]
#[ignore = "root: mounts ext4 from a file"]
fn root_after_a_crash_what_was_settled_is_whole_and_the_rest_is_gone() {
    let name = "root_after_a_crash_what_was_settled_is_whole_and_the_rest_is_gone";
    let Some(dir) = place() else {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::File::create(&disk).unwrap().set_len(128 << 20).unwrap();
        fs::create_dir(dir.path().join("before")).unwrap();
        fs::create_dir(dir.path().join("after")).unwrap();
        let status = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).status().unwrap();
        assert!(status.success());
        let mount = format!("cd {} && mount -o loop disk before", dir.path().display());
        return in_private_mounts(name, dir.path(), &mount);
    };
    let mounted = dir.join("before");
    let store = Store::open_in_boot(options(&mounted), "one".to_owned()).unwrap();
    for number in 0..20 {
        everything(&store, &format!("settled-{number}")).unwrap();
    }
    store.settle().unwrap();
    let settled = store.find_image("app").unwrap().id;
    // The machine crashes while others write: what reached the disk so far is what it has.
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            for number in 0..200 {
                everything(&store, &format!("volatile-{number}")).unwrap();
            }
        });
        fs::copy(dir.join("disk"), dir.join("copy")).unwrap();
        busy.join().unwrap();
    });
    let mount = |from: &str, to: &str| {
        let status = Command::new("mount")
            .args(["-o", "loop"])
            .arg(dir.join(from))
            .arg(dir.join(to))
            .status()
            .unwrap();
        assert!(status.success());
    };
    // A journal is replayed by fsck or by mount; a copy of a busy disk may need both.
    let _ = Command::new("e2fsck").args(["-p", "-f"]).arg(dir.join("copy")).output().unwrap();
    mount("copy", "after");
    let crashed = Store::open_in_boot(options(&dir.join("after")), "two".to_owned()).unwrap();
    let mut lease = crashed.lease().unwrap();
    for number in 0..20 {
        let text = format!("settled-{number}");
        let record =
            crashed.find_step(&key(&text), &mut lease).unwrap().unwrap_or_else(|| panic!("{text} is lost"));
        let layer = crashed.layer(record.layer).unwrap();
        assert_eq!(fs::read_to_string(layer.tree_path().join("f")).unwrap(), text.repeat(1000));
        assert_eq!(crashed.input_node(&record.inputs).unwrap(), Some(node(&text)));
    }
    assert_eq!(crashed.find_image("app").unwrap().id, settled, "the last durable value");
    for number in 0..200 {
        assert_eq!(crashed.find_step(&key(&format!("volatile-{number}")), &mut lease).unwrap(), None);
    }
    assert_eq!(crashed.layers().unwrap().len(), 20);
    everything(&crashed, "afterwards").unwrap();
    drop((lease, crashed, store));
    for mounted in ["after", "before"] {
        assert!(Command::new("umount").arg(dir.join(mounted)).status().unwrap().success());
    }
}
