//! Files that one RUN step sees and that are no part of any layer: secrets, `/etc/hosts`, scripts.
//!
//! They lie on a tmpfs of their own that is attached nowhere, so that no other process finds them and nothing is left
//! when this one dies. Kernels that can't bind out of such a mount get them in the store's runtime folder, unlinked as
//! soon as they are bound.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use store::Store;
use sys::file::Owner;
use sys::kernel::Feature;

/// A place for such files.
pub(crate) struct StepFiles {
    dir: OwnedFd,
    /// Where the names have to be removed, if they are not on a tmpfs of their own.
    shared: Option<Shared>,
    count: usize,
}

struct Shared {
    parent: OwnedFd,
    name: CString,
}

impl StepFiles {
    pub(crate) fn new(store: &Store) -> io::Result<Self> {
        if sys::kernel::has(Feature::OverlayFd) {
            let tmpfs = sys::mount::FsContext::open(c"tmpfs")?;
            tmpfs.set_string(c"mode", c"0700")?;
            tmpfs.set_string(c"size", c"16m")?;
            tmpfs.create()?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            let mount = tmpfs.mount(attributes)?;
            return Ok(Self { dir: mount, shared: None, count: 0 });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(&store.options().runtime, flags, Mode::empty())?;
        let mut random = [0_u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = CString::new(format!("step-{:016x}", u64::from_ne_bytes(random))).expect("hexadecimal");
        sys::file::create_dir_at(&parent, &*name, 0o700)?;
        let dir = sys::file::open_dir_at(&parent, &*name)?;
        Ok(Self { dir, shared: Some(Shared { parent, name }), count: 0 })
    }

    /// Writes a file and gives the place to bind from.
    pub(crate) fn add(&mut self, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<OwnedFd> {
        let name = CString::new(self.count.to_string()).expect("digits");
        self.count += 1;
        let mut file = std::fs::File::from(sys::file::create_file_at(&self.dir, &*name, 0o600)?);
        file.write_all(bytes)?;
        sys::file::set_owner(&file, owner)?;
        sys::file::set_mode(&file, mode)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(self.dir.as_fd(), &*name, flags, Mode::empty())?)
    }

    /// Once everything is bound the names aren't needed any more.
    pub(crate) fn unlink(&mut self) {
        if let Some(Shared { parent, name }) = self.shared.take() {
            // The folder is the store's own; what stays is removed with it at the next boot.
            let _ = sys::dir::remove_tree(&parent, &*name, None);
        }
    }
}

impl Drop for StepFiles {
    fn drop(&mut self) {
        self.unlink();
    }
}
