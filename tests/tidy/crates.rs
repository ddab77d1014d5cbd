//! What `cargo metadata` says: the direction of the three crates, and where all the others are from.

use std::{path::Path, process::Command};

use serde::Deserialize;

/// The part of `cargo metadata` that is looked at.
#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Asks cargo for every package that is built on this platform.
pub(super) fn metadata(root: &Path) -> Metadata {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &platform])
        .current_dir(root)
        .output()
        .expect("cargo runs these tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes the JSON that it documents")
}

/// Edges between our crates that do not point towards the runtime.
pub(super) fn wrong_edges(metadata: &Metadata) -> Vec<String> {
    const LAYERS: [&str; 5] =
        ["flumen-runtime", "flumen-actors", "flumen", "flumen-workspace", "flumen-fuzz"];
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut complaints = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.source.is_none()) {
        let Some(from) = layer(&package.name) else {
            complaints.push(format!("`{}` is not one of the crates", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            if layer(&dependency.name).is_some_and(|to| to >= from) {
                complaints.push(format!("`{}` depends on `{}`", package.name, dependency.name));
            }
        }
    }
    complaints
}

/// The list `allow = […]` below `[licenses]` of a configuration of cargo-deny.
pub(super) fn allowed_licences(deny: &str) -> Vec<String> {
    let section = deny.split("\n[").find(|section| section.starts_with("licenses]"));
    let list = section.and_then(|section| section.split_once("allow = [")).map(|(_, rest)| rest);
    let list = list.and_then(|rest| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',').map(|entry| entry.trim().trim_matches('"').to_string()).collect()
}

/// Packages that come from elsewhere than crates.io, or whose licence allows none of `allowed`.
pub(super) fn licences_and_sources(metadata: &Metadata, allowed: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Package { name, version, license, source, .. } in &metadata.packages {
        if source.as_ref().is_some_and(|source| source != CRATES_IO) {
            complaints.push(format!("`{name}` {version} is not from crates.io"));
        }
        match license {
            None => complaints.push(format!("`{name}` {version} names no licence")),
            Some(text) if !is_allowed(text, allowed) => {
                complaints.push(format!("`{name}` {version} has the licence `{text}`"));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// Whether an SPDX expression can be satisfied. `/` is an old way to write OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let result = any_of(&mut rest, allowed);
    result && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut result = all_of(rest, allowed);
    while let Some(("OR", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        *rest = after;
        result |= all_of(rest, allowed);
    }
    result
}

fn all_of(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut result = one(rest, allowed);
    while let Some(("AND", after)) = rest.split_first().map(|(first, after)| (*first, after)) {
        *rest = after;
        result &= one(rest, allowed);
    }
    result
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    let Some((first, after)) = rest.split_first() else { return false };
    *rest = after;
    if *first == "(" {
        let result = any_of(rest, allowed);
        let closed = rest.first() == Some(&")");
        *rest = rest.get(1..).unwrap_or_default();
        return result && closed;
    }
    // An exception only ever allows more.
    if rest.first() == Some(&"WITH") {
        *rest = rest.get(2..).unwrap_or_default();
    }
    allowed.iter().any(|allowed| allowed == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, source: Option<&str>, license: Option<&str>, on: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
            source: source.map(Into::into),
            dependencies: on.iter().map(|name| Dependency { name: name.to_string() }).collect(),
        }
    }

    #[test]
    fn an_edge_the_wrong_way_is_found() {
        let edges = |name, on: &[&str]| {
            wrong_edges(&Metadata { packages: vec![package(name, None, None, on)] })
        };
        assert!(edges("flumen-actors", &["flumen-runtime", "actix"]).is_empty());
        assert_eq!(edges("flumen-runtime", &["flumen-actors"]).len(), 1);
        assert_eq!(edges("flumen-actors", &["flumen"]).len(), 1);
        assert_eq!(edges("flumen-more", &[]).len(), 1);
    }

    #[test]
    fn foreign_sources_and_licences_are_found() {
        let allowed = ["MIT".to_string()];
        let found = |source, license| {
            let packages = vec![package("a", source, license, &[])];
            licences_and_sources(&Metadata { packages }, &allowed).len()
        };
        assert_eq!(found(Some(CRATES_IO), Some("MIT")), 0);
        assert_eq!(found(Some("git+https://example.org/a"), Some("MIT")), 1);
        assert_eq!(found(Some(CRATES_IO), Some("GPL-3.0-only")), 1);
        assert_eq!(found(Some(CRATES_IO), None), 1);
    }

    #[test]
    fn expressions_of_licences_are_weighed() {
        let allowed = ["MIT".to_string(), "Apache-2.0".into(), "Unicode-3.0".into()];
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "MIT/GPL-2.0",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in
            ["GPL-2.0", "MIT AND GPL-2.0", "(MIT OR Apache-2.0) AND GPL-2.0", "", "MIT GPL-2.0"]
        {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn the_list_of_licences_is_read() {
        let deny = "[bans]\nallow = [\"x\"]\n[licenses]\nallow = [\n  \"MIT\",\n  \"ISC\"\n]\n";
        assert_eq!(allowed_licences(deny), ["MIT", "ISC"]);
    }
}
