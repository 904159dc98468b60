//! `RUN --mount`: options expanded, defaults put in.

use parser::{ParseError, RunInstruction, RunMount, RunMountKind, Word};

use crate::expand::{Expander, clean};
use crate::expanded::{Mount, MountStep};
use crate::fault::{fault, unsupported};
use crate::graph::ContentSource;

impl Expander<'_> {
    pub(crate) fn mounts(&mut self, run: &RunInstruction) -> Result<Vec<MountStep>, ParseError> {
        let sources = self.step.mount_sources();
        let mut mounts = Vec::with_capacity(run.mounts.len());
        for (index, mount) in run.mounts.iter().enumerate() {
            let from = sources.get(index).cloned().flatten();
            mounts.push(MountStep { span: mount.span, mount: self.mount(mount, from)? });
        }
        Ok(mounts)
    }

    fn mount(&mut self, mount: &RunMount, from: Option<ContentSource>) -> Result<Mount, ParseError> {
        let source = self.optional(mount.source.as_ref())?.unwrap_or_default();
        let absolute_source = clean(&format!("/{source}"));
        match mount.kind {
            RunMountKind::Bind => Ok(Mount::Bind {
                target: self.target(mount)?,
                from: from.unwrap_or(ContentSource::Context),
                source: absolute_source,
                readonly: mount.readonly.unwrap_or(true),
            }),
            RunMountKind::Cache => {
                let target = self.target(mount)?;
                let id = self.optional(mount.id.as_ref())?.filter(|id| !id.is_empty());
                Ok(Mount::Cache {
                    id: id.unwrap_or_else(|| target.clone()),
                    target,
                    sharing: mount.sharing,
                    from,
                    source: absolute_source,
                    readonly: mount.readonly.unwrap_or(false),
                    mode: self.number(mount.mode.as_ref(), parse_mode)?.unwrap_or(0o755),
                    uid: self.number(mount.uid.as_ref(), parse_id)?.unwrap_or(0),
                    gid: self.number(mount.gid.as_ref(), parse_id)?.unwrap_or(0),
                })
            }
            RunMountKind::Tmpfs => Ok(Mount::Tmpfs {
                target: self.target(mount)?,
                size_bytes: self.number(mount.size.as_ref(), parse_size)?,
            }),
            RunMountKind::Secret => self.secret(mount, source),
            RunMountKind::Ssh => Err(unsupported("`RUN --mount=type=ssh`", mount.span, None)),
        }
    }

    fn secret(&mut self, mount: &RunMount, source: String) -> Result<Mount, ParseError> {
        let target = self.optional(mount.target.as_ref())?.filter(|target| !target.is_empty());
        let env = self.optional(mount.env.as_ref())?.filter(|env| !env.is_empty());
        let id = self.optional(mount.id.as_ref())?.filter(|id| !id.is_empty());
        let named = if source.is_empty() { id } else { Some(source) };
        let Some(id) = named.or_else(|| target.as_deref().map(|target| base_name(target).to_owned())) else {
            let help = "write `--mount=type=secret,id=NAME`".to_owned();
            return Err(fault(
                "secret-without-id",
                "a secret mount needs an `id`",
                mount.span,
                "",
                Some(help),
            ));
        };
        let target = match target {
            Some(target) => Some(self.absolute(&target)),
            None if env.is_some() => None,
            None => Some(format!("/run/secrets/{}", base_name(&id))),
        };
        if target.as_deref() == Some("/") {
            return Err(fault("bad-mount-target", "invalid mount target `/`", mount.span, "", None));
        }
        Ok(Mount::Secret {
            id,
            target,
            env,
            required: mount.required,
            mode: self.number(mount.mode.as_ref(), parse_mode)?.unwrap_or(0o400),
            uid: self.number(mount.uid.as_ref(), parse_id)?.unwrap_or(0),
            gid: self.number(mount.gid.as_ref(), parse_id)?.unwrap_or(0),
        })
    }

    fn target(&mut self, mount: &RunMount) -> Result<String, ParseError> {
        let text = self.optional(mount.target.as_ref())?.unwrap_or_default();
        let span = mount.target.as_ref().map_or(mount.span, |target| target.span);
        if text.is_empty() {
            return Err(fault("mount-without-target", "the mount has no target", span, "", None));
        }
        let target = self.absolute(&text);
        if target == "/" {
            return Err(fault(
                "bad-mount-target",
                format!("invalid mount target `{text}`"),
                span,
                "is the root",
                None,
            ));
        }
        Ok(target)
    }

    fn number<T>(
        &mut self,
        word: Option<&Word>,
        parse: fn(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, ParseError> {
        let Some(word) = word else { return Ok(None) };
        let text = self.word(word)?;
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |expected| {
            let message = format!("invalid value `{text}` of a mount option: expected {expected}");
            fault("bad-mount-option", message, word.span, "", None)
        };
        parse(&text).map(Some).map_err(wrong)
    }
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn parse_mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.ok_or("an octal mode of at most 07777")
}

fn parse_id(text: &str) -> Result<u32, &'static str> {
    let id = text.parse().ok().filter(|id| i32::try_from(*id).is_ok() && !text.starts_with('+'));
    id.ok_or("a number from 0 to 2147483647")
}

/// `64m`, `1.5g`, `4096`: 1024-based, as docker reads sizes.
fn parse_size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a size such as `64m` or `1g`";
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(EXPECTED),
    };
    let (whole, fraction) = digits.trim().split_once('.').unwrap_or((digits.trim(), ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 9 || !is_number(whole) || !is_number(fraction)
    {
        return Err(EXPECTED);
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| EXPECTED)?;
    u64::try_from((number << shift) / scale).map_err(|_| EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_dockers_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("2KiB", 2048),
            ("1kb", 1024),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1.2.3", "99999999999999999t", "1 000"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_and_ids_are_checked() {
        assert_eq!((parse_mode("0400"), parse_mode("1777")), (Ok(0o400), Ok(0o1777)));
        assert_eq!((parse_id("0"), parse_id("2147483647")), (Ok(0), Ok(2_147_483_647)));
        assert!(parse_mode("888").is_err() && parse_mode("17777").is_err() && parse_mode("+7").is_err());
        assert!(parse_id("-1").is_err() && parse_id("2147483648").is_err() && parse_id("+1").is_err());
    }
}
