//! `build --check` and `build --call`: what a Dockerfile says about itself, with nothing run.

use std::fmt::Write as _;

use builder::graph::BuildStage;
use builder::{BuildRequest, Checked, StoreImages, violated_rules};
use parser::{ArgInstruction, InstructionKind, ParseErrors, Rule, RunMountKind, Source, Span};
use serde_json::{Value, json};

use crate::arguments::{Invocation, WRONG_FLAG};
use crate::output;
use crate::report::{self, Failure};
use crate::table::Table;

/// What to do instead of building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The warnings.
    Check,
    /// The arguments, secrets, agents and caches of the target.
    Outline,
    /// The stages.
    Targets,
}

/// `--call` and `--check`: what is called and whether it is printed as JSON; nothing for a build.
pub(crate) fn of(invocation: &Invocation<'_>) -> Result<Option<(Call, bool)>, Failure> {
    let given = invocation.value("call").unwrap_or(if invocation.is_on("check") { "check" } else { "build" });
    let wrong = |reason: &str| {
        let message = format!("invalid value `{given}` for flag `--call`: {reason}");
        Failure::usage(WRONG_FLAG, message, &invocation.name)
    };
    let mut fields = given.split(',');
    let call = match fields.next().unwrap_or_default() {
        "build" | "" => None,
        "check" | "lint" => Some(Call::Check),
        "outline" => Some(Call::Outline),
        "targets" => Some(Call::Targets),
        _ => return Err(wrong("it can be `build`, `check`, `outline` or `targets`")),
    };
    let mut is_json = false;
    for field in fields {
        match field {
            "format=json" => is_json = true,
            "format=text" | "format=default" => is_json = false,
            _ => return Err(wrong("after the name there can be `format=json` or `format=text`")),
        }
    }
    if invocation.is_on("check") && !matches!(call, Some(Call::Check)) {
        return Err(wrong("`--check` says something else"));
    }
    Ok(call.map(|call| (call, is_json)))
}

/// Carries it out; gives the exit code: 1 where `check` has something to tell.
pub(crate) fn execute(
    invocation: &Invocation<'_>,
    request: &BuildRequest,
    (call, is_json): (Call, bool),
) -> Result<u8, Failure> {
    let store = invocation.app.store(1)?;
    let source = &request.dockerfile;
    let wrong = |errors| report::build_failure(&builder::BuildError::Dockerfile(errors), source, None);
    let checked = builder::check(request, &StoreImages::new(store)).map_err(wrong)?;
    if let Some(errors) = ParseErrors::new(checked.unsupported.clone()).filter(|_| call == Call::Check) {
        return Err(wrong(errors));
    }
    match (call, is_json) {
        (Call::Check, true) => output::print(&pretty(&warnings_json(&checked, source)))?,
        (Call::Check, false) => output::print(&warnings_text(&checked, source))?,
        (Call::Targets, true) => output::print(&pretty(&json!({ "targets": targets(&checked, source) })))?,
        (Call::Targets, false) => output::print(&targets_text(&checked))?,
        (Call::Outline, true) => output::print(&pretty(&Outline::of(&checked).json(source)))?,
        (Call::Outline, false) => output::print(&Outline::of(&checked).text())?,
    }
    let is_bad = call == Call::Check && checked.warnings.iter().any(|warning| is_rule(warning.code));
    Ok(u8::from(is_bad))
}

fn is_rule(code: &str) -> bool {
    Rule::from_name(code).is_some()
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).expect("maps with text keys are JSON"))
}

