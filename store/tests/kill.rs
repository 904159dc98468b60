//! What `kill -9` leaves: nothing recorded is lost, and nothing is left that the next start doesn't sweep.
//!
//! The writer is this test binary, run again with [`WRITER`] in its environment. It does what builds do, at random, and
//! tells on its standard output what it is about to do and what it has done. The killer kills it at a random moment,
//! opens the store and compares.

#![expect(clippy::print_stdout, reason = "seeds and counts of a run, shown where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oci::{DiffId, Digest, Document, ImageConfig, Platform, Reference};
use store::{
    ContainerRecord, ContainerState, Image, InputNode, InputValue, LayerFacts, LayerOrigin, Sharing, StepKey,
    StepPlace, StepRecord, Store, StoreMode, StoreOptions,
};
use testutil::Seed;

const WRITER: &str = "CALQUE_TEST_STORE_WRITER";

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { root: dir.join("root"), runtime: dir.join("run"), mode: StoreMode::Root }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The killer may be gone.
    let _ = writeln!(out, "@ {line}").and_then(|()| out.flush());
}

fn key(text: &str) -> StepKey {
    blake3::hash(text.as_bytes()).into()
}

fn node(text: &str) -> InputNode {
    let mut node = InputNode::new();
    node.insert("text", InputValue::Text(text.to_owned()));
    node
}

fn layer(store: &Store, text: &str) -> store::Layer {
    let draft = store.draft().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(draft.tree_path().join(name)).unwrap();
        fs::write(draft.tree_path().join(name).join("f"), text).unwrap();
    }
    draft
        .commit(LayerFacts {
            created: "2026-01-02T03:04:05Z".to_owned(),
            origin: LayerOrigin::Step(text.to_owned()),
            diff_id: Some(DiffId::new(Digest::of(text.as_bytes()))),
        })
        .unwrap()
}

fn put_step(store: &Store, text: &str) {
    let layer = layer(store, text);
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
    store.put_step(record, vec![node(text), node("shared")]).unwrap();
}

fn put_image(store: &Store, text: &str) -> Image {
    let layer = layer(store, text);
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let mut config = ImageConfig::scratch(platform);
    config.rootfs.diff_ids.push(store.diff_id(&layer).unwrap());
    store.put_image(Document::from_value(config), vec![layer.id()]).unwrap()
}

/// The writer; does nothing but where the killer runs it.
#[test]
fn writer() {
    let Ok(settings) = std::env::var(WRITER) else { return };
    let (seed, dir) = settings.split_once(' ').unwrap();
    let mut seed = Seed::new(seed.parse().unwrap());
    let store = Store::open(options(Path::new(dir))).unwrap();
    for number in 0_u64.. {
        let text = format!("{}-{number}", seed.value());
        match seed.below(12) {
            0..=3 => {
                put_step(&store, &text);
                say(&format!("step {text}"));
            }
            4 => {
                let mut lease = store.lease().unwrap();
                store.find_step(&key(&text), &mut lease).unwrap();
                let _lock = store.lock_step(&key("one"), &mut || ()).unwrap();
                put_step(&store, &text);
                say(&format!("step {text}"));
            }
            5 | 6 => {
                let name = format!("image{}", seed.below(3));
                let image = put_image(&store, &text);
                let reference: Reference = name.parse().unwrap();
                say(&format!("tagging {name}"));
                store.tag(&reference, image.id).unwrap();
                say(&format!("tagged {name} {}", image.id));
            }
            7 => {
                let image = put_image(&store, &text);
                let record = ContainerRecord {
                    id: Store::new_container_id(),
                    name: format!("c{}", seed.next_u64()),
                    image: image.id,
                    reference: "x".to_owned(),
                    layers: image.layers.clone(),
                    argv: vec!["true".to_owned()],
                    created: "2026-01-02T03:04:05Z".to_owned(),
                    auto_remove: seed.below(2) == 0,
                    settings: serde_json::Value::Null,
                };
                let _dir = store.create_container(&record).unwrap();
                let state = store.running_state(std::process::id() as i32, record.created.clone()).unwrap();
                store.set_container_state(&record.id, &state).unwrap();
                if record.auto_remove {
                    continue;
                }
                let state = ContainerState::Exited { code: 3, finished: Some(record.created.clone()) };
                store.set_container_state(&record.id, &state).unwrap();
                say(&format!("container {}", record.id));
            }
            8 => {
                let mut mount = store.cache_mount("s", &text, Sharing::Locked, &mut || ()).unwrap();
                mount.set_ready().unwrap();
                say(&format!("mount {text}"));
            }
            9 => {
                store.sweep().unwrap();
            }
            10 => {
                let draft = store.draft().unwrap();
                fs::write(draft.tree_path().join("f"), &text).unwrap();
                if seed.below(2) == 0 {
                    store.keep_failed(draft, &text).unwrap();
                }
            }
            _ => {
                if seed.below(20) == 0 {
                    store.settle().unwrap();
                }
                store.usage().unwrap();
            }
        }
    }
}

struct Writer {
    child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
}

impl Writer {
    fn start(seed: u64, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(WRITER, format!("{seed} {}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines = std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            // The last line may be cut off.
            lines.filter_map(|line| line.split_once("@ ").map(|(_, said)| said.to_owned())).collect()
        });
        Self { child, lines }
    }

    fn kill(mut self) -> Vec<String> {
        let ended = self.child.try_wait().unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert_eq!(ended, None, "the writer failed by itself");
        self.lines.join().unwrap()
    }
}

