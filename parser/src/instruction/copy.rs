//! `COPY` and `ADD`.

use super::flag::{FlagKind, Statement};
use super::metadata::list_words;
use super::{AddInstruction, CopyInstruction, CopyPaths, CopySource, Heredoc};
use crate::error::Sink;
use crate::line::HeredocWord;
use crate::token::blank_separated;
use crate::{ParseError, Word};

/// `COPY [--from=...] source... target`
pub(crate) fn copy(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    sink: &mut Sink,
) -> Option<CopyInstruction> {
    let flags = statement.known_flags(
        &[
            ("from", FlagKind::Value),
            ("chown", FlagKind::Value),
            ("chmod", FlagKind::Value),
            ("link", FlagKind::Switch),
            ("parents", FlagKind::Switch),
            ("exclude", FlagKind::Values),
        ],
        sink,
    );
    let from = flags.from(sink);
    let chown = flags.word("chown", sink);
    let chmod = flags.word("chmod", sink);
    let paths = paths(statement, heredocs, sink)?;
    if let (Some(from), Some(CopySource::Heredoc(heredoc))) =
        (&from, paths.sources.iter().find(|source| matches!(source, CopySource::Heredoc(_))))
    {
        let message = format!("heredoc `{}` can't be copied from `{}`", heredoc.name, from.value);
        sink.push(
            ParseError::new("heredoc-with-from", message, from.span).label("a heredoc has no other origin"),
        );
    }
    Some(CopyInstruction {
        paths,
        from,
        chown,
        chmod,
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.raw_words("exclude"),
    })
}

/// `ADD source... target`
pub(crate) fn add(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    sink: &mut Sink,
) -> Option<AddInstruction> {
    let flags = statement.known_flags(
        &[
            ("chown", FlagKind::Value),
            ("chmod", FlagKind::Value),
            ("link", FlagKind::Switch),
            ("exclude", FlagKind::Values),
            ("checksum", FlagKind::Value),
            ("keep-git-dir", FlagKind::Switch),
            ("unpack", FlagKind::Switch),
        ],
        sink,
    );
    let chown = flags.word("chown", sink);
    let chmod = flags.word("chmod", sink);
    let checksum = flags.word("checksum", sink);
    let paths = paths(statement, heredocs, sink)?;
    Some(AddInstruction {
        paths,
        chown,
        chmod,
        link: flags.switch("link").unwrap_or(false),
        exclude: flags.raw_words("exclude"),
        checksum,
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    })
}

/// Sources and target. Words are split at white space before quotes are looked at, as in docker: only the JSON form
/// can name a path with a space.
fn paths(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    sink: &mut Sink,
) -> Option<CopyPaths> {
    let mut sources = match list_words(statement, sink)? {
        Some(words) => words.into_iter().map(CopySource::Path).collect(),
        None => shell_form(statement, heredocs, sink),
    };
    let keyword = statement.name();
    let Some(last) = sources.pop() else {
        let message = format!("{keyword} requires at least two arguments");
        let error = ParseError::new("missing-argument", message, statement.keyword_span());
        sink.push(error.label("no source and no target"));
        return None;
    };
    if sources.is_empty() {
        let message = format!("{keyword} requires at least two arguments, but only one was provided");
        let error = ParseError::new("missing-argument", message, statement.args_span());
        sink.push(error.label("no target follows").help(format!("write `{keyword} SOURCE... TARGET`")));
        return None;
    }
    match last {
        CopySource::Path(target) => Some(CopyPaths { sources, target }),
        CopySource::Heredoc(heredoc) => {
            let message = format!("{keyword} cannot accept a heredoc as a destination");
            let error = ParseError::new("heredoc-target", message, statement.args_span());
            sink.push(error.label(format!("`<<{}` is the last word", heredoc.name)));
            None
        }
    }
}

/// Words between the heredocs, and these in their places.
fn shell_form(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    sink: &mut Sink,
) -> Vec<CopySource> {
    let mut sources = Vec::new();
    let mut rest = statement.args;
    let errors_before = sink.errors.len();
    let words = |text: &str, sink: &mut Sink| -> Vec<CopySource> {
        blank_separated(text).into_iter().map(|word| CopySource::Path(statement.word(word, sink))).collect()
    };
    for (word, heredoc) in heredocs {
        let start = statement.line.offset(word.text) - statement.line.offset(rest);
        sources.extend(words(&rest[..start], sink));
        rest = &rest[start + word.text.len()..];
        let heredoc = sink.checked_heredoc(heredoc);
        sources.push(CopySource::Heredoc(heredoc));
    }
    sources.extend(words(rest, sink));
    // a quoted path with a space: one mistake, two words
    let mut unclosed = false;
    let mut index = 0;
    sink.errors.retain_mut(|error| {
        index += 1;
        if index <= errors_before || error.code != "unclosed-quote" {
            return true;
        }
        let keyword = statement.name();
        error.help = Some(format!("for a path with a space write `{keyword} [\"a b\", \"/target\"]`"));
        !std::mem::replace(&mut unclosed, true)
    });
    sources
}

impl CopySource {
    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Word> {
        match self {
            Self::Path(word) => Some(word),
            Self::Heredoc(_) => None,
        }
    }
}
