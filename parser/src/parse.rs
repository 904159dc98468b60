//! From a source to the IR: line by line, going on after what is wrong.

use crate::directive::{self, CheckOptions};
use crate::error::Sink;
use crate::instruction::flag::Statement;
use crate::instruction::{copy, env, from, metadata, run};
use crate::line::{HeredocWord, Lines, LogicalLine, heredoc_words};
use crate::lint::{self, Linter};
use crate::suggest::nearest;
use crate::token::{Json, json_list};
use crate::{
    Dockerfile, Escape, Heredoc, Instruction, InstructionKind, OnbuildInstruction, ParseError, ParseErrors,
    Source, Span, Spanned, Stage, Warning,
};

/// A Dockerfile and what to tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The IR.
    pub dockerfile: Dockerfile,
    /// What was accepted with a warning, in the order of the file. Rules that `# check=skip=` names are left out.
    pub warnings: Vec<Warning>,
}

const KEYWORDS: &[&str] = &[
    "FROM",
    "RUN",
    "CMD",
    "LABEL",
    "MAINTAINER",
    "EXPOSE",
    "ENV",
    "ADD",
    "COPY",
    "ENTRYPOINT",
    "VOLUME",
    "USER",
    "WORKDIR",
    "ARG",
    "ONBUILD",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "SHELL",
];

/// So many errors are enough: the file is something else than a Dockerfile.
const MAX_ERRORS: usize = 100;

/// Reads a whole Dockerfile.
///
/// # Errors
///
/// All that is wrong, as far as one error doesn't hide another.
pub fn parse(source: &Source) -> Result<Parsed, ParseErrors> {
    let mut sink = Sink::default();
    let (directives, start) = directive::parse(source, &mut sink.errors);
    sink.escape = directives.escape;
    let check = match directives.check.as_ref().map(|check| (CheckOptions::parse(&check.value), check.span)) {
        None => CheckOptions::default(),
        Some((Ok(options), _)) => options,
        Some((Err(message), span)) => {
            sink.push(
                ParseError::new("invalid-check", message, span).help("write `skip=RuleA,RuleB;error=true`"),
            );
            CheckOptions::default()
        }
    };
    let mut lines = Lines::new(source, start, directives.escape);
    let mut file = File::default();
    while let Some(line) = lines.next_logical() {
        file.add(line, &mut lines, &mut sink);
        if sink.errors.len() >= MAX_ERRORS {
            break;
        }
    }
    let dockerfile = file.finish(source, directives, &mut sink);
    if let Some(errors) = ParseErrors::new(sink.errors) {
        return Err(errors);
    }
    let mut warnings = sink.warnings;
    warnings.retain(|warning| {
        let name = warning.rule.name();
        let is_on = !warning.rule.is_experimental() || check.experimental.contains(name);
        is_on && !check.skip.contains(name) && !dockerfile.skips(name, warning.span)
    });
    warnings.sort_by_key(|warning| (warning.span.start, warning.span.end, warning.rule));
    Ok(Parsed { dockerfile, warnings })
}

