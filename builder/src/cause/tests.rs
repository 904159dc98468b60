//! One mutation for each thing a step depends on: it changes the key and is named. One for each thing it doesn't.

use std::collections::BTreeMap;

use oci::{Digest, ImageId, Platform};
use parser::{CacheSharing, Span};
use store::{LayerId, StepKey, StepPlace};

use super::*;
use crate::NetworkMode;
use crate::cache_key::LayerContent;
use crate::expanded::{
    Chmod, CopySourceStep, CopyStep, Mount, MountStep, RunStep, Script, Variable, WorkdirStep,
};
use crate::graph::{ContentSource, StageId};
use crate::input::{
    Parent, SourceFacts, SourceInput, SourceMatch, SourceNode, copy_inputs, run_inputs, workdir_inputs,
};

fn record(inputs: &StepInputs) -> StepRecord {
    StepRecord {
        step_key: inputs.step_key,
        content_key: None,
        shape: inputs.shape,
        layer: LayerId::from_bytes([0; 16]),
        created: String::new(),
        window: None,
        place: StepPlace { build: String::new(), stage: String::new(), position: 0, text: String::new() },
        inputs: inputs.root,
        secrets: Vec::new(),
    }
}

fn explained(after: &StepInputs, before: &[&StepInputs]) -> Explanation {
    let records: Vec<StepRecord> = before.iter().map(|inputs| record(inputs)).collect();
    explain(after, &records, &mut |id| before.iter().find_map(|inputs| inputs.node(id).cloned()))
}

fn facts(mode: u32) -> SourceFacts {
    SourceFacts { mode, ..SourceFacts::default() }
}

fn file(content: &str) -> SourceNode {
    SourceNode::File {
        facts: facts(0o644),
        digest: *blake3::hash(content.as_bytes()).as_bytes(),
        linked_to: None,
    }
}

fn directory(children: &[(&str, SourceNode)]) -> SourceNode {
    let children = children.iter().map(|(name, node)| (name.as_bytes().to_vec(), node.clone())).collect();
    SourceNode::Directory { facts: facts(0o755), children }
}

fn link(target: &str) -> SourceNode {
    SourceNode::Link { facts: facts(0o777), target: target.as_bytes().to_vec() }
}

fn tree() -> SourceNode {
    directory(&[
        ("app.rs", file("fn main() {}")),
        ("lib", directory(&[("a.rs", file("a")), ("b.rs", file("b"))])),
        ("latest", link("app.rs")),
        ("null", SourceNode::Special { facts: facts(0o666), kind: 0o020_000, device: 259 }),
    ])
}

fn facts_of(node: &mut SourceNode) -> &mut SourceFacts {
    match node {
        SourceNode::File { facts, .. }
        | SourceNode::Link { facts, .. }
        | SourceNode::Directory { facts, .. }
        | SourceNode::Special { facts, .. } => facts,
    }
}

fn children(node: &mut SourceNode) -> &mut BTreeMap<Vec<u8>, SourceNode> {
    match node {
        SourceNode::Directory { children, .. } => children,
        _ => panic!("no directory"),
    }
}

fn child<'a>(node: &'a mut SourceNode, path: &str) -> &'a mut SourceNode {
    path.split('/').fold(node, |node, name| children(node).get_mut(name.as_bytes()).expect(name))
}

fn span() -> Span {
    Span::default()
}

/// All that decides a RUN.
#[derive(Clone)]
struct RunCase {
    run: RunStep,
    platform: Platform,
    binds: BTreeMap<usize, SourceNode>,
    parent: Parent,
}

impl RunCase {
    fn inputs(&self) -> StepInputs {
        run_inputs(&self.run, &self.platform, &self.binds, &self.parent)
    }

    fn mount(&mut self, index: usize) -> &mut Mount {
        &mut self.run.mounts[index].mount
    }

    fn set(&mut self, name: &str, value: &str, kind: VariableKind) {
        self.run.env.insert(name.to_owned(), Variable { value: value.to_owned(), kind });
    }
}

fn image(name: &str, content: &str) -> Parent {
    let digest = Digest::of(content.as_bytes());
    Parent::Image { name: name.to_owned(), id: ImageId::new(digest), digest }
}

