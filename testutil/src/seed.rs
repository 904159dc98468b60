//! A small seeded generator, so that a random test can be run again from what it printed.

/// A reproducible stream of numbers (`splitmix64`).
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The seed of this run: `CALQUE_TEST_SEED` or `default`. The caller prints it (see [`Seed::value`]).
    pub fn from_environment(default: u64) -> Self {
        Self(std::env::var("CALQUE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default))
    }

    /// A stream that starts at `value`.
    pub fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number that [`Seed::new`] takes to go on from here.
    pub fn value(&self) -> u64 {
        self.0
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        let (mut one, mut two) = (Seed::new(7), Seed::new(7));
        let first: Vec<u64> = (0..8).map(|_| one.next_u64()).collect();
        let second: Vec<u64> = (0..8).map(|_| two.next_u64()).collect();
        assert_eq!(first, second);
        assert_ne!(first[0], first[1]);
    }
}
