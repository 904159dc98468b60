//! Extended attributes of open files and of names in open directories, never through a symlink.
//!
//! `setxattrat(2)` and its kin are Linux 6.13; before, only `f*xattr` take a descriptor, and those
//! refuse `O_PATH` ones. So a name in a directory is reached as `/proc/self/fd/<dir>/<name>`, whose
//! last component `l*xattr` don't follow.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// One attribute: its full name, such as `security.capability`, and its value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Name with its namespace.
    pub name: CString,
    /// The value: any bytes.
    pub value: Vec<u8>,
}

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` of `limits.h`: no value or list is longer.
const MAX_LEN: usize = 65_536;

/// All attributes of an open file or directory, sorted by name; none where the file system has none.
pub fn all(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    let file = file.as_fd();
    collect(|buffer| rustix::fs::flistxattr(file, buffer), |name| get(file, name))
}

/// All attributes of `name` in `dir`, sorted by name; a symlink's own. The empty name is `dir` itself,
/// which may then be an `O_PATH` descriptor of anything.
pub fn all_at(dir: impl AsFd, name: &CStr) -> io::Result<Vec<Xattr>> {
    let path = proc_path(&dir, name);
    if name.is_empty() {
        collect(|buffer| rustix::fs::listxattr(&path, buffer), |attr| get_at(&dir, name, attr))
    } else {
        collect(|buffer| rustix::fs::llistxattr(&path, buffer), |attr| get_at(&dir, name, attr))
    }
}

/// The value of one attribute of an open file or directory.
pub fn get(file: impl AsFd, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
    let file = file.as_fd();
    value(|buffer| rustix::fs::fgetxattr(file, attribute, buffer))
}

/// The value of one attribute of `name` in `dir`; the empty name is `dir` itself.
pub fn get_at(dir: impl AsFd, name: &CStr, attribute: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path(&dir, name);
    if name.is_empty() {
        value(|buffer| rustix::fs::getxattr(&path, attribute, buffer))
    } else {
        value(|buffer| rustix::fs::lgetxattr(&path, attribute, buffer))
    }
}

/// Sets an attribute of an open file or directory.
pub fn set(file: impl AsFd, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty())?)
}

/// Sets an attribute of `name` in `dir`; the empty name is `dir` itself.
pub fn set_at(dir: impl AsFd, name: &CStr, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    let path = proc_path(&dir, name);
    let result = if name.is_empty() {
        rustix::fs::setxattr(&path, attribute, value, XattrFlags::empty())
    } else {
        rustix::fs::lsetxattr(&path, attribute, value, XattrFlags::empty())
    };
    Ok(result?)
}

/// Removes an attribute of `name` in `dir`; the empty name is `dir` itself. One that isn't there is no error.
pub fn remove_at(dir: impl AsFd, name: &CStr, attribute: &CStr) -> io::Result<()> {
    let path = proc_path(&dir, name);
    let result = if name.is_empty() {
        rustix::fs::removexattr(&path, attribute)
    } else {
        rustix::fs::lremovexattr(&path, attribute)
    };
    match result {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        other => Ok(other?),
    }
}

fn proc_path(dir: &impl AsFd, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
    }
    path
}

/// Calls `read` with a buffer that is large enough in nearly all cases, else with the largest there can be.
fn with_buffer<T>(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    take: impl FnOnce(&[u8]) -> T,
) -> rustix::io::Result<T> {
    let mut small = [0_u8; 512];
    match read(&mut small) {
        Err(Errno::RANGE) => {
            let mut large = vec![0_u8; MAX_LEN];
            let len = read(&mut large)?;
            Ok(take(&large[..len]))
        }
        Err(error) => Err(error),
        Ok(len) => Ok(take(&small[..len])),
    }
}

fn value(read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    match with_buffer(read, <[u8]>::to_vec) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn collect(
    list: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Vec<Xattr>> {
    let names = match with_buffer(list, |list| {
        list.split_inclusive(|byte| *byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok().map(CStr::to_owned))
            .collect::<Vec<_>>()
    }) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        // An attribute that was removed since it was listed is left out.
        if let Some(value) = get(&name)? {
            all.push(Xattr { name, value });
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::RootDir;

    #[test]
    fn attributes_are_read_and_set_by_name_and_by_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let place = RootDir::open(dir.path()).unwrap();
        let file = fs::File::open(dir.path().join("f")).unwrap();
        assert_eq!(all(&file).unwrap(), []);
        set_at(&place, c"f", c"user.b", b"2").unwrap();
        set(&file, c"user.a", &[7; 3000]).unwrap();
        let expected = [
            Xattr { name: c"user.a".into(), value: vec![7; 3000] },
            Xattr { name: c"user.b".into(), value: b"2".to_vec() },
        ];
        assert_eq!(all(&file).unwrap(), expected);
        assert_eq!(all_at(&place, c"f").unwrap(), expected);
        assert_eq!(all_at(place.open_path("f".as_ref()).unwrap(), c"").unwrap(), expected);
        assert_eq!(get(&file, c"user.none").unwrap(), None);
        remove_at(&place, c"f", c"user.a").unwrap();
        remove_at(&place, c"f", c"user.a").unwrap();
        assert_eq!(get_at(&place, c"f", c"user.a").unwrap(), None);
    }

    #[test]
    #[ignore = "root: sets trusted attributes"]
    fn root_a_symlink_has_its_own_attributes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        symlink("f", dir.path().join("l")).unwrap();
        let place = RootDir::open(dir.path()).unwrap();
        set_at(&place, c"l", c"trusted.x", b"link").unwrap();
        assert_eq!(all_at(&place, c"f").unwrap(), []);
        assert_eq!(get_at(&place, c"l", c"trusted.x").unwrap(), Some(b"link".to_vec()));
        let link = place.open_path_nofollow("l".as_ref()).unwrap();
        assert_eq!(get_at(&link, c"", c"trusted.x").unwrap(), Some(b"link".to_vec()));
    }
}