fn step_parent(key: u8) -> Parent {
    Parent::Step {
        key: StepKey::from_bytes([key; 32]),
        number: "3/7".to_owned(),
        text: "RUN below".to_owned(),
    }
}

fn run_case() -> RunCase {
    let mount = |mount| MountStep { span: span(), mount };
    let target = str::to_owned;
    let mut case = RunCase {
        run: RunStep {
            argv: ["/bin/sh", "-c", "make install"].map(str::to_owned).to_vec(),
            script: None,
            env: BTreeMap::new(),
            proxy_env: BTreeMap::new(),
            workdir: "/".to_owned(),
            user: String::new(),
            mounts: vec![
                mount(Mount::Bind {
                    target: target("/src"),
                    from: ContentSource::Context,
                    source: target("/code"),
                    readonly: true,
                }),
                mount(Mount::Cache {
                    target: target("/cache"),
                    id: target("/cache"),
                    sharing: CacheSharing::Shared,
                    from: None,
                    source: target("/"),
                    readonly: false,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                }),
                mount(Mount::Tmpfs { target: target("/tmp"), size_bytes: None }),
                mount(Mount::Secret {
                    id: target("token"),
                    target: Some(target("/run/secrets/token")),
                    env: None,
                    required: false,
                    mode: 0o400,
                    uid: 0,
                    gid: 0,
                }),
            ],
            network: NetworkMode::Default,
            hostname: "buildkitsandbox".to_owned(),
            extra_hosts: Vec::new(),
            history: "RUN ...".to_owned(),
        },
        platform: "linux/amd64".parse().unwrap(),
        binds: BTreeMap::from([(0, tree())]),
        parent: image("debian:12", "one"),
    };
    case.set("PATH", "/bin", VariableKind::Env);
    case.set("VERSION", "1", VariableKind::Arg);
    case.set("API_TOKEN", "hunter2", VariableKind::Arg);
    case
}

