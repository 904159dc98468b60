fn main() {
    for argument in std::env::args().skip(1) {
        println!("{argument}: {}", numerals::roman(argument.parse().expect("a number")));
    }
}

#[test]
fn four_is_written_by_subtraction() {
    assert_eq!(numerals::roman(4), "IV");
}