/// buildx's form; the URL of a rule is BuildKit's and not ours to give.
fn warnings_text(checked: &Checked, source: &Source) -> String {
    let rules: Vec<_> = checked.warnings.iter().filter(|warning| is_rule(warning.code)).collect();
    let mut text = match rules.len() {
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in rules {
        let description = Rule::from_name(warning.code).map_or("", Rule::description);
        let _ = write!(text, "\nWARNING: {}\n{description}\n", warning.code);
        text.push_str(&report::warning_at(&warning.message, source, warning.span));
        text.push('\n');
    }
    if checked.graph.check().error && !violated_rules(&checked.warnings).is_empty() {
        text.push_str("\n`# check=error=true`: a build fails with these warnings\n");
    }
    text
}

fn location(source: &Source, span: Span) -> Value {
    let place = |at: usize| {
        let (line, column) = source.position(at.min(source.text().len()));
        json!({ "line": line, "character": column - 1 })
    };
    json!({ "ranges": [{ "start": place(span.start), "end": place(span.end) }] })
}

fn warnings_json(checked: &Checked, source: &Source) -> Value {
    let warnings = checked.warnings.iter().filter_map(|warning| {
        let rule = Rule::from_name(warning.code)?;
        let mut value = json!({
            "ruleName": rule.name(),
            "description": rule.description(),
            "detail": warning.message,
        });
        if let Some(span) = warning.span {
            value["location"] = location(source, span);
        }
        Some(value)
    });
    json!({
        "warnings": warnings.collect::<Vec<_>>(),
        "sources": [{ "filename": source.name(), "language": "Dockerfile" }],
    })
}

/// The description above its `FROM`.
fn description<'a>(checked: &'a Checked, stage: &BuildStage) -> &'a str {
    let name = stage.name().unwrap_or_default();
    checked.dockerfile.description(stage.from().start, name).filter(|_| !name.is_empty()).unwrap_or_default()
}

fn targets(checked: &Checked, source: &Source) -> Vec<Value> {
    let graph = &checked.graph;
    let last = graph.stages().len() - 1;
    let rows = graph.stages().iter().map(|stage| {
        let mut value = json!({ "base": stage.base_name(), "location": location(source, stage.from()) });
        if let Some(name) = stage.name() {
            value["name"] = json!(name);
        }
        let text = description(checked, stage);
        if !text.is_empty() {
            value["description"] = json!(text);
        }
        if stage.id().index() == last {
            value["default"] = json!(true);
        }
        value
    });
    rows.collect()
}

fn targets_text(checked: &Checked) -> String {
    let graph = &checked.graph;
    let last = graph.stages().len() - 1;
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]);
    for stage in graph.stages() {
        let is_default = stage.id().index() == last;
        let name = match (stage.name(), is_default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.to_owned(),
            (None, true) => "(default)".to_owned(),
            // What has no name can be asked for by its number.
            (None, false) => stage.id().to_string(),
        };
        table.push(vec![name, description(checked, stage).to_owned()]);
    }
    table.render()
}

struct Argument {
    name: String,
    value: Option<String>,
    description: Option<String>,
    span: Span,
}

struct Needed {
    id: String,
    is_required: bool,
    span: Span,
}

/// What can be given to the build of a target.
#[derive(Default)]
struct Outline {
    name: Option<String>,
    description: String,
    arguments: Vec<Argument>,
    secrets: Vec<Needed>,
    agents: Vec<Needed>,
    caches: Vec<Needed>,
}