type Mutation<C> = (&'static str, fn(&mut C));

#[test]
fn each_input_of_run_changes_the_key_and_is_named() {
    let table: &[Mutation<RunCase>] = &[
        ("RUN text: install → test", |case| case.run.argv[2] = "make test".to_owned()),
        ("RUN text: `-j4` added", |case| case.run.argv[2] = "make -j4 install".to_owned()),
        ("RUN text: `install` removed", |case| case.run.argv[2] = "make".to_owned()),
        ("RUN text: its white space → other white space", |case| {
            case.run.argv[2] = "make  install".to_owned()
        }),
        ("RUN text: /bin/sh → /bin/bash", |case| case.run.argv[0] = "/bin/bash".to_owned()),
        ("RUN text: `#!/bin/x` added", |case| {
            case.run.script =
                Some(Script { path: "/dev/pipes/EOF".to_owned(), body: "#!/bin/x\n".to_owned() });
        }),
        ("ARG VERSION: 1 → 2", |case| case.set("VERSION", "2", VariableKind::Arg)),
        ("ARG NEW=x added", |case| case.set("NEW", "x", VariableKind::Arg)),
        ("ARG VERSION removed", |case| drop(case.run.env.remove("VERSION"))),
        ("ENV PATH: /bin → /usr/bin", |case| case.set("PATH", "/usr/bin", VariableKind::Env)),
        ("ENV VERSION: 1 → \"\"", |case| case.set("VERSION", "", VariableKind::Env)),
        ("ARG API_TOKEN changed (value not shown)", |case| {
            case.set("API_TOKEN", "hunter3", VariableKind::Arg)
        }),
        ("user: \"\" → app", |case| case.run.user = "app".to_owned()),
        ("workdir: / → /w", |case| case.run.workdir = "/w".to_owned()),
        ("platform: linux/amd64 → linux/arm64", |case| case.platform = "linux/arm64".parse().unwrap()),
        ("network: default → none", |case| case.run.network = NetworkMode::None),
        ("hostname: buildkitsandbox → h", |case| case.run.hostname = "h".to_owned()),
        ("extra hosts added: db", |case| case.run.extra_hosts = vec!["db".to_owned()]),
        ("code/app.rs changed", |case| *child(case.binds.get_mut(&0).unwrap(), "app.rs") = file("x")),
        ("code/lib/b.rs mode 0644 → 0755", |case| {
            facts_of(child(case.binds.get_mut(&0).unwrap(), "lib/b.rs")).mode = 0o755;
        }),
        ("mount /src readonly: true → false", |case| match case.mount(0) {
            Mount::Bind { readonly, .. } => *readonly = false,
            _ => panic!(),
        }),
        ("mount /cache mode: 0755 → 0700", |case| match case.mount(1) {
            Mount::Cache { mode, .. } => *mode = 0o700,
            _ => panic!(),
        }),
        ("mount /cache readonly: false → true", |case| match case.mount(1) {
            Mount::Cache { readonly, .. } => *readonly = true,
            _ => panic!(),
        }),
        ("mount /cache owner: 0:0 → 1:0", |case| match case.mount(1) {
            Mount::Cache { uid, .. } => *uid = 1,
            _ => panic!(),
        }),
        ("mount /tmp size added: 4096", |case| match case.mount(2) {
            Mount::Tmpfs { size_bytes, .. } => *size_bytes = Some(4096),
            _ => panic!(),
        }),
        ("mount /run/secrets/token id: token → other", |case| match case.mount(3) {
            Mount::Secret { id, .. } => *id = "other".to_owned(),
            _ => panic!(),
        }),
        ("mount /run/secrets/token required: false → true", |case| match case.mount(3) {
            Mount::Secret { required, .. } => *required = true,
            _ => panic!(),
        }),
        ("mount /tmp removed", |case| drop(case.run.mounts.remove(2))),
        ("mount order: /src /cache /tmp /run/secrets/token → /src /cache /run/secrets/token /tmp", |case| {
            case.run.mounts.swap(2, 3);
        }),
        ("follows step 3/7", |case| case.parent = step_parent(1)),
        ("base: debian:12 → scratch", |case| case.parent = Parent::Scratch),
        ("base: debian:12 → alpine:3", |case| case.parent = image("alpine:3", "two")),
    ];
    check(table, run_case, RunCase::inputs);
}

/// Each mutation of a case changes key and content key alike unless only the parent differs, and is the one cause.
fn check<C>(table: &[Mutation<C>], case: fn() -> C, inputs: fn(&C) -> StepInputs) {
    let before = inputs(&case());
    let mut seen = std::collections::HashMap::from([(before.step_key, "the case itself")]);
    for (expected, mutate) in table {
        let mut changed = case();
        mutate(&mut changed);
        let after = inputs(&changed);
        assert_eq!(seen.insert(after.step_key, expected), None, "{expected}: a key of its own");
        let explanation = explained(&after, &[&before]);
        let line = explanation.to_string();
        let line = line.strip_suffix(" (and 1 more)").unwrap_or(&line);
        assert_eq!(line, *expected);
        let is_parent = matches!(
            explanation.causes[0],
            Cause::Parent { .. } | Cause::Base { .. } | Cause::BaseMoved { .. }
        );
        let layers = [LayerContent::Diff(oci::DiffId::new(Digest::of(b"layer")))];
        assert_eq!(after.shape == before.shape, is_parent, "{expected}");
        assert_eq!(after.content_key(&layers) == before.content_key(&layers), is_parent, "{expected}");
    }
}

#[test]
fn a_run_does_not_depend_on_what_it_cannot_see() {
    let table: &[Mutation<RunCase>] = &[
        ("proxies", |case| drop(case.run.proxy_env.insert("HTTP_PROXY".to_owned(), "p".to_owned()))),
        ("history", |case| case.run.history = "RUN other".to_owned()),
        ("the id of a cache, its sharing and what it starts with", |case| match case.mount(1) {
            Mount::Cache { id, sharing, from, source, .. } => {
                *id = "other".to_owned();
                *sharing = CacheSharing::Locked;
                *from = Some(ContentSource::Stage(StageId::new(0)));
                *source = "/seed".to_owned();
            }
            _ => panic!(),
        }),
        ("spans", |case| case.run.mounts[0].span = Span::new(7, 9)),
        ("where the bind lies", |case| match case.mount(0) {
            Mount::Bind { source, .. } => *source = "/elsewhere".to_owned(),
            _ => panic!(),
        }),
        ("the owner of context files", |case| {
            facts_of(child(case.binds.get_mut(&0).unwrap(), "app.rs")).uid = 7
        }),
        ("the mode of a link", |case| facts_of(child(case.binds.get_mut(&0).unwrap(), "latest")).mode = 0),
        ("whether ARG or ENV set a variable", |case| case.set("VERSION", "1", VariableKind::Env)),
        ("the name of the base", |case| case.parent = image("debian:bookworm", "one")),
    ];
    let before = run_case().inputs();
    for (what, mutate) in table {
        let mut changed = run_case();
        mutate(&mut changed);
        assert_eq!(changed.inputs().step_key, before.step_key, "{what}");
    }
}

#[test]
fn owners_count_in_binds_of_a_stage() {
    let mut case = run_case();
    match case.mount(0) {
        Mount::Bind { from, .. } => *from = ContentSource::Stage(StageId::new(0)),
        _ => panic!(),
    }
    let before = case.inputs();
    facts_of(child(case.binds.get_mut(&0).unwrap(), "app.rs")).uid = 7;
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), "/code/app.rs owner 0:0 → 7:0");
}

