//! `TARGETPLATFORM` and its kind: arguments that every Dockerfile has in its global scope.

use oci::Platform;

/// The predefined global arguments with their values, in a fixed order. `target_stage` is what `--target` names,
/// else the last stage's name.
pub(crate) fn platform_args(
    target: &Platform,
    build: &Platform,
    target_stage: Option<&str>,
) -> Vec<(&'static str, String)> {
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", target_stage.unwrap_or("default").to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_both_platforms_are_there() {
        let (target, build) = ("linux/arm/v7".parse().unwrap(), "linux/amd64".parse().unwrap());
        let args = platform_args(&target, &build, None);
        let get = |name| args.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        let expected = [
            ("TARGETPLATFORM", "linux/arm/v7"),
            ("TARGETOS", "linux"),
            ("TARGETARCH", "arm"),
            ("TARGETVARIANT", "v7"),
            ("BUILDPLATFORM", "linux/amd64"),
            ("BUILDVARIANT", ""),
            ("TARGETSTAGE", "default"),
        ];
        for (name, value) in expected {
            assert_eq!(get(name), Some(value), "{name}");
        }
        let named = platform_args(&target, &build, Some("app"));
        assert!(named.contains(&("TARGETSTAGE", "app".to_owned())));
    }
}
