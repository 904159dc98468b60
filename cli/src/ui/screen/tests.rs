//! Golden screens at three widths, with colours and without: `CALQUE_BLESS=1 cargo test -p calque screen` writes them.

use std::path::Path;

use builder::event::{BuildEvent, LogStream, Vertex as Announced, VertexId};
use parser::Span;

use super::*;

const ROWS: usize = 24;

fn seconds(tenths: u64) -> Duration {
    Duration::from_millis(tenths * 100)
}

fn announce(screen: &mut Screen, id: u32, label: &str, is_instruction: bool) -> VertexId {
    let span = is_instruction.then_some(Span::new(0, 1));
    let id = VertexId(id);
    let vertex = Announced { id, label: label.to_owned(), inputs: Vec::new(), span };
    screen.on(&BuildEvent::Announced(vertex), Duration::ZERO);
    id
}

fn log(screen: &mut Screen, vertex: VertexId, bytes: &[u8]) {
    let event = BuildEvent::Log { vertex, stream: LogStream::Stdout, bytes: bytes.to_vec() };
    screen.on(&event, seconds(20));
}

/// A build in its middle: one step of each kind.
fn running() -> Screen {
    let mut screen = Screen::new(6);
    let definition = announce(&mut screen, 1, "[internal] load build definition from Dockerfile", false);
    let from = announce(&mut screen, 2, "[build 1/4] FROM docker.io/library/rust:1.90", true);
    let copy = announce(&mut screen, 3, "[build 2/4] COPY Cargo.toml Cargo.lock ./", true);
    let make = announce(&mut screen, 4, "[build 3/4] RUN cargo build --release --locked", true);
    let assets = announce(&mut screen, 5, "[資産 1/2] RUN npm ci && npm run 組み立て", true);
    announce(&mut screen, 6, "exporting to image", false);
    for id in [definition, from, copy] {
        screen.on(&BuildEvent::Started(id), seconds(0));
    }
    screen.on(
        &BuildEvent::Status { vertex: definition, text: "transferring dockerfile: 227B".into() },
        seconds(0),
    );
    screen.on(&BuildEvent::Done { vertex: definition, duration: seconds(0) }, seconds(0));
    screen.on(&BuildEvent::Cached(from), seconds(1));
    screen.on(&BuildEvent::Done { vertex: from, duration: seconds(0) }, seconds(1));
    screen.on(&BuildEvent::Missed { vertex: copy, cause: "Cargo.lock changed".into() }, seconds(1));
    screen.on(&BuildEvent::Done { vertex: copy, duration: seconds(12) }, seconds(12));
    screen.on(&BuildEvent::Started(make), seconds(12));
    screen.on(&BuildEvent::Missed { vertex: make, cause: "its base changed".into() }, seconds(12));
    screen.on(&BuildEvent::Started(assets), seconds(13));
    screen.on(&BuildEvent::WaitingForOtherBuild(assets), seconds(13));
    for number in 1..=8 {
        log(&mut screen, make, format!("   Compiling crate-number-{number} v0.{number}.0\n").as_bytes());
    }
    log(&mut screen, assets, "\u{1b}[2K10%\r\u{1b}[32m 55% ダウンロード中\u{1b}[0m\r".as_bytes());
    screen.on(&BuildEvent::Note("the store's file system can't map file owners".into()), seconds(14));
    screen
}

/// The same when it is over: one step failed, one was stopped.
fn ended() -> Screen {
    let mut screen = running();
    log(&mut screen, VertexId(4), b"error: \x1b[31mno such crate\x1b[0m\n");
    screen.on(
        &BuildEvent::Failed { vertex: VertexId(4), message: "exit code 101".into(), duration: seconds(40) },
        seconds(52),
    );
    screen.on(&BuildEvent::Cancelled(VertexId(5)), seconds(53));
    screen
}

fn shown(lines: &[Line], columns: usize, colour: bool) -> String {
    for line in lines {
        assert!(line.width() <= columns, "{line:?} is wider than {columns}");
    }
    lines.iter().map(|line| line.paint(colour).replace('\u{1b}', "^[") + "\n").collect()
}

#[test]
fn golden_screens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui/screen/golden");
    for columns in [20, 80, 200] {
        for colour in [false, true] {
            let mut text = String::new();
            let mut screen = running();
            text.push_str(&shown(&screen.take_finished(columns), columns, colour));
            text.push_str("--- live\n");
            let live = screen.live(seconds(42), Size { columns, rows: ROWS });
            text.push_str(&shown(&live, columns, colour));
            text.push_str("--- ended\n");
            let mut screen = ended();
            text.push_str(&shown(&screen.take_finished(columns), columns, colour));
            text.push_str(&shown(&[screen.finish(seconds(54), columns)], columns, colour));
            text.push_str(&screen.failed_output().unwrap());
            let path = folder.join(format!("{columns}{}.txt", if colour { "-colour" } else { "" }));
            if std::env::var_os("CALQUE_BLESS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, golden, "{}", path.display());
        }
    }
}

#[test]
fn no_line_is_too_wide_at_any_size() {
    for columns in 1..60 {
        for rows in 1..30 {
            let mut screen = ended();
            let size = Size { columns, rows };
            shown(&screen.take_finished(columns), columns, false);
            let live = running().live(seconds(999), size);
            shown(&live, columns, false);
            assert!(live.len() <= rows, "{} lines in {rows} rows", live.len());
            shown(&[screen.finish(seconds(10), columns)], columns, false);
        }
    }
}