/// All that decides a COPY.
#[derive(Clone)]
struct CopyCase {
    copy: CopyStep,
    sources: Vec<SourceInput>,
    epoch: Option<i64>,
    parent: Parent,
}

impl CopyCase {
    fn inputs(&self) -> StepInputs {
        copy_inputs(&self.copy, &self.sources, self.epoch, &self.parent)
    }

    fn tree(&mut self) -> &mut SourceNode {
        &mut self.sources[0].matches[0].node
    }
}

fn copy_case() -> CopyCase {
    let path = |text: &str| CopySourceStep::Path { text: text.to_owned(), span: span() };
    let found = |path: &str, name: Option<&str>, node| SourceMatch {
        path: path.as_bytes().to_vec(),
        name: name.map(|name| name.as_bytes().to_vec()),
        node,
    };
    let document =
        CopySourceStep::Document { name: "EOF".to_owned(), body: "text\n".to_owned(), span: span() };
    CopyCase {
        copy: CopyStep {
            from: ContentSource::Context,
            sources: vec![path("src"), path("*.toml"), document],
            target: "/app/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: false,
            unpack_remote: false,
            checksum: None,
            history: "COPY ...".to_owned(),
        },
        sources: vec![
            SourceInput { matches: vec![found("src", None, tree())] },
            SourceInput {
                matches: vec![
                    found("Cargo.toml", Some("Cargo.toml"), file("cargo")),
                    found("deny.toml", Some("deny.toml"), file("deny")),
                ],
            },
        ],
        epoch: None,
        parent: image("debian:12", "one"),
    }
}