/// What must be there by what writers said.
#[derive(Default)]
struct Expected {
    steps: BTreeSet<String>,
    containers: BTreeSet<String>,
    mounts: BTreeSet<String>,
    /// The values that a tag may have.
    tags: BTreeMap<String, BTreeSet<String>>,
}

impl Expected {
    /// Several writers set the same tags, so any of the values that they said may be the last.
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["step", text] => {
                    self.steps.insert(text.to_owned());
                }
                ["container", id] if id.len() == 64 => {
                    self.containers.insert(id.to_owned());
                }
                ["mount", text] => {
                    self.mounts.insert(text.to_owned());
                }
                ["tagged", name, id] if id.len() == 71 => {
                    self.tags.entry(name.to_owned()).or_default().insert(id.to_owned());
                }
                _ => {}
            }
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn check(dir: &Path, expected: &mut Expected) {
    let root = dir.join("root");
    let store = Store::open(options(dir)).unwrap();
    assert_eq!(files(&root.join("tmp")), [""; 0], "what was in flight is in the trash");
    let mut lease = store.lease().unwrap();
    for text in &expected.steps {
        let record =
            store.find_step(&key(text), &mut lease).unwrap().unwrap_or_else(|| panic!("{text} is lost"));
        let layer = store.layer(record.layer).unwrap();
        layer.open_tree().unwrap();
        assert_eq!(fs::read_to_string(layer.tree_path().join("b/f")).unwrap(), *text);
        assert_eq!(store.input_node(&record.inputs).unwrap(), Some(node(text)));
    }
    for (name, values) in &mut expected.tags {
        let id =
            store.resolve_tag(&name.parse().unwrap()).unwrap().unwrap_or_else(|| panic!("{name} is lost"));
        let image = store.image(id).unwrap();
        image.layers.iter().for_each(|layer| drop(store.layer(*layer).unwrap().open_tree().unwrap()));
        // A tag that was being set may have its new value already.
        values.insert(id.to_string());
    }
    for image in store.images().unwrap() {
        image.layers.iter().for_each(|layer| drop(store.layer(*layer).unwrap()));
    }
    let containers = store.containers().unwrap();
    for id in &expected.containers {
        let found = containers.iter().find(|container| container.record.id == *id);
        assert!(matches!(found.unwrap().state, ContainerState::Exited { code: 3, .. }));
    }
    assert!(containers.iter().all(|it| !matches!(it.state, ContainerState::Running { .. })));
    let mounts = store.cache_mounts().unwrap();
    for text in &expected.mounts {
        assert!(mounts.iter().any(|mount| mount.id == *text));
    }
    drop(lease);
    store.sweep().unwrap();
    assert_eq!(files(&root.join("trash")), [""; 0]);
    assert_eq!(files(&dir.join("run/locks")), [""; 0]);
    assert!(store.containers().unwrap().iter().all(|it| !it.record.auto_remove), "those of --rm are gone");
    let named: BTreeSet<_> = store
        .images()
        .unwrap()
        .into_iter()
        .flat_map(|image| image.layers)
        .chain(store.containers().unwrap().into_iter().flat_map(|it| it.record.layers))
        .collect();
    for layer in store.layers().unwrap() {
        let is_recorded = files(&root.join(format!("layers/{}", layer.id())))
            .iter()
            .any(|it| it.ends_with(".json") && it.starts_with("step-"));
        assert!(is_recorded || named.contains(&layer.id()), "{} is an orphan", layer.id());
    }
    store.usage().unwrap();
    let total = store.usage().unwrap().total_bytes;
    let output = Command::new("du").args(["-s", "-B1"]).arg(&root).output().unwrap();
    let du: u64 =
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(total.abs_diff(du) <= du / 100, "df says {total}, du {du}");
}

/// `stores` times a new store, whose writers are killed `kills` times.
fn kill_again_and_again(seed: u64, stores: u64, kills: u64) {
    let mut seed = Seed::from_environment(seed);
    println!("seed {}", seed.value());
    for _ in 0..stores {
        kill_in_one_store(&mut seed, kills);
    }
}

fn kill_in_one_store(seed: &mut Seed, kills: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Expected::default();
    for number in 0..kills {
        let first = Writer::start(seed.next_u64(), dir.path());
        let second = (seed.below(2) == 0).then(|| Writer::start(seed.next_u64(), dir.path()));
        std::thread::sleep(Duration::from_micros(seed.below(150_000)));
        expected.note(&first.kill());
        if let Some(second) = second {
            std::thread::sleep(Duration::from_micros(seed.below(20_000)));
            expected.note(&second.kill());
        }
        if number % 10 == 9 {
            for suffix in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(dir.path().join(format!("root/index.db{suffix}")));
            }
        }
        check(dir.path(), &mut expected);
    }
    println!(
        "{kills} kills; {} steps, {} containers, {} mounts, {} tags kept",
        expected.steps.len(),
        expected.containers.len(),
        expected.mounts.len(),
        expected.tags.len()
    );
    assert!(!expected.steps.is_empty(), "the writers never came to write");
}

#[test]
fn kill_minus_nine_loses_nothing_recorded_and_leaves_nothing() {
    kill_again_and_again(42, 1, 20);
}

#[test]
#[ignore = "soak: kills a writer 1000 times"]
fn soak_kill_minus_nine() {
    kill_again_and_again(4242, 25, 40);
    println!("soak: kill -9 of a store's writers 1000 times");
}
