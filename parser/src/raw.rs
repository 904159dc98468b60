//! Instructions as they stand in the file: keyword, flags and arguments, nothing of them understood.

use crate::error::Sink;
use crate::instruction::flag::Statement;
use crate::line::Lines;
use crate::parse::read_heredocs;
use crate::token::{Json, blank_separated, json_list};
use crate::{Dockerfile, Heredoc, ParseErrors, Source, Span, Spanned, directive, parse};

/// One instruction of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStatement {
    /// As it is written.
    pub keyword: Spanned<String>,
    /// `--name[=value]`s, without quotes and escapes.
    pub flags: Vec<Spanned<String>>,
    /// What follows them, continuations joined.
    pub args: Spanned<String>,
    /// The arguments where they are a JSON list.
    pub json: Option<Vec<String>>,
    /// The documents that it names, in order.
    pub heredocs: Vec<Heredoc>,
    /// All of it, heredocs included.
    pub span: Span,
    /// Where its own lines end and the heredocs begin.
    pub line_end: usize,
    /// The `AS` of a FROM.
    pub(crate) as_keyword: Option<Span>,
}

/// The instructions of a Dockerfile in their order.
///
/// # Errors
///
/// All that is wrong with it.
pub fn statements(source: &Source) -> Result<Vec<RawStatement>, ParseErrors> {
    let parsed = parse(source)?;
    Ok(read(source, &parsed.dockerfile))
}

/// The same for a text that was parsed already.
pub(crate) fn read(source: &Source, dockerfile: &Dockerfile) -> Vec<RawStatement> {
    let mut sink = Sink { escape: dockerfile.directives.escape, ..Sink::default() };
    let (_, start) = directive::parse(source, &mut sink.errors);
    let mut lines = Lines::new(source, start, sink.escape);
    let mut statements = Vec::new();
    while let Some(line) = lines.next_logical() {
        let statement = Statement::split(&line.text, line.text.text());
        let line_end = line.text.whole().end;
        let (heredocs, end) = read_heredocs(&statement, &mut lines, &mut sink);
        let json = match json_list(statement.args) {
            Json::Strings(list, _) => Some(list.into_iter().map(|(text, _)| text).collect()),
            _ => None,
        };
        let as_keyword = match blank_separated(statement.args).as_slice() {
            [_, keyword, _] if statement.name() == "FROM" => Some(line.text.span(keyword)),
            _ => None,
        };
        statements.push(RawStatement {
            keyword: line.text.spanned(statement.keyword),
            flags: statement
                .flags
                .iter()
                .map(|flag| Spanned::new(format!("--{}", flag.text.text()), flag.span))
                .collect(),
            args: Spanned::new(statement.args.to_owned(), statement.args_span()),
            json,
            heredocs: heredocs.into_iter().map(|(_, heredoc)| heredoc).collect(),
            span: Span::new(line.text.whole().start, end),
            line_end,
            as_keyword,
        });
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_split_and_not_understood() {
        let text = "ARG A=1\nfrom --platform=$P a as b\nCOPY --from=x --link \\\n  [\"p q\", \"/r\"]\nRUN <<E cat\nf\nE\n";
        let source = Source::new("Dockerfile", text);
        let found = statements(&source).unwrap();
        let keywords: Vec<_> = found.iter().map(|statement| statement.keyword.value.as_str()).collect();
        assert_eq!(keywords, ["ARG", "from", "COPY", "RUN"]);
        let flags: Vec<_> = found[2].flags.iter().map(|flag| flag.value.as_str()).collect();
        assert_eq!(flags, ["--from=x", "--link"]);
        assert_eq!(found[2].json.as_deref(), Some(&["p q".to_owned(), "/r".to_owned()][..]));
        assert_eq!(found[3].heredocs[0].body, "f\n");
        assert_eq!(source.slice(found[3].span), "RUN <<E cat\nf\nE");
        assert_eq!(source.slice(found[1].as_keyword.unwrap()), "as");
    }
}
