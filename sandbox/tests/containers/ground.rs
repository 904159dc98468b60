//! What every test stands on: a sandbox, a busybox layer, a scratch directory.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};
use sandbox::{
    Bind, BindIdmap, CgroupSettings, Exit, Launch, LaunchError, Rootfs, Running, Sandbox, SandboxSettings,
    Scratch, SeccompPolicy, Stdio,
};
use sys::kernel::{self, Feature};
use tempfile::TempDir;

/// Names the features that the second run does without.
pub(crate) const DISABLE: &str = "CALQUE_SANDBOX_TEST_DISABLE";

/// Whether this run does without a feature.
pub(crate) fn has(feature: Feature) -> bool {
    LazyLock::force(&SANDBOX);
    kernel::has(feature)
}

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    if let Ok(text) = std::env::var(DISABLE) {
        let features: Vec<Feature> = text.split(',').map(|name| name.parse().unwrap()).collect();
        kernel::disable(&features);
    }
    Sandbox::open(SandboxSettings::default()).unwrap()
});

/// The sandbox of this test process.
pub(crate) fn sandbox() -> Sandbox {
    SANDBOX.clone()
}

/// Unpacked once; every test sees it as a read-only layer.
static BUSYBOX: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    testutil::busybox_rootfs(dir.path());
    dir
});

pub(crate) fn open_path(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A container to be.
pub(crate) struct Ground {
    temp: Arc<TempDir>,
    pub(crate) spec: serde_json::Value,
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) seccomp: SeccompPolicy,
    pub(crate) cgroup: CgroupSettings,
    pub(crate) scratch: bool,
    pub(crate) stdin: Option<OwnedFd>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Its output, if it went well.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.exit, Exit::Code(0), "{self:?}");
        self.stdout.trim_end()
    }
}

impl Ground {
    /// Root in a shell, the network of the host.
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for name in ["stubs/proc", "stubs/sys", "stubs/dev", "stubs/src", "work", "tree"] {
            fs::create_dir_all(temp.path().join(name)).unwrap();
        }
        let text = include_str!("../../../testdata/plan/run/config.json");
        let mut spec: serde_json::Value = serde_json::from_str(text).unwrap();
        spec["process"]["args"] = serde_json::json!(["/bin/sh", "-c", "true"]);
        let lowers = vec![temp.path().join("stubs"), BUSYBOX.path().to_owned()];
        Self {
            temp: Arc::new(temp),
            spec,
            lowers,
            binds: Vec::new(),
            seccomp: SeccompPolicy::Default,
            cgroup: CgroupSettings::Own,
            scratch: true,
            stdin: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// The upperdir.
    pub(crate) fn upper(&self, name: &str) -> PathBuf {
        self.temp.path().join("tree").join(name)
    }

    /// One more layer, on top of those there are; made by `make`.
    pub(crate) fn layer(mut self, make: impl FnOnce(&Path)) -> Self {
        let dir = self.path(&format!("layer{}", self.lowers.len()));
        fs::create_dir(&dir).unwrap();
        make(&dir);
        self.lowers.insert(0, dir);
        self
    }

    pub(crate) fn bind(mut self, source: &Path, target: &str, readonly: bool) -> Self {
        let source = open_path(source);
        self.binds.push(Bind {
            source,
            target: target.into(),
            readonly,
            idmap: BindIdmap::Identity,
            recursive: true,
        });
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.spec["process"]["args"] = serde_json::json!(args);
        self
    }

    pub(crate) fn shell(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    pub(crate) fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.spec["process"]["user"] = serde_json::json!({"uid": uid, "gid": gid, "additionalGids": groups});
        for set in ["effective", "permitted"] {
            self.spec["process"]["capabilities"][set] = serde_json::json!([]);
        }
        self
    }

    /// Without a network, or without a user namespace.
    pub(crate) fn namespaces(mut self, network: bool, user: bool) -> Self {
        let namespaces = self.spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user" && namespace["type"] != "network");
        if network {
            namespaces.push(serde_json::json!({"type": "network"}));
            for mount in self.spec["mounts"].as_array_mut().unwrap() {
                if mount["destination"] == "/sys" {
                    *mount = serde_json::json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                        "options": ["nosuid", "noexec", "nodev", "ro"]});
                }
            }
        }
        if user {
            self.spec["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(serde_json::json!({"type": "user"}));
        }
        self
    }

    pub(crate) fn mount(mut self, mount: serde_json::Value) -> Self {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// Starts it with stdio to files; a workdir serves once, so each start has a new one.
    pub(crate) fn start(&mut self) -> Result<(Running, File, File), LaunchError> {
        let spec: Spec = serde_json::from_value(self.spec.clone()).unwrap();
        let work = format!("work/{}", fs::read_dir(self.path("work")).unwrap().count());
        let work_dir = self.path(&work);
        fs::create_dir(&work_dir).unwrap();
        let file = || tempfile::tempfile().unwrap();
        let (out, err) = (file(), file());
        let launch = Launch {
            spec,
            rootfs: Rootfs::Overlay {
                lowerdirs: self.lowers.iter().map(|path| open_path(path)).collect(),
                scratch: self.scratch.then(|| Scratch {
                    dir: open_path(self.temp.path()),
                    upper: CString::new("tree").unwrap(),
                    work: CString::new(work).unwrap(),
                }),
            },
            binds: std::mem::take(&mut self.binds),
            stdio: Stdio {
                stdin: self.stdin.take().unwrap_or_else(|| File::open("/dev/null").unwrap().into()),
                stdout: out.try_clone().unwrap().into(),
                stderr: err.try_clone().unwrap().into(),
            },
            seccomp: self.seccomp,
            cgroup: self.cgroup,
        };
        let running = sandbox().launch(launch)?;
        Ok((running, out, err))
    }

    pub(crate) fn try_run(&mut self) -> Result<Outcome, LaunchError> {
        let (running, mut out, mut err) = self.start()?;
        let exit = running.wait().unwrap();
        Ok(Outcome { exit, stdout: read(&mut out), stderr: read(&mut err), notes: running.notes().to_vec() })
    }

    #[track_caller]
    pub(crate) fn run(&mut self) -> Outcome {
        self.try_run().unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }
}

pub(crate) fn read(file: &mut File) -> String {
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Waits for a condition, not for a time.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