#[test]
fn each_input_of_copy_changes_the_key_and_is_named() {
    let table: &[Mutation<CopyCase>] = &[
        ("src/app.rs changed", |case| *child(case.tree(), "app.rs") = file("fn main() { }")),
        ("src/lib/c.rs added", |case| {
            drop(children(child(case.tree(), "lib")).insert(b"c.rs".to_vec(), file("c")))
        }),
        ("src/lib/a.rs removed", |case| drop(children(child(case.tree(), "lib")).remove(b"a.rs".as_slice()))),
        ("src/lib/a.rs renamed to src/lib/z.rs", |case| {
            let node = children(child(case.tree(), "lib")).remove(b"a.rs".as_slice()).unwrap();
            children(child(case.tree(), "lib")).insert(b"z.rs".to_vec(), node);
        }),
        ("src/lib/a.rs renamed to src/a.rs", |case| {
            let node = children(child(case.tree(), "lib")).remove(b"a.rs".as_slice()).unwrap();
            children(case.tree()).insert(b"a.rs".to_vec(), node);
        }),
        ("src/lib renamed to src/library", |case| {
            let node = children(case.tree()).remove(b"lib".as_slice()).unwrap();
            children(case.tree()).insert(b"library".to_vec(), node);
        }),
        ("src/app.rs mode 0644 → 0755", |case| facts_of(child(case.tree(), "app.rs")).mode = 0o755),
        ("src/lib mode 0755 → 0700", |case| facts_of(child(case.tree(), "lib")).mode = 0o700),
        ("src mode 0755 → 1777", |case| facts_of(case.tree()).mode = 0o1777),
        ("src/latest link target app.rs → lib/a.rs", |case| {
            *child(case.tree(), "latest") = link("lib/a.rs")
        }),
        ("src/latest is of another kind", |case| *child(case.tree(), "latest") = file("x")),
        ("src/null is another device", |case| {
            *child(case.tree(), "null") =
                SourceNode::Special { facts: facts(0o666), kind: 0o020_000, device: 1 };
        }),
        ("src/app.rs extended attributes changed", |case| {
            facts_of(child(case.tree(), "app.rs")).xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
        }),
        ("src/lib/b.rs is hard-linked otherwise", |case| match child(case.tree(), "lib/b.rs") {
            SourceNode::File { linked_to, .. } => *linked_to = Some(b"app.rs".to_vec()),
            _ => panic!(),
        }),
        ("src/empty added", |case| drop(children(case.tree()).insert(b"empty".to_vec(), directory(&[])))),
        ("Cargo.toml changed", |case| case.sources[1].matches[0].node = file("other")),
        ("clippy.toml added", |case| {
            let node = file("clippy");
            let name = b"clippy.toml".to_vec();
            case.sources[1].matches.insert(1, SourceMatch { path: name.clone(), name: Some(name), node });
        }),
        ("deny.toml removed", |case| case.sources[1].matches.truncate(1)),
        ("<<EOF changed", |case| match &mut case.copy.sources[2] {
            CopySourceStep::Document { body, .. } => body.push_str("more\n"),
            CopySourceStep::Path { .. } | CopySourceStep::Remote { .. } => panic!(),
        }),
        ("target: /app/ → /app", |case| case.copy.target = "/app".to_owned()),
        ("chown added: 1:1", |case| case.copy.chown = Some("1:1".to_owned())),
        ("chmod added: u=rwX", |case| case.copy.chmod = Some(Chmod::Symbolic("u=rwX".to_owned()))),
        ("link added: true", |case| case.copy.link = true),
        ("parents added: true", |case| case.copy.parents = true),
        ("unpack added: true", |case| case.copy.unpack = true),
        ("epoch added: 1", |case| case.epoch = Some(1)),
        ("follows step 3/7", |case| case.parent = step_parent(1)),
    ];
    check(table, copy_case, CopyCase::inputs);
}

#[test]
fn a_copy_does_not_depend_on_what_it_does_not_copy() {
    let table: &[Mutation<CopyCase>] = &[
        ("owners in the context", |case| facts_of(child(case.tree(), "app.rs")).uid = 1000),
        ("where the source lies", |case| case.sources[0].matches[0].path = b"moved/src".to_vec()),
        ("how it is written", |case| {
            case.copy.sources[0] = CopySourceStep::Path { text: "./src/".to_owned(), span: Span::new(3, 4) };
            case.copy.history = "COPY other".to_owned();
        }),
        ("patterns that exclude nothing", |case| case.copy.exclude = vec!["*.md".to_owned()]),
        ("the mode of a link", |case| facts_of(child(case.tree(), "latest")).mode = 0),
    ];
    let before = copy_case().inputs();
    for (what, mutate) in table {
        let mut changed = copy_case();
        mutate(&mut changed);
        assert_eq!(changed.inputs().step_key, before.step_key, "{what}");
    }
}

#[test]
fn an_absolute_chmod_takes_the_sources_modes_out_of_the_key() {
    let mut case = copy_case();
    case.copy.chmod = Some(Chmod::Mode(0o644));
    let before = case.inputs();
    facts_of(child(case.tree(), "app.rs")).mode = 0o664;
    facts_of(child(case.tree(), "lib")).mode = 0o775;
    assert_eq!(case.inputs().step_key, before.step_key);
    case.copy.chmod = Some(Chmod::Mode(0o755));
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), "chmod: 0644 → 0755");

    let mut symbolic = copy_case();
    symbolic.copy.chmod = Some(Chmod::Symbolic("go-w".to_owned()));
    let before = symbolic.inputs();
    facts_of(child(symbolic.tree(), "app.rs")).mode = 0o755;
    assert_ne!(symbolic.inputs().step_key, before.step_key, "what it makes depends on what was there");
}

