//! How many steps of Collatz's rule lead to one.

fn main() {
    let start: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let steps = std::iter::successors(Some(start), |&n| match n {
        1 => None,
        n if n % 2 == 0 => Some(n / 2),
        n => Some(3 * n + 1),
    })
    .count()
        - 1;
    println!("{} steps", itoa::Buffer::new().format(steps));
}