impl Outline {
    fn of(checked: &Checked) -> Self {
        let graph = &checked.graph;
        let target = graph.stage(graph.target());
        let mut outline = Self {
            name: target.name().map(str::to_owned),
            description: description(checked, target).to_owned(),
            ..Self::default()
        };
        for arg in &checked.dockerfile.global_args {
            outline.add_arguments(checked, &arg.value, arg.span);
        }
        for id in graph.needed() {
            for step in graph.stage(id).steps() {
                let instruction = step.instruction();
                match &instruction.kind {
                    InstructionKind::Arg(arg) => outline.add_arguments(checked, arg, step.span()),
                    InstructionKind::Run(run) => {
                        for mount in &run.mounts {
                            let word =
                                |word: &Option<parser::Word>| word.as_ref().map(|word| word.raw.clone());
                            let target = word(&mount.target);
                            let base =
                                target.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
                            let (list, id) = match mount.kind {
                                RunMountKind::Secret => (
                                    &mut outline.secrets,
                                    word(&mount.id).or_else(|| word(&mount.source)).or(base),
                                ),
                                RunMountKind::Ssh => {
                                    (&mut outline.agents, word(&mount.id).or(Some("default".to_owned())))
                                }
                                RunMountKind::Cache => (&mut outline.caches, word(&mount.id).or(target)),
                                RunMountKind::Bind | RunMountKind::Tmpfs => continue,
                            };
                            let id = id.unwrap_or_default();
                            match list.iter_mut().find(|known| known.id == id) {
                                Some(known) => known.is_required |= mount.required,
                                None => list.push(Needed {
                                    id,
                                    is_required: mount.required,
                                    span: step.locate(mount.span),
                                }),
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        outline
    }

    fn add_arguments(&mut self, checked: &Checked, arg: &ArgInstruction, span: Span) {
        for declaration in &arg.args {
            let name = &declaration.name.value;
            let global = checked.graph.global();
            let value = global
                .build_arg(name)
                .map(str::to_owned)
                .or_else(|| declaration.default.as_ref().map(|word| word.raw.clone()))
                .or_else(|| global.get(name).map(str::to_owned));
            let description = checked.dockerfile.description(span.start, name).map(str::to_owned);
            match self.arguments.iter_mut().find(|known| known.name == *name) {
                Some(known) => {
                    known.value = known.value.take().or(value);
                    known.description = known.description.take().or(description);
                }
                None => self.arguments.push(Argument { name: name.clone(), value, description, span }),
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!("TARGET:      {}\n", self.name.as_deref().unwrap_or("(default)"));
        if !self.description.is_empty() {
            let _ = writeln!(text, "DESCRIPTION: {}", self.description);
        }
        if !self.arguments.is_empty() {
            let mut table = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
            for argument in &self.arguments {
                table.push(vec![
                    argument.name.clone(),
                    argument.value.clone().unwrap_or_default(),
                    argument.description.clone().unwrap_or_default(),
                ]);
            }
            let _ = write!(text, "\n{}", table.render());
        }
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.agents)] {
            if !list.is_empty() {
                let mut table = Table::new(&[title, "REQUIRED"]);
                for needed in list {
                    let required = if needed.is_required { "true" } else { "" };
                    table.push(vec![needed.id.clone(), required.to_owned()]);
                }
                let _ = write!(text, "\n{}", table.render());
            }
        }
        if !self.caches.is_empty() {
            let mut table = Table::new(&["CACHE MOUNT"]);
            self.caches.iter().for_each(|cache| table.push(vec![cache.id.clone()]));
            let _ = write!(text, "\n{}", table.render());
        }
        text
    }

    fn json(&self, source: &Source) -> Value {
        let mut value = json!({});
        if let Some(name) = &self.name {
            value["name"] = json!(name);
        }
        if !self.description.is_empty() {
            value["description"] = json!(self.description);
        }
        if !self.arguments.is_empty() {
            let rows = self.arguments.iter().map(|argument| {
                let mut row = json!({ "name": argument.name, "location": location(source, argument.span) });
                if let Some(text) = &argument.value {
                    row["value"] = json!(text);
                }
                if let Some(text) = &argument.description {
                    row["description"] = json!(text);
                }
                row
            });
            value["args"] = rows.collect();
        }
        for (key, list) in [("secrets", &self.secrets), ("ssh", &self.agents)] {
            if !list.is_empty() {
                let rows = list.iter().map(|needed| {
                    let mut row = json!({ "name": needed.id, "location": location(source, needed.span) });
                    if needed.is_required {
                        row["required"] = json!(true);
                    }
                    row
                });
                value[key] = rows.collect();
            }
        }
        if !self.caches.is_empty() {
            let rows = self.caches.iter();
            value["cache"] = rows
                .map(|cache| json!({ "ID": cache.id, "location": location(source, cache.span) }))
                .collect();
        }
        value
    }
}
