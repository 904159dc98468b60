//! The words of `FROM`, expanded in the global scope.

use std::collections::BTreeSet;

use oci::Platform;
use parser::{Escape, ParseError, Word, nearest};

use crate::event::BuildWarning;
use crate::fault::{fault, word_fault};
use crate::scope::GlobalScope;

/// Expands the words of `FROM` lines.
pub(crate) struct FromLine<'a> {
    pub(crate) global: &'a GlobalScope,
    pub(crate) escape: Escape,
    /// Global arguments whose defaults are faulty: what uses them isn't told again.
    pub(crate) faulty: &'a BTreeSet<String>,
    pub(crate) errors: &'a mut Vec<ParseError>,
    pub(crate) warnings: &'a mut Vec<BuildWarning>,
}

impl FromLine<'_> {
    /// The text of `word` and the variables in it that aren't set.
    fn expand(&mut self, word: &Word) -> Option<(String, Vec<String>)> {
        let mut unset = Vec::new();
        let expanded = word.expand(self.escape, &mut |name| {
            let value = self.global.get(name).map(str::to_owned);
            if value.is_none() && !unset.iter().any(|known| known == name) {
                unset.push(name.to_owned());
            }
            value
        });
        match expanded {
            Ok(_) if unset.iter().any(|name| self.faulty.contains(name)) => None,
            Ok(text) => Some((text, unset)),
            Err(error) => {
                self.errors.push(word_fault(&error, word.span));
                None
            }
        }
    }

    fn help_for_unset(&self, unset: &[String]) -> Option<String> {
        let name = unset.first()?;
        Some(match nearest(name, self.global.names()) {
            Some(known) => format!("did you mean `${{{known}}}`?"),
            None => {
                format!("`FROM` sees global arguments only: write `ARG {name}=...` before the first `FROM`")
            }
        })
    }

    /// What the line names; nothing where that is a fault.
    pub(crate) fn base_name(&mut self, word: &Word) -> Option<String> {
        let (text, unset) = self.expand(word)?;
        if text.is_empty() {
            let message = format!("base name (`{}`) should not be blank", word.raw);
            let help = self.help_for_unset(&unset);
            self.errors.push(fault("blank-base", message, word.span, "expands to nothing", help));
            return None;
        }
        let is_undeclared =
            |name: &&String| is_plain_use(&word.raw, name) && !self.global.declared().contains(*name);
        for name in unset.iter().filter(is_undeclared) {
            let meant = nearest(name, self.global.names()).map(|known| format!(" (did you mean {known}?)"));
            self.warnings.push(BuildWarning {
                code: "UndefinedArgInFrom",
                message: format!("FROM argument '{name}' is not declared{}", meant.unwrap_or_default()),
                span: Some(word.span),
            });
        }
        Some(text)
    }

    /// Warns where the defaults of the arguments alone name no image: without build arguments the build fails.
    pub(crate) fn check_defaults(&mut self, word: &Word, defaults: &GlobalScope) {
        let mut is_global = false;
        let expanded = word.expand(self.escape, &mut |name| {
            is_global |= defaults.declared().contains(name);
            defaults.get(name).map(str::to_owned)
        });
        let is_wrong = expanded.is_ok_and(|text| text.is_empty() || text.parse::<oci::Reference>().is_err());
        if is_global && is_wrong {
            self.warnings.push(BuildWarning {
                code: "InvalidDefaultArgInFrom",
                message: format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    word.raw
                ),
                span: Some(word.span),
            });
        }
    }

    /// `--platform`; nothing where that is a fault.
    pub(crate) fn platform(&mut self, word: &Word, build: &Platform) -> Option<Platform> {
        let (text, unset) = self.expand(word)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression `{}`", word.raw);
            let help = self.help_for_unset(&unset);
            self.errors.push(fault("empty-platform", message, word.span, "expands to nothing", help));
            return None;
        }
        match parse_platform(&text, build) {
            Ok(platform) => Some(platform),
            Err(error) => {
                let help = self.help_for_unset(&unset);
                self.errors.push(fault("bad-platform", error.to_string(), word.span, "not a platform", help));
                None
            }
        }
    }
}

/// `os/architecture[/variant]`, or one part of it where the rest is this machine's (`arm64`, `linux`).
fn parse_platform(text: &str, build: &Platform) -> Result<Platform, oci::PlatformError> {
    const ARCHITECTURES: &[&str] = &[
        "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x", "x86_64",
        "aarch64",
    ];
    let lower = text.to_ascii_lowercase();
    if ARCHITECTURES.contains(&lower.as_str()) {
        return format!("{}/{lower}", build.os).parse();
    }
    if lower == "linux" {
        return Ok(build.clone());
    }
    text.parse()
}

/// Whether `raw` uses a variable as `$NAME` or `${NAME}`, without a default or an alternative.
pub(crate) fn is_plain_use(raw: &str, name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    raw.match_indices('$').any(|(at, _)| {
        let rest = &raw[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|rest| rest.strip_prefix(name)?.strip_prefix('}'));
        let plain = rest.strip_prefix(name).filter(|rest| !rest.starts_with(word));
        braced.or(plain).is_some()
    })
}
