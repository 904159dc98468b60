//! Several processes want the same steps at once: each is done once, and a sweep beside them takes nothing away.
//!
//! A worker is this test binary, run again with [`WORKER`] in its environment.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command};

use store::{
    InputNode, InputValue, LayerFacts, LayerOrigin, StepKey, StepPlace, StepRecord, Store, StoreMode,
    StoreOptions,
};

const WORKER: &str = "CALQUE_TEST_STORE_WORKER";
const STEPS: u32 = 40;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions { root: dir.join("root"), runtime: dir.join("run"), mode: StoreMode::Root }
}

fn key(number: u32) -> StepKey {
    blake3::hash(&number.to_le_bytes()).into()
}

/// What a builder does for one step.
fn step(store: &Store, dir: &Path, number: u32) {
    let mut lease = store.lease().unwrap();
    let _lock = store.lock_step(&key(number), &mut || ()).unwrap();
    if let Some(record) = store.find_step(&key(number), &mut lease).unwrap() {
        let layer = store.layer(record.layer).unwrap();
        assert_eq!(fs::read_to_string(layer.tree_path().join("f")).unwrap(), number.to_string());
        return;
    }
    let mut log = OpenOptions::new().append(true).create(true).open(dir.join("executed")).unwrap();
    writeln!(log, "{number}").unwrap();
    let draft = store.draft().unwrap();
    fs::write(draft.tree_path().join("f"), number.to_string()).unwrap();
    let created = "2026-01-02T03:04:05Z".to_owned();
    let origin = LayerOrigin::Step("RUN".to_owned());
    let layer = draft.commit(LayerFacts { created: created.clone(), origin, diff_id: None }).unwrap();
    let mut inputs = InputNode::new();
    inputs.insert("number", InputValue::Text(number.to_string()));
    let record = StepRecord {
        step_key: key(number),
        content_key: None,
        shape: blake3::hash(b"shape").into(),
        layer: layer.id(),
        created,
        window: None,
        place: StepPlace { build: "D".into(), stage: "0".into(), position: number, text: "RUN".into() },
        inputs: inputs.id(),
        secrets: Vec::new(),
    };
    store.put_step(record, vec![inputs]).unwrap();
}

/// The worker; does nothing but where the test below runs it.
#[test]
fn worker() {
    let Some(dir) = std::env::var_os(WORKER) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(options(dir)).unwrap();
    for number in 0..STEPS {
        step(&store, dir, number);
        if number % 8 == 0 {
            store.sweep().unwrap();
        }
    }
}

#[test]
fn the_same_steps_wanted_by_many_processes_are_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "worker"]).env(WORKER, dir.path()).spawn().unwrap()
    };
    let workers: Vec<Child> = (0..4).map(|_| start()).collect();
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    let mut executed: Vec<u32> = fs::read_to_string(dir.path().join("executed"))
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    executed.sort_unstable();
    assert_eq!(executed, (0..STEPS).collect::<Vec<_>>());
    let store = Store::open(options(dir.path())).unwrap();
    store.sweep().unwrap();
    assert_eq!(store.layers().unwrap().len(), STEPS as usize);
}
