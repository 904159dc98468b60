//! timing
#![allow(clippy::print_stdout)]
use std::time::Instant;
use store::*;
fn opts(d: &str) -> StoreOptions {
    StoreOptions {
        root: format!("{d}/root").into(),
        runtime: format!("{d}/run").into(),
        mode: StoreMode::Root,
    }
}
fn key(t: &str) -> StepKey {
    blake3::hash(t.as_bytes()).into()
}
fn node(t: &str) -> InputNode {
    let mut n = InputNode::new();
    n.insert("t", InputValue::Text(t.into()));
    n
}
fn med(mut v: Vec<f64>) -> String {
    v.sort_by(|a, b| a.total_cmp(b));
    format!("min {:.1} med {:.1} p90 {:.1} us", v[0], v[v.len() / 2], v[v.len() * 9 / 10])
}
fn main() {
    let d = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let t = Instant::now();
    let s = Store::open(opts(&d)).unwrap();
    println!("first open {:?}", t.elapsed());
    let mut commit = vec![];
    let mut put = vec![];
    let mut draft = vec![];
    for i in 0..n {
        let text = format!("t{i}");
        let t = Instant::now();
        let dr = s.draft().unwrap();
        draft.push(t.elapsed().as_secs_f64() * 1e6);
        std::fs::write(dr.tree_path().join("f"), &text).unwrap();
        let t = Instant::now();
        let l = dr
            .commit(LayerFacts {
                created: "2026-01-02T03:04:05Z".into(),
                origin: LayerOrigin::Step(text.clone()),
                diff_id: None,
            })
            .unwrap();
        commit.push(t.elapsed().as_secs_f64() * 1e6);
        let r = StepRecord {
            step_key: key(&text),
            content_key: None,
            shape: blake3::hash(b"s").into(),
            layer: l.id(),
            created: "2026-01-02T03:04:05Z".into(),
            window: None,
            place: StepPlace { build: "D".into(), stage: "0".into(), position: i as u32, text: text.clone() },
            inputs: node(&text).id(),
            secrets: vec![],
        };
        let t = Instant::now();
        s.put_step(r, vec![node(&text)]).unwrap();
        put.push(t.elapsed().as_secs_f64() * 1e6);
    }
    println!("draft {}\ncommit {}\nput_step {}", med(draft), med(commit), med(put));
    drop(s);
    let mut open = vec![];
    let mut first = vec![];
    let mut find = vec![];
    let mut close = vec![];
    let mut lock = vec![];
    for _ in 0..50 {
        let t = Instant::now();
        let s = Store::open(opts(&d)).unwrap();
        open.push(t.elapsed().as_secs_f64() * 1e6);
        let t = Instant::now();
        let mut le = s.lease().unwrap();
        s.find_step(&key("t1"), &mut le).unwrap().unwrap();
        first.push(t.elapsed().as_secs_f64() * 1e6);
        for i in 2..n.min(20) {
            let k = key(&format!("t{i}"));
            let t = Instant::now();
            s.find_step(&k, &mut le).unwrap().unwrap();
            find.push(t.elapsed().as_secs_f64() * 1e6);
            let t = Instant::now();
            drop(s.lock_step(&k, &mut || ()).unwrap());
            lock.push(t.elapsed().as_secs_f64() * 1e6);
        }
        let t = Instant::now();
        drop(le);
        drop(s);
        close.push(t.elapsed().as_secs_f64() * 1e6);
    }
    println!(
        "open {}\nfirst find {}\nfind {}\nlock+unlock {}\ndrop lease+store {}",
        med(open),
        med(first),
        med(find),
        med(lock),
        med(close)
    );
    let s = Store::open(opts(&d)).unwrap();
    let t = Instant::now();
    s.usage().unwrap();
    println!("usage first {:?}", t.elapsed());
    let t = Instant::now();
    s.usage().unwrap();
    println!("usage {:?}", t.elapsed());
    let t = Instant::now();
    s.layers().unwrap();
    println!("layers {:?}", t.elapsed());
    std::fs::remove_file(format!("{d}/root/index.db")).unwrap();
    let t = Instant::now();
    s.has_shape(&blake3::hash(b"s").into()).unwrap();
    println!("rebuild {:?}", t.elapsed());
    let t = Instant::now();
    s.settle().unwrap();
    println!("settle {:?}", t.elapsed());
    let t = Instant::now();
    s.sweep().unwrap();
    println!("sweep {:?}", t.elapsed());
    let s2 = Store::open_in_boot(opts(&d), "x".into());
    let t = Instant::now();
    drop(s2);
    let _ = Store::open_in_boot(opts(&d), "y".into());
    println!("open in new boot {:?}", t.elapsed());
}
