//! `did you mean`: the name nearest to one that is unknown.

/// The candidate that is at most two edits away from `word`, case aside; the nearest one, the first of equals.
/// A candidate of which more than half would change is none.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits * 2 <= candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_a_stranger_finds_none() {
        let names = ["builder", "test", "runtime"];
        assert_eq!(nearest("bulder", names), Some("builder"));
        assert_eq!(nearest("BUILDER", names), Some("builder"));
        assert_eq!(nearest("tset", names), Some("test"));
        assert_eq!(nearest("tests", names), Some("test"));
        assert_eq!(nearest("prod", names), None);
        assert_eq!(nearest("b", ["a"]), None);
        assert_eq!((nearest("", names), nearest("ab", ["cd"])), (None, None));
    }

    #[test]
    fn the_distance_is_symmetric_and_zero_for_equals() {
        for (a, b, expected) in [("", "abc", 3), ("kitten", "sitting", 3), ("é", "e", 1), ("abc", "abc", 0)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected));
        }
    }
}
