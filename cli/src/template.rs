//! The part of Go's templates that calque has so far: texts with fields in them, `{{.State.ExitCode}}` and
//! `{{json .Config}}`. Everything else is refused by name.

use serde_json::Value;

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, is_json: bool },
}

/// Why a template can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    /// `{{` without `}}`.
    #[error("unclosed `{{{{` in the template")]
    Unclosed,
    /// An action other than a field.
    #[error(
        "`{{{{{0}}}}}` is not supported yet: only fields are, as in `{{{{.Id}}}}` and `{{{{json .Config}}}}`"
    )]
    Action(String),
    /// The object has no such field.
    #[error("there is no field `{0}`")]
    NoField(String),
}

impl Template {
    /// Reads `text`; `json` stands for the whole object.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text == "json" {
            return Ok(Self(vec![Part::Field { path: Vec::new(), is_json: true }]));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::action(action)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text for `object`.
    pub(crate) fn render(&self, object: &Value) -> Result<String, TemplateError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field { path, is_json } => {
                    let mut value = object;
                    for (depth, name) in path.iter().enumerate() {
                        let missing = || TemplateError::NoField(format!(".{}", path[..=depth].join(".")));
                        value = value.get(name).ok_or_else(missing)?;
                    }
                    text.push_str(&if *is_json { value.to_string() } else { printed(value) });
                }
            }
        }
        Ok(text)
    }
}

impl Part {
    fn action(text: &str) -> Result<Self, TemplateError> {
        let unknown = || TemplateError::Action(text.to_owned());
        let trimmed = text.trim();
        let (is_json, field) = match trimmed.strip_prefix("json ") {
            Some(field) => (true, field.trim()),
            None => (false, trimmed),
        };
        let names = field.strip_prefix('.').ok_or_else(unknown)?;
        if names.is_empty() {
            return if is_json { Ok(Self::Field { path: Vec::new(), is_json }) } else { Err(unknown()) };
        }
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || char == '_');
        let path: Vec<String> = names.split('.').map(str::to_owned).collect();
        if path.iter().all(|name| is_name(name)) { Ok(Self::Field { path, is_json }) } else { Err(unknown()) }
    }
}

/// As Go's `fmt` prints it: `[a b]`, `map[k:v]`.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}:{}", printed(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> Result<String, TemplateError> {
        let object = json!({ "Id": "sha256:ab", "State": { "ExitCode": 3 }, "Env": ["A=1", "B=2"], "On": true,
            "Labels": { "b": "2", "a": "1" }, "None": null });
        Template::parse(template)?.render(&object)
    }

    #[test]
    fn fields_are_printed_as_go_prints_them() {
        for (template, text) in [
            ("{{.Id}}", "sha256:ab"),
            ("{{ .State.ExitCode }} of {{.Id}}!", "3 of sha256:ab!"),
            ("{{.Env}} {{.Labels}} {{.On}} {{.None}}", "[A=1 B=2] map[a:1 b:2] true <no value>"),
            ("{{json .Env}}{{json .State}}", "[\"A=1\",\"B=2\"]{\"ExitCode\":3}"),
            ("plain", "plain"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
        assert!(render("{{json .}}").unwrap().starts_with('{'));
        assert_eq!(render("json"), render("{{json .}}"));
    }

    #[test]
    fn the_rest_is_refused_by_name() {
        for action in
            ["range .Env", "if .On", "len .Env", ".", "index .Env 0", ".Id | upper", "$x", ".A..B", ""]
        {
            let expected = TemplateError::Action(action.to_owned());
            assert_eq!(render(&format!("{{{{{action}}}}}")), Err(expected), "{action}");
        }
        assert_eq!(render("{{.Id"), Err(TemplateError::Unclosed));
        assert_eq!(render("{{.State.Nope.X}}"), Err(TemplateError::NoField(".State.Nope".into())));
    }
}