#[test]
fn owners_count_in_a_copy_from_a_stage_unless_it_sets_them() {
    let mut case = copy_case();
    case.copy.from = ContentSource::Stage(StageId::new(0));
    let before = case.inputs();
    facts_of(child(case.tree(), "app.rs")).gid = 5;
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), "/src/app.rs owner 0:0 → 0:5");

    let mut set = copy_case();
    set.copy.from = ContentSource::Stage(StageId::new(0));
    set.copy.chown = Some("app".to_owned());
    let before = set.inputs();
    facts_of(child(set.tree(), "app.rs")).gid = 5;
    assert_eq!(set.inputs().step_key, before.step_key);
}

#[test]
fn each_input_of_workdir_changes_the_key_and_is_named() {
    fn case() -> (WorkdirStep, Option<i64>, Parent) {
        let workdir = WorkdirStep { path: "/w".into(), user: String::new(), history: "WORKDIR /w".into() };
        (workdir, None, image("debian:12", "one"))
    }
    let table: &[Mutation<(WorkdirStep, Option<i64>, Parent)>] = &[
        ("path: /w → /x", |case| case.0.path = "/x".to_owned()),
        ("user: \"\" → app", |case| case.0.user = "app".to_owned()),
        ("epoch added: 0", |case| case.1 = Some(0)),
        ("follows step 3/7", |case| case.2 = step_parent(1)),
    ];
    check(table, case, |case| workdir_inputs(&case.0, case.1, &case.2));
}

#[test]
fn a_base_that_moved_is_named_with_both_digests() {
    let mut case = run_case();
    let before = case.inputs();
    case.parent = image("debian:12", "two");
    let (old, new) = (Digest::of(b"one").hex(), Digest::of(b"two").hex());
    let expected = format!("base image debian:12 moved: sha256:{}… → sha256:{}…", &old[..12], &new[..12]);
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), expected);
}

#[test]
fn a_base_that_moved_comes_first_and_the_step_below_last() {
    let mut case = run_case();
    let before = case.inputs();
    case.set("PATH", "/new", VariableKind::Env);
    case.parent = image("debian:12", "two");
    let explanation = explained(&case.inputs(), &[&before]);
    assert!(matches!(explanation.causes[0], Cause::BaseMoved { .. }), "{explanation}");
    assert_eq!(explanation.causes.len(), 2);

    case.parent = step_parent(9);
    let explanation = explained(&case.inputs(), &[&before]);
    assert_eq!(explanation.to_string(), "ENV PATH: /bin → /new (and 1 more)");
    assert!(matches!(explanation.causes[1], Cause::Parent { .. }));
}

#[test]
fn further_files_are_counted() {
    let mut case = copy_case();
    let before = case.inputs();
    *child(case.tree(), "app.rs") = file("other");
    facts_of(child(case.tree(), "app.rs")).mode = 0o755;
    assert_eq!(
        explained(&case.inputs(), &[&before]).to_string(),
        "src/app.rs changed",
        "one file, two respects"
    );
    *child(case.tree(), "lib/a.rs") = file("other");
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), "src/app.rs changed (and 1 more file)");
    for index in 0..2000 {
        children(case.tree()).insert(format!("new{index:04}").into_bytes(), file(&index.to_string()));
    }
    let explanation = explained(&case.inputs(), &[&before]);
    assert_eq!(explanation.causes.len(), Explanation::LIMIT);
    assert_eq!(explanation.to_string(), "src/app.rs changed (and 2001 more files)");
}

#[test]
fn a_new_folder_is_one_cause() {
    let mut case = copy_case();
    let before = case.inputs();
    children(case.tree()).insert(b"new".to_vec(), tree());
    assert_eq!(explained(&case.inputs(), &[&before]).to_string(), "src/new added");
}

