//! Golden plans: `testdata/plan/<case>/config.json`, and in `facts.txt` what the host adds, become `ops.txt`.

use std::path::Path;

use oci_spec::runtime::Spec;
use sandbox::plan::{CgroupFacts, CgroupView, Facts, Plan};
use sandbox::{IdMap, LaunchError, SeccompPolicy};

fn facts(text: &str) -> Facts {
    let mut facts = Facts {
        id_map: Some(IdMap::container()),
        cgroup: CgroupFacts::default(),
        last_capability: 40,
        seccomp: SeccompPolicy::Default,
        binds: Vec::new(),
    };
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["no", "id", "map"] => facts.id_map = None,
            ["unconfined"] => facts.seccomp = SeccompPolicy::Unconfined,
            ["join"] => facts.cgroup.join = true,
            ["cgroup", "v2"] => facts.cgroup.view = CgroupView::Unified,
            ["cgroup", "v1", controllers] => {
                let hierarchy = controllers.split(',').map(str::to_owned).collect();
                match &mut facts.cgroup.view {
                    CgroupView::Legacy(hierarchies) => hierarchies.push(hierarchy),
                    view => *view = CgroupView::Legacy(vec![hierarchy]),
                }
            }
            ["bind", target, how] => facts.binds.push((target.into(), how == "ro")),
            _ => panic!("`{line}`"),
        }
    }
    facts
}

fn spec(case: &str) -> serde_json::Value {
    let path = testutil::workspace_dir().join("testdata/plan").join(case).join("config.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn plan(spec: &serde_json::Value, facts: &Facts) -> Result<Plan, LaunchError> {
    let spec: Spec = serde_json::from_value(spec.clone()).unwrap();
    Plan::new(&spec, facts)
}

#[test]
fn plans_are_as_recorded() {
    let root = testutil::workspace_dir().join("testdata/plan");
    let mut count = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let dir = entry.unwrap().path();
        let case = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let facts = facts(&std::fs::read_to_string(dir.join("facts.txt")).unwrap_or_default());
        let text = match plan(&spec(&case), &facts) {
            Ok(plan) => plan.to_string(),
            Err(error) => format!("error: {error}\n"),
        };
        testutil::assert_golden(Path::new(&dir).join("ops.txt"), &text);
        count += 1;
    }
    assert!(count >= 10);
}

/// Changes the plain spec and expects it to be refused with a text that names the reason.
#[track_caller]
fn refused(change: impl FnOnce(&mut serde_json::Value), reason: &str) {
    let mut spec = spec("run");
    change(&mut spec);
    let error = plan(&spec, &facts("")).expect_err(reason).to_string();
    assert!(error.contains(reason), "`{error}` doesn't say `{reason}`");
}

fn add_mount(spec: &mut serde_json::Value, target: &str, kind: &str, options: &[&str]) {
    let mount = serde_json::json!({"destination": target, "type": kind, "source": kind, "options": options});
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    refused(|spec| spec["hooks"] = serde_json::json!({}), "hooks");
    refused(|spec| spec["linux"]["cgroupsPath"] = "/x".into(), "cgroupsPath");
    refused(|spec| spec["process"]["apparmorProfile"] = "x".into(), "apparmor");
    refused(|spec| spec["linux"]["rootfsPropagation"] = "shared".into(), "rootfsPropagation");
    refused(
        |spec| spec["linux"]["sysctl"] = serde_json::json!({"kernel.core_pattern": "|/x"}),
        "kernel.core_pattern",
    );
    refused(
        |spec| spec["linux"]["sysctl"] = serde_json::json!({"net.core.somaxconn": "1"}),
        "net.core.somaxconn",
    );
    refused(|spec| spec["linux"]["sysctl"] = serde_json::json!({"fs.mqueue./../x": "1"}), "fs.mqueue");
    refused(|spec| add_mount(spec, "/mnt", "ext4", &[]), "ext4");
    refused(|spec| add_mount(spec, "/mnt", "bind", &["rbind"]), "bind");
    refused(|spec| add_mount(spec, "/mnt", "tmpfs", &["rshared"]), "rshared");
    refused(|spec| add_mount(spec, "/cg", "cgroup", &[]), "cgroup mount that can be written");
    refused(|spec| add_mount(spec, "/mnt", "proc", &[]), "/mnt");
    refused(|spec| spec["process"]["capabilities"]["ambient"] = serde_json::json!(["CAP_CHOWN"]), "ambient");
    refused(
        |spec| spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid"),
        "pid namespace",
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    refused(|spec| spec["process"]["args"] = serde_json::json!([]), "no program");
    refused(|spec| spec["process"]["args"] = serde_json::json!(["a\0b"]), "NUL");
    refused(|spec| spec["process"]["cwd"] = "etc".into(), "not absolute");
    refused(|spec| add_mount(spec, "/a/../proc", "tmpfs", &[]), "..");
    refused(|spec| add_mount(spec, "tmp", "tmpfs", &[]), "not absolute");
    refused(|spec| add_mount(spec, "/proc", "tmpfs", &[]), "/proc");
    refused(|spec| spec["process"]["user"]["uid"] = 2_147_483_647_u32.into(), "can't be mapped");
    refused(|spec| spec["hostname"] = "x".repeat(65).into(), "longer than 64");
    refused(
        |spec| spec["process"]["capabilities"]["permitted"] = serde_json::json!([]),
        "effective capabilities that are not permitted",
    );
}

#[test]
fn nothing_can_be_bound_over_what_the_kernel_shows() {
    for target in
        ["/proc", "/proc/self", "/proc/./sys/", "/sys", "/sys/fs/cgroup/x", "/dev", "/dev/pts/0", "/"]
    {
        let facts = Facts { binds: vec![(target.into(), false)], ..facts("") };
        let error = plan(&spec("run"), &facts).expect_err(target).to_string();
        assert!(error.contains("nothing can be bound"), "{target}: {error}");
    }
    for target in ["/procedure", "/dev/x", "/dev/shm/x", "/etc/resolv.conf"] {
        let facts = Facts { binds: vec![(target.into(), false)], ..facts("") };
        plan(&spec("run"), &facts).expect(target);
    }
}

#[test]
fn a_program_is_looked_for_where_the_environment_says() {
    let mut spec = spec("run");
    spec["process"]["env"] = serde_json::json!(["PATH=/a", "X=y", "PATH=/b/::relative:/c"]);
    let text = plan(&spec, &facts("")).unwrap().to_string();
    assert!(text.ends_with("execute [\"true\"] as /b/true:/c/true\n"), "{text}");
}
