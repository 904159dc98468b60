//! What must hold of every place that the parser names. Shared with the fuzz targets.

use parser::*;

/// Parses `bytes` and checks all places of whatever comes of it.
///
/// # Panics
///
/// When a place lies outside of the file or within a character, or a word isn't what stands at its place.
pub(crate) fn check(bytes: &[u8]) {
    let source = match Source::from_bytes("Dockerfile", bytes) {
        Ok(source) => source,
        Err(errors) => {
            let source = Source::from_bytes_lossy("Dockerfile", bytes);
            errors.iter().for_each(|error| place(&source, error.span));
            return;
        }
    };
    match parse(&source) {
        Ok(parsed) => {
            assert!(!parsed.dockerfile.stages.is_empty());
            parsed.warnings.iter().for_each(|warning| place(&source, warning.span));
            dockerfile(&source, &parsed.dockerfile);
        }
        Err(errors) => {
            for error in &errors {
                assert!(!error.message.is_empty() && !error.message.ends_with('.'));
                place(&source, error.span);
            }
        }
    }
}

fn place(source: &Source, span: Span) {
    let text = source.text();
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {}", text.len());
    assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
    let (line, column) = source.position(span.start);
    assert!(line >= 1 && column >= 1);
}

fn within(source: &Source, outer: Span, inner: Span) {
    place(source, inner);
    assert!(outer.start <= inner.start && inner.end <= outer.end, "{inner:?} is not within {outer:?}");
}

fn word(source: &Source, outer: Span, word: &Word) {
    within(source, outer, word.span);
    let slice = source.slice(word.span);
    // nothing was joined, and no quote or escape was removed
    if !slice.contains(['\n', '\'', '"', '\\']) {
        assert_eq!(slice, word.raw);
    }
}

fn spanned(source: &Source, outer: Span, text: &Spanned<String>) {
    within(source, outer, text.span);
}

fn dockerfile(source: &Source, dockerfile: &Dockerfile) {
    let whole = Span::new(0, source.text().len());
    let Dockerfile { directives, global_args, stages, comments } = dockerfile;
    directives.syntax.iter().chain(&directives.check).for_each(|text| spanned(source, whole, text));
    for arg in global_args {
        within(source, whole, arg.span);
        args(source, arg.span, &arg.value);
    }
    for block in comments {
        within(source, whole, block.scope);
        block.lines.iter().for_each(|line| {
            assert_eq!(source.slice(line.span), line.value);
            assert!(line.span.end <= block.below, "comments stand above");
        });
    }
    let mut last = 0;
    for stage in stages {
        let from = &stage.from.value;
        within(source, whole, stage.from.span);
        word(source, stage.from.span, &from.base);
        from.platform.iter().for_each(|platform| word(source, stage.from.span, platform));
        from.name.iter().for_each(|name| spanned(source, stage.from.span, name));
        assert!(last <= stage.from.span.start);
        last = stage.from.span.end;
        for instruction in &stage.instructions {
            assert!(last <= instruction.span.start, "instructions overlap");
            last = instruction.span.end;
            self::instruction(source, whole, instruction);
        }
    }
}

fn args(source: &Source, outer: Span, args: &ArgInstruction) {
    for arg in &args.args {
        spanned(source, outer, &arg.name);
        arg.default.iter().for_each(|default| word(source, outer, default));
    }
}

fn instruction(source: &Source, outer: Span, instruction: &Instruction) {
    let span = instruction.span;
    within(source, outer, span);
    spanned(source, span, &instruction.keyword);
    assert!(!instruction.text.contains('\n'));
    let words = |words: &[Word]| words.iter().for_each(|it| word(source, span, it));
    let options =
        |words: &[&Option<Word>]| words.iter().copied().flatten().for_each(|it| word(source, span, it));
    let heredoc = |heredoc: &Heredoc| {
        within(source, span, heredoc.span);
        if !heredoc.strip_tabs {
            assert_eq!(source.slice(heredoc.span), heredoc.body);
        }
    };
    let paths = |paths: &CopyPaths| {
        assert!(!paths.sources.is_empty());
        word(source, span, &paths.target);
        for from in &paths.sources {
            match from {
                CopySource::Path(path) => word(source, span, path),
                CopySource::Heredoc(document) => heredoc(document),
            }
        }
    };
    match &instruction.kind {
        InstructionKind::Arg(list) => args(source, span, list),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            assert!(!pairs.is_empty());
            pairs.iter().for_each(|pair| {
                word(source, span, &pair.key);
                word(source, span, &pair.value);
            });
        }
        InstructionKind::Run(run) => {
            run.heredocs.iter().for_each(heredoc);
            words(&run.devices);
            for mount in &run.mounts {
                within(source, span, mount.span);
                options(&[
                    &mount.target,
                    &mount.source,
                    &mount.id,
                    &mount.mode,
                    &mount.uid,
                    &mount.gid,
                    &mount.size,
                    &mount.env,
                ]);
                mount.from.iter().for_each(|from| spanned(source, span, from));
            }
            let _ = (run.script(), run.shell_text());
        }
        InstructionKind::Copy(copy) => {
            paths(&copy.paths);
            options(&[&copy.chown, &copy.chmod]);
            words(&copy.exclude);
            copy.from.iter().for_each(|from| spanned(source, span, from));
        }
        InstructionKind::Add(add) => {
            paths(&add.paths);
            options(&[&add.chown, &add.chmod, &add.checksum]);
            words(&add.exclude);
        }
        InstructionKind::Workdir(it) | InstructionKind::User(it) | InstructionKind::StopSignal(it) => {
            word(source, span, it);
        }
        InstructionKind::Expose(list) | InstructionKind::Volume(list) => words(list),
        InstructionKind::Onbuild(onbuild) => {
            self::instruction(source, span, &onbuild.instruction);
            let trigger = Source::new("ONBUILD", onbuild.text.as_str());
            // what is stored can be read again, unless the escape was another one
            if source.text().is_ascii() && !source.text().contains('`') && !onbuild.text.contains('\\') {
                let again = parse_onbuild(&trigger);
                let again = again.unwrap_or_else(|errors| panic!("{:?}: {errors}", onbuild.text));
                assert_eq!(without_spans(&again), without_spans(&onbuild.instruction));
            }
        }
        _ => {}
    }
}

/// The IR as text, places left out.
fn without_spans(instruction: &Instruction) -> String {
    let text = format!("{instruction:?}");
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span { start: ") {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('}').map_or(rest.len(), |end| end + 1)..];
    }
    kept + rest
}