#[test]
fn the_nearest_earlier_result_is_the_one_compared_with() {
    // A step was put before this one: the record at this position is another step's, that of this step is further on.
    let mut now = run_case();
    now.parent = step_parent(2);
    let mut other = run_case();
    other.run.argv[2] = "apt-get update".to_owned();
    let mut same = run_case();
    same.parent = step_parent(1);
    let (other, same) = (other.inputs(), same.inputs());
    assert_eq!(explained(&now.inputs(), &[&other, &same]).to_string(), "follows step 3/7");

    // The same text, another ARG, against another text.
    let mut near = run_case();
    near.set("VERSION", "0", VariableKind::Arg);
    let near = near.inputs();
    assert_eq!(explained(&run_case().inputs(), &[&other, &near]).to_string(), "ARG VERSION: 0 → 1");
    let copy = copy_case().inputs();
    assert_eq!(explained(&run_case().inputs(), &[&copy]).to_string(), "instruction: COPY → RUN");
}

#[test]
fn what_was_never_built_or_is_gone_says_so() {
    let now = run_case().inputs();
    assert_eq!(explained(&now, &[]).to_string(), "never built here");
    assert_eq!(explained(&now, &[&now]).to_string(), "its earlier result is no longer in the store");
    let lost = explain(&now, &[record(&copy_case().inputs())], &mut |_| None);
    assert_eq!(lost.to_string(), "its earlier result is no longer in the store");
    assert_eq!(Cause::NoCache.to_string(), "--no-cache");
}

#[test]
fn what_looks_like_a_secret_is_in_no_node() {
    let inputs = run_case().inputs();
    let nodes = inputs.into_nodes();
    let holds = |text: &str| {
        nodes.iter().any(|node| {
            let bytes = node.encode();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    };
    assert!(holds("VERSION") && holds("API_TOKEN"), "names are kept");
    assert!(!holds("hunter2"));
}

#[test]
fn long_values_and_odd_names_stay_on_one_line() {
    let mut case = run_case();
    let before = case.inputs();
    case.set("VERSION", &"long\nvalue ".repeat(50), VariableKind::Arg);
    let line = explained(&case.inputs(), &[&before]).to_string();
    assert!(!line.contains('\n') && line.chars().count() < 120, "{line}");

    let mut odd = copy_case();
    let before = odd.inputs();
    children(odd.tree()).insert(b"a\nb\xff\x1b[31m".to_vec(), file("x"));
    assert_eq!(explained(&odd.inputs(), &[&before]).to_string(), "src/a\\nb\u{fffd}\\u{1b}[31m added");
}

#[test]
fn an_explanation_is_data_for_programs() {
    let mut case = copy_case();
    let before = case.inputs();
    facts_of(child(case.tree(), "app.rs")).mode = 0o755;
    let json = serde_json::to_value(explained(&case.inputs(), &[&before])).unwrap();
    let cause = &json["causes"][0];
    assert_eq!((cause["cause"].as_str(), cause["path"].as_str()), (Some("path"), Some("src/app.rs")));
    assert_eq!(cause["change"], serde_json::json!({"what": "mode", "before": 0o644, "after": 0o755}));
}

#[test]
fn random_trees_share_their_keys_exactly_when_they_are_equal() {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        ("[ab]", any::<bool>()).prop_map(|(content, exec)| {
            let mut node = file(&content);
            facts_of(&mut node).mode = if exec { 0o755 } else { 0o644 };
            node
        }),
        "[ab]".prop_map(|target| link(&target)),
    ];
    let node = leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::btree_map("[abc]".prop_map(String::into_bytes), inner, 0..3)
            .prop_map(|children| SourceNode::Directory { facts: facts(0o755), children })
    });
    proptest!(|(one in node.clone(), other in node)| {
        let inputs = |tree: &SourceNode| {
            let mut case = copy_case();
            *case.tree() = tree.clone();
            case.inputs()
        };
        let (before, after) = (inputs(&one), inputs(&other));
        let equal = match (&one, &other) {
            (SourceNode::Link { target: a, .. }, SourceNode::Link { target: b, .. }) => a == b,
            (one, other) => one == other,
        };
        prop_assert_eq!(before.step_key == after.step_key, equal);
        if !equal {
            let explanation = explained(&after, &[&before]);
            prop_assert!(explanation.causes.iter().all(|cause| matches!(cause, Cause::Path { .. })), "{}", explanation);
        }
    });
}