#[test]
fn notes_and_causes_lose_nothing() {
    let mut lines = Vec::new();
    wrap(Style::Dim, " => => MISS: src/main.rs changed (and 12 more files)", 20, &mut lines);
    let text = " => => MISS:\n    src/main.rs\n    changed (and 12\n    more files)\n";
    assert_eq!(shown(&lines, 20, false), text);
    for columns in 6..40 {
        let mut lines = Vec::new();
        wrap(Style::Dim, "note: a-word-that-is-long and 資産一二三四五六七八", columns, &mut lines);
        let text = shown(&lines, columns, false).replace([' ', '\n'], "");
        assert_eq!(text, "note:a-word-that-is-longand資産一二三四五六七八", "{columns}");
    }
}

#[test]
fn a_low_terminal_has_fewer_lines_of_output_for_each_step() {
    let live = running().live(seconds(42), Size { columns: 80, rows: 9 });
    let text = shown(&live, 80, false);
    assert_eq!(live.len(), 9, "{text}");
    assert!(text.contains("crate-number-8") && !text.contains("crate-number-5"), "{text}");
    assert!(text.contains("RUN npm ci"), "{text}");
}

#[test]
fn a_line_has_its_time_at_the_right_border() {
    let line = step_line(Style::Plain, "", "[2/3] RUN make", Some(seconds(31)), 40);
    assert_eq!(line.text, " => [2/3] RUN make                  3.1s");
    let line = step_line(Style::Plain, "CACHED ", "[2/3] RUN make and much more", Some(seconds(0)), 30);
    assert_eq!(line.text, " => CACHED [2/3] RUN mak… 0.0s");
    // Half of a wide character is none.
    let line = step_line(Style::Plain, "", "一二三四五六", Some(seconds(0)), 16);
    assert_eq!(line.text, " => 一二三… 0.0s");
}

#[test]
fn output_can_not_move_the_cursor() {
    let cases = [
        ("10%\r50%\r\u{1b}[2K\u{1b}[31mred\u{1b}[0m\u{7}\tx\n", "red x"),
        ("\u{1b}[31", ""),
        ("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\c", "abc"),
        ("a\u{1b}(Bb\u{1b}7c\u{9b}2Jd", "abcd"),
        ("a\u{202e}b\u{8}\u{0}c", "abc"),
        ("\u{1b}", ""),
    ];
    for (output, text) in cases {
        assert_eq!(printable(output), text, "{output:?}");
    }
}

#[test]
fn the_last_lines_of_output_are_kept_and_an_open_one_grows() {
    let mut log = Log::default();
    log.add(b"1\n2\n3\n4\n5\n6\n7\nei", 6);
    assert_eq!(log.last(6), ["3", "4", "5", "6", "7", "ei"]);
    log.add(b"ght\nnine\n", 6);
    assert_eq!(log.last(6), ["4", "5", "6", "7", "eight", "nine"]);
    assert_eq!(log.last(0), Vec::<String>::new());
    // A character that came in two halves.
    log.add(b"\xc3", 6);
    log.add(b"\xa4\n", 6);
    assert_eq!(log.last(1), ["ä"]);
}

#[test]
fn a_progress_bar_without_end_takes_no_memory_and_shows_its_last_state() {
    let mut log = Log::default();
    for percent in 0..10_000 {
        log.add(format!("\r{percent} of 10000").as_bytes(), 6);
        assert!(log.open.len() <= LINE_LIMIT);
    }
    assert_eq!(log.last(6), ["9999 of 10000"]);
    for percent in 0..10_000 {
        log.add(format!("{percent} of 10000\r").as_bytes(), 6);
        assert!(log.open.len() <= LINE_LIMIT);
    }
    assert_eq!(log.last(6), ["9999 of 10000"]);
    log.add(&vec![b'x'; 3 * OUTPUT_LIMIT], 6);
    assert!(log.open.len() <= LINE_LIMIT && log.tail.len() == OUTPUT_LIMIT);
}

#[test]
fn a_failed_step_shows_all_it_printed_or_tells_what_is_left_out() {
    let block = ended().failed_output().unwrap();
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "------",
            " > [build 3/4] RUN cargo build --release --locked:",
            "   Compiling crate-number-1 v0.1.0"
        ]
    );
    assert_eq!(lines[lines.len() - 2..], ["error: no such crate", "------"]);
    let mut screen = Screen::new(6);
    let id = announce(&mut screen, 1, "RUN yes", true);
    screen.on(&BuildEvent::Started(id), seconds(0));
    for number in 0..100_000 {
        log(&mut screen, id, format!("line {number}\n").as_bytes());
    }
    let failed = BuildEvent::Failed { vertex: id, message: String::new(), duration: seconds(1) };
    screen.on(&failed, seconds(1));
    let block = screen.failed_output().unwrap();
    assert!(block.contains("\n[the first 827kB are left out here]\nline "), "{}", &block[..200]);
    assert!(block.ends_with("line 99999\n------\n"));
    assert!(running().failed_output().is_none());
}
