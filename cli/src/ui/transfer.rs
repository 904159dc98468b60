//! Bytes that come in or go out, drawn on a terminal while they do.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::settings;

/// A line that counts bytes, such as `saving app.tar 312.41 MiB (208.33 MiB/s)`; nothing where stderr isn't a terminal.
/// It is cleared when it is dropped.
pub(crate) struct Transfer(ProgressBar);

impl Transfer {
    /// `what` says what happens to what.
    pub(crate) fn new(what: &str) -> Self {
        let target = if settings::stderr_terminal().interactive {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self::drawn(what, target)
    }

    fn drawn(what: &str, target: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template("{wide_msg} {bytes} ({bytes_per_sec})")
            .expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        // A file's name may hold what moves the cursor.
        bar.set_message(what.chars().filter(|c| !c.is_control()).collect::<String>());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// `reader`, counted.
    pub(crate) fn read<R: std::io::Read>(&self, reader: R) -> impl std::io::Read + use<R> {
        self.0.wrap_read(reader)
    }

    /// `writer`, counted.
    pub(crate) fn write<W: std::io::Write>(&self, writer: W) -> impl std::io::Write + use<W> {
        self.0.wrap_write(writer)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn bytes_are_counted_and_the_line_is_cleared() {
        let term = InMemoryTerm::new(4, 60);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let transfer = Transfer::drawn("loading a\x1b[2Jb", target);
        let copied = std::io::copy(&mut transfer.read(&[0_u8; 4096][..]), &mut std::io::sink());
        assert_eq!(copied.unwrap(), 4096);
        transfer.0.force_draw();
        let seen = term.contents();
        assert!(seen.starts_with("loading a[2Jb"), "{seen}");
        assert!(seen.contains("4.00 KiB"), "{seen}");
        drop(transfer);
        assert_eq!(term.contents(), "");
    }
}