/// Reads what an image stores for `ONBUILD`: one instruction with its heredocs. Spans are places in `trigger`. The
/// escape is `\`, whatever the file's was in which the trigger stood.
///
/// # Errors
///
/// When it isn't exactly one instruction that `ONBUILD` allows.
pub fn parse_onbuild(trigger: &Source) -> Result<Instruction, ParseErrors> {
    let mut sink = Sink::default();
    let mut lines = Lines::new(trigger, 0, Escape::Backslash);
    let whole = Span::new(0, trigger.text().len());
    let Some(line) = lines.next_logical() else {
        return Err(
            ParseError::new("no-instructions", "an ONBUILD trigger without an instruction", whole).into()
        );
    };
    let statement = Statement::split(&line.text, line.text.text());
    let (heredocs, end) = read_heredocs(&statement, &mut lines, &mut sink);
    let instruction = onbuild_trigger(&statement, heredocs, end, &mut sink);
    if let Some(next) = lines.next_logical() {
        let error =
            ParseError::new("trailing-text", "an ONBUILD trigger is one instruction", next.text.whole());
        sink.push(error.label("a second one"));
    }
    match (ParseErrors::new(sink.errors), instruction) {
        (Some(errors), _) => Err(errors),
        (None, Some(instruction)) => Ok(instruction),
        // an instruction that isn't there has left an error
        (None, None) => {
            Err(ParseError::new("invalid-trigger", "an ONBUILD trigger can't be read", whole).into())
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct File {
    global_args: Vec<Spanned<crate::ArgInstruction>>,
    stages: Vec<Stage>,
    comments: Vec<crate::CommentBlock>,
    /// A FROM was seen, maybe a wrong one.
    from_seen: bool,
    /// The first instruction that stands before any FROM, and isn't ARG.
    homeless: Option<Spanned<String>>,
    linter: Linter,
    instructions: usize,
    last: Span,
}

impl File {
    fn add(&mut self, line: LogicalLine, lines: &mut Lines<'_>, sink: &mut Sink) {
        let statement = Statement::split(&line.text, line.text.text());
        let (heredocs, end) = read_heredocs(&statement, lines, sink);
        let span = Span::new(line.text.whole().start, end);
        self.instructions += 1;
        self.last = line.text.whole();
        self.linter.line(&statement, &line.empty_lines, sink);
        if !line.comments.is_empty() {
            self.comments.push(crate::CommentBlock { lines: line.comments, scope: span, below: span.start });
        }
        let comments = self.comments.last().filter(|block| block.below == span.start);
        // a misspelt FROM is error enough
        self.from_seen |= !is_keyword(&statement) && suggestion(&statement) == Some("FROM");
        if statement.keyword.eq_ignore_ascii_case("from") {
            self.from_seen = true;
            if let Some(from) = from::from(&statement, sink) {
                self.linter.from(&from, sink);
                if let Some(name) = &from.name {
                    lint::describes("FROM", &name.value, comments, sink);
                }
                self.stages.push(Stage { from: Spanned::new(from, span), instructions: Vec::new() });
            }
            return;
        }
        let instruction = instruction(&statement, heredocs, end, sink);
        if !self.from_seen {
            match instruction.map(|instruction| instruction.kind) {
                Some(InstructionKind::Arg(arg)) => {
                    lint::describes_args(&arg, comments, sink);
                    self.global_args.push(Spanned::new(arg, span));
                }
                _ if !is_keyword(&statement) || statement.keyword.eq_ignore_ascii_case("arg") => {}
                _ if self.homeless.is_none() => {
                    self.homeless = Some(Spanned::new(statement.name(), statement.keyword_span()));
                }
                _ => {}
            }
            return;
        }
        if let Some((instruction, stage)) = instruction.zip(self.stages.last_mut()) {
            self.linter.instruction(&instruction, sink);
            if let InstructionKind::Arg(arg) = &instruction.kind {
                lint::describes_args(arg, comments, sink);
            }
            stage.instructions.push(instruction);
        }
    }

    fn finish(mut self, source: &Source, directives: crate::Directives, sink: &mut Sink) -> Dockerfile {
        const HELP: &str = "begin a stage with `FROM image` or `FROM scratch`";
        if let Some(keyword) = &self.homeless {
            let error = ParseError::new("no-build-stage", "no build stage in current context", keyword.span);
            sink.push(error.label(format!("`{}` before any `FROM`", keyword.value)).help(HELP));
        } else if self.instructions == 0 {
            let end = source.text().find('\n').unwrap_or(source.text().len());
            let error = ParseError::new("no-instructions", "file with no instructions", Span::new(0, end));
            sink.push(error.label("only comments and empty lines").help(HELP));
        } else if !self.from_seen && sink.errors.is_empty() {
            let error = ParseError::new("no-stages", "dockerfile contains no stages to build", self.last);
            sink.push(error.label("no `FROM` follows").help(HELP));
        }
        std::mem::take(&mut self.linter).finish(sink);
        // What stands above FROM holds for its whole stage.
        for block in &mut self.comments {
            if let Some(at) = self.stages.iter().position(|stage| stage.from.span.start == block.below) {
                block.scope.end = self.stages.get(at + 1).map_or(source.text().len(), |n| n.from.span.start);
            }
        }
        let Self { global_args, stages, comments, .. } = self;
        Dockerfile { directives, global_args, stages, comments }
    }
}

fn is_keyword(statement: &Statement<'_>) -> bool {
    KEYWORDS.contains(&statement.name().as_str())
}

/// The heredocs that a statement names, and where it ends with them.
pub(crate) fn read_heredocs<'a>(
    statement: &Statement<'a>,
    lines: &mut Lines<'_>,
    sink: &mut Sink,
) -> (Vec<(HeredocWord<'a>, Heredoc)>, usize) {
    let mut end = statement.line.whole().end;
    let mut heredocs = Vec::new();
    for word in heredocs_of(statement) {
        match lines.heredoc(&word) {
            Ok(body) => {
                end = body.end;
                let heredoc = word.with_body(body);
                heredocs.push((word, heredoc));
            }
            Err(unterminated) => {
                let span = statement.line.span(word.text);
                let error = ParseError::new("unterminated-heredoc", "unterminated heredoc", span)
                    .label(format!("no line `{}` follows", word.name));
                sink.push(match unterminated.near_miss {
                    None => error,
                    Some(_) if !word.strip_tabs => error.help(format!(
                        "a line holds `{}` with white space around it: nothing may stand beside it; `<<-` allows tabs before it",
                        word.name
                    )),
                    Some(_) => error.help(format!(
                        "a line holds `{}` with white space around it: only tabs may stand before it",
                        word.name
                    )),
                });
                break;
            }
        }
    }
    (heredocs, end)
}

/// RUN, COPY and ADD take heredocs, also behind ONBUILD; never with a JSON list.
fn heredocs_of<'a>(statement: &Statement<'a>) -> Vec<HeredocWord<'a>> {
    match statement.name().as_str() {
        "RUN" | "COPY" | "ADD" if matches!(json_list(statement.args), Json::No) => {
            heredoc_words(statement.args)
        }
        "ONBUILD" => {
            let inner = Statement::split(statement.line, statement.args);
            match inner.name().as_str() {
                "ONBUILD" => Vec::new(),
                _ => heredocs_of(&inner),
            }
        }
        _ => Vec::new(),
    }
}

/// One instruction other than FROM. `end` is where it ends, heredocs included.
fn instruction(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    end: usize,
    sink: &mut Sink,
) -> Option<Instruction> {
    let kind = match statement.name().as_str() {
        "ARG" => InstructionKind::Arg(from::arg(statement, sink)?),
        "ENV" => InstructionKind::Env(env::key_values(statement, sink)?),
        "LABEL" => InstructionKind::Label(env::key_values(statement, sink)?),
        "RUN" => InstructionKind::Run(run::run(statement, heredocs, sink)?),
        "COPY" => InstructionKind::Copy(copy::copy(statement, heredocs, sink)?),
        "ADD" => InstructionKind::Add(copy::add(statement, heredocs, sink)?),
        "WORKDIR" => InstructionKind::Workdir(metadata::rest_of_line(statement, sink)?),
        "USER" => InstructionKind::User(metadata::rest_of_line(statement, sink)?),
        "CMD" => InstructionKind::Cmd(metadata::command(statement, sink)?),
        "ENTRYPOINT" => InstructionKind::Entrypoint(metadata::command(statement, sink)?),
        "SHELL" => InstructionKind::Shell(metadata::shell(statement, sink)?),
        "EXPOSE" => InstructionKind::Expose(metadata::expose(statement, sink)?),
        "VOLUME" => InstructionKind::Volume(metadata::volume(statement, sink)?),
        "STOPSIGNAL" => InstructionKind::StopSignal(metadata::stop_signal(statement, sink)?),
        "HEALTHCHECK" => InstructionKind::Healthcheck(metadata::healthcheck(statement, sink)?),
        "ONBUILD" => InstructionKind::Onbuild(onbuild(statement, heredocs, end, sink)?),
        "MAINTAINER" => InstructionKind::Maintainer(metadata::maintainer(statement, sink)?),
        _ => {
            sink.push(unknown(statement));
            return None;
        }
    };
    let start = statement.line.span(statement.text).start;
    Some(Instruction {
        span: Span::new(start, end),
        keyword: statement.line.spanned(statement.keyword),
        text: statement.text.to_owned(),
        kind,
    })
}

/// `ONBUILD instruction`
fn onbuild(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    end: usize,
    sink: &mut Sink,
) -> Option<OnbuildInstruction> {
    statement.known_flags(&[], sink);
    if statement.args.is_empty() {
        sink.push(from::missing_argument(statement, "no instruction"));
        return None;
    }
    let bodies: Vec<Heredoc> = heredocs.iter().map(|(_, heredoc)| heredoc.clone()).collect();
    let text = run::with_heredocs(statement.args, &bodies);
    let inner = Statement::split(statement.line, statement.args);
    let instruction = Box::new(onbuild_trigger(&inner, heredocs, end, sink)?);
    Some(OnbuildInstruction { text, instruction })
}

fn onbuild_trigger(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    end: usize,
    sink: &mut Sink,
) -> Option<Instruction> {
    let keyword = statement.name();
    let message = match keyword.as_str() {
        "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        "FROM" | "MAINTAINER" => format!("{keyword} isn't allowed as an ONBUILD trigger"),
        _ => return instruction(statement, heredocs, end, sink),
    };
    sink.push(
        ParseError::new("invalid-trigger", message, statement.keyword_span()).label("not allowed here"),
    );
    None
}

fn suggestion(statement: &Statement<'_>) -> Option<&'static str> {
    nearest(statement.keyword, KEYWORDS.iter().copied())
}

fn unknown(statement: &Statement<'_>) -> ParseError {
    let keyword = statement.keyword;
    let error = ParseError::new(
        "unknown-instruction",
        format!("unknown instruction `{keyword}`"),
        statement.keyword_span(),
    )
    .label("not an instruction");
    if let Some(strange) = keyword.chars().find(|c| !c.is_ascii() && (c.is_whitespace() || c.is_control())) {
        return error.help(format!("U+{:04X} in it looks like a space and is none", u32::from(strange)));
    }
    match suggestion(statement) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None if keyword == "&&" || keyword == "||" || keyword == "|" => {
            error.help("the line before must end with its escape (`\\`) to go on here")
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_longest() {
        let source = Source::new("Dockerfile", format!("FROM a\nRUN echo {}\n", "x".repeat(200_000)));
        let parsed = parse(&source).unwrap();
        assert_eq!(parsed.dockerfile.stages[0].instructions[0].text.len(), 200_009);
    }

    #[test]
    fn many_continuations_cost_what_they_are() {
        let source = Source::new("Dockerfile", format!("FROM a\nRUN x{}\n", " \\\n  && y".repeat(50_000)));
        let parsed = parse(&source).unwrap();
        assert_eq!(parsed.dockerfile.stages[0].instructions[0].span.end, source.text().len() - 1);
    }

    #[test]
    fn a_file_of_another_kind_gives_no_flood() {
        let source = Source::new("Dockerfile", "what is this\n".repeat(10_000));
        assert_eq!(parse(&source).unwrap_err().iter().count(), MAX_ERRORS);
    }

    #[test]
    fn a_trigger_is_read_with_its_heredoc() {
        let trigger = Source::new("ONBUILD", "RUN <<EOF\necho $x\nEOF");
        let instruction = parse_onbuild(&trigger).unwrap();
        let InstructionKind::Run(run) = &instruction.kind else { panic!("{instruction:?}") };
        assert_eq!(run.script().map(|heredoc| heredoc.body.as_str()), Some("echo $x\n"));
        assert_eq!(run.shell_text().as_deref(), Some("<<EOF\necho $x\nEOF"));
    }

    #[test]
    fn a_trigger_is_one_allowed_instruction() {
        for (text, code) in [
            ("", "no-instructions"),
            ("RUN a\nRUN b", "trailing-text"),
            ("FROM a", "invalid-trigger"),
            ("ONBUILD RUN a", "invalid-trigger"),
            ("RNU a", "unknown-instruction"),
            ("RUN <<EOF\na", "unterminated-heredoc"),
        ] {
            let errors = parse_onbuild(&Source::new("ONBUILD", text)).unwrap_err();
            assert_eq!(errors.first().code, code, "{text:?}");
        }
    }

    #[test]
    fn a_command_with_a_heredoc_is_no_script() {
        let source = Source::new("Dockerfile", "FROM a\nRUN cat <<-A 3<<B\n\ta\n\tA\nb\nB\n");
        let parsed = parse(&source).unwrap();
        let InstructionKind::Run(run) = &parsed.dockerfile.stages[0].instructions[0].kind else { panic!() };
        assert_eq!(run.script(), None);
        assert_eq!(run.shell_text().as_deref(), Some("cat <<-A 3<<B\na\nA\nb\nB"));
    }
}
