//! `calque version`.

use oci::Platform;
use serde::Serialize;

use super::{Format, format_flag};
use crate::arguments::{Count, Invocation, Verb};
use crate::output;
use crate::report::Failure;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "version")],
    about: "Show the version of calque and of what it runs on",
    synopsis: "[OPTIONS]",
    examples: &["version", "version --format json"],
    is_trailing: false,
    flags: || vec![format_flag()],
    execute,
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: &'static str,
    os: String,
    arch: String,
    kernel_version: String,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.arguments(Count::None)?;
    let platform = Platform::host();
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        os: platform.os,
        arch: platform.architecture,
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
    };
    match Format::of(invocation)? {
        // docker's shape: scripts ask for either half, and there is no server to differ.
        Format::Json => {
            output::print_json_lines(&[serde_json::json!({ "Client": version, "Server": version })])?
        }
        Format::Table => output::print(&format!(
            "calque:\n Version:    {}\n OS/Arch:    {}/{}\n Kernel:     {}\n",
            version.version, version.os, version.arch, version.kernel_version
        ))?,
    }
    Ok(0)
}
