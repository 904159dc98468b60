//! Names for containers that were given none: an adjective and the surname of somebody who counted, measured or
//! built something.

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "avid", "balmy", "blithe", "bold", "brisk", "calm", "candid",
    "clever", "cosy", "crisp", "daring", "deft", "eager", "earnest", "exact", "fair", "fleet", "fond",
    "frank", "fresh", "gentle", "glad", "golden", "hardy", "hazel", "honest", "humble", "jolly", "keen",
    "kind", "lively", "lucid", "mellow", "merry", "mild", "neat", "nimble", "noble", "patient", "placid",
    "polite", "prompt", "proud", "quick", "quiet", "rapid", "robust", "serene", "silver", "sober", "solid",
    "spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "wise", "witty",
];

const SURNAMES: [&str; 64] = [
    "abel",
    "ampere",
    "babbage",
    "banach",
    "bell",
    "bernoulli",
    "bessel",
    "bohr",
    "boole",
    "borel",
    "boyle",
    "brahe",
    "cantor",
    "carnot",
    "cauchy",
    "cayley",
    "chatelet",
    "curie",
    "dalton",
    "darwin",
    "descartes",
    "dirac",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "goeppert",
    "green",
    "hamilton",
    "herschel",
    "hilbert",
    "hooke",
    "hopper",
    "huygens",
    "jacobi",
    "joule",
    "kepler",
    "laplace",
    "leibniz",
    "lovelace",
    "markov",
    "maxwell",
    "meitner",
    "mendel",
    "napier",
    "newton",
    "noether",
    "pascal",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "rubin",
    "somerville",
    "tesla",
    "turing",
    "volta",
];

/// A random name, `steady_noether`. The caller asks again where it is taken.
pub fn random_name() -> String {
    let mut bytes = [0_u8; 2];
    // Without randomness there is still a name; it may be taken, which the store notices.
    let _ = getrandom::fill(&mut bytes);
    let [adjective, surname] = bytes.map(|byte| usize::from(byte) % 64);
    format!("{}_{}", ADJECTIVES[adjective], SURNAMES[surname])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_made_of_distinct_lower_case_words() {
        for words in [ADJECTIVES, SURNAMES] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        }
        let names: BTreeSet<_> = (0..100).map(|_| random_name()).collect();
        assert!(names.len() > 50, "{names:?}");
    }
}
