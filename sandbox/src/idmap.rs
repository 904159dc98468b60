//! Which host ids stand behind a container's; pure.

use std::fmt::Write;

/// A run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// A map of user ids, and the same for group ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    extents: Vec<Extent>,
}

impl IdMap {
    /// Every id that images use, on host ids that belong to nobody.
    ///
    /// systemd's list of ids (UIDS-GIDS) leaves 1879048192..2147483647 unused. Root lies in the lower half of all ids,
    /// since older kernels read some of them as signed (devpts' `gid=`); the rest lies in the upper half, where
    /// only files' owners are concerned.
    pub fn container() -> Self {
        Self {
            extents: vec![
                Extent { inside: 0, outside: 1_879_048_192, count: 65_536 },
                Extent { inside: 65_536, outside: 2_147_549_184, count: 2_147_418_111 },
            ],
        }
    }

    /// As `/proc/PID/uid_map` takes it (`user_namespaces(7)`).
    pub fn to_text(&self) -> String {
        self.extents.iter().fold(String::new(), |mut text, extent| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{} {} {}", extent.inside, extent.outside, extent.count);
            text
        })
    }

    /// The host's id behind a container's, if it has one.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.extents.iter().find_map(|extent| {
            let offset = inside.checked_sub(extent.inside)?;
            (offset < extent.count).then(|| extent.outside + offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_covers_what_images_use_and_overlaps_nowhere() {
        let map = IdMap::container();
        assert_eq!(map.to_text(), "0 1879048192 65536\n65536 2147549184 2147418111\n");
        assert_eq!(map.outside(0), Some(1_879_048_192));
        assert_eq!(map.outside(65_535), Some(1_879_113_727));
        assert_eq!(map.outside(65_536), Some(2_147_549_184));
        assert_eq!(map.outside(2_147_483_646), Some(4_294_967_294));
        assert_eq!(map.outside(2_147_483_647), None);
    }

    #[test]
    fn ids_of_the_host_that_belong_to_somebody_are_not_in_it() {
        let map = IdMap::container();
        for inside in [0, 1, 1000, 65_534, 65_536, 1_000_000, 2_147_483_646] {
            assert!(map.outside(inside).unwrap() >= 1_879_048_192, "{inside}");
        }
    }
}
