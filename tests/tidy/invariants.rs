//! Invariants have names: what a document promises an assertion or a test checks, and the reverse.
//!
//! A name is defined by a line `- LOG-1: …` (or `| LOG-1 | …`) of a `//!` doc, once. It is checked
//! where it stands in a text (`assert!(…, "LOG-1")`) or anywhere in a test.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// Words that look like names of invariants and are none.
const OTHERS: [&str; 13] =
    ["UTF", "CRC", "SHA", "MD", "KIP", "RFC", "ISO", "RUSTSEC", "CVE", "BCP", "IEEE", "EXT", "FNV"];

/// Names `ABC-1` in `text`, with their places.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('-').filter_map(|(dash, _)| {
        let bytes = text.as_bytes();
        let letters =
            bytes[..dash].iter().rev().take_while(|byte| byte.is_ascii_uppercase()).count();
        let digits = bytes[dash + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (start, end) = (dash - letters, dash + 1 + digits);
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let alone = !bytes[..start].last().is_some_and(part) && !bytes.get(end).is_some_and(part);
        let shaped = (2..=6).contains(&letters) && (1..=2).contains(&digits) && alone;
        (shaped && !OTHERS.contains(&&text[start..dash])).then(|| (start, &text[start..end]))
    })
}

/// Names that a line of a module's doc defines.
fn defined(source: &Source) -> Vec<(usize, &str)> {
    let is_definition = |at: usize| {
        let line = &source.comments[source.comments[..at].rfind('\n').map_or(0, |at| at + 1)..at];
        matches!(line.trim(), "//! -" | "//! |")
    };
    names(&source.comments).filter(|(at, _)| is_definition(*at)).collect()
}

fn family(name: &str) -> &str {
    name.split_once('-').map_or(name, |(family, _)| family)
}

/// Names that are defined twice, promised but not checked, or checked but not promised.
pub(super) fn mismatches(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut definitions: BTreeMap<&str, String> = BTreeMap::new();
    for source in sources {
        for (at, name) in defined(source) {
            let place = format!("{}:{}", source.path, source.line(at));
            if let Some(first) = definitions.insert(name, place) {
                complaints.push(source.complain(at, &format!("{name} is also defined in {first}")));
            }
        }
    }
    let families: BTreeSet<_> = definitions.keys().map(|name| family(name)).collect();
    let mut checked = BTreeSet::new();
    for source in sources {
        let in_text: Vec<_> = names(&source.texts).collect();
        checked.extend(in_text.iter().map(|(_, name)| *name));
        let in_comments = names(&source.comments);
        let in_comments: Vec<_> = in_comments
            .filter(|(at, _)| families.contains(family(&source.comments[*at..])))
            .collect();
        let is_test = |at: usize| in_tests(source, at);
        checked.extend(in_comments.iter().filter(|(at, _)| is_test(*at)).map(|(_, name)| *name));
        // Names in the texts of tests may be made up.
        let in_text = in_text.iter().filter(|(at, name)| {
            families.contains(family(name)) || (!is_test(*at) && begins_text(source, *at))
        });
        let unknown =
            in_text.chain(&in_comments).filter(|(_, name)| !definitions.contains_key(name));
        complaints.extend(
            unknown.map(|(at, name)| source.complain(*at, &format!("{name} is defined nowhere"))),
        );
    }
    let unchecked = definitions.iter().filter(|(name, _)| !checked.contains(*name));
    complaints.extend(unchecked.map(|(name, place)| format!("{place}: nothing checks {name}")));
    complaints
}

/// Whether byte `at` lies in a test: more test code than other code stands around it.
fn in_tests(source: &Source, at: usize) -> bool {
    let next = |code: &str| code[at..].find(|c: char| !c.is_whitespace()).unwrap_or(usize::MAX);
    let (code, tests) = (next(&source.code), next(&source.tests));
    tests < code
}

/// Whether a literal's text begins at `at`.
fn begins_text(source: &Source, at: usize) -> bool {
    at > 0 && source.code.as_bytes()[at - 1] == b'"'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        mismatches(&sources)
    }

    const DOC: &str = "//! A log.\n//!\n//! - ABC-1: it holds.\n";

    #[test]
    fn a_promise_that_nothing_checks_is_found() {
        assert_eq!(complaints(&[("a.rs", DOC)]), ["a.rs:3: nothing checks ABC-1"]);
        let mentioned = format!("{DOC}// As ABC-1 says.\nfn a() {{}}");
        assert_eq!(complaints(&[("a.rs", &mentioned)]).len(), 1, "a comment checks nothing");
    }

    #[test]
    fn a_promise_is_checked_by_an_assertion_or_a_test() {
        let asserted = format!("{DOC}fn a() {{ assert!(true, \"ABC-1: it holds\") }}");
        assert!(complaints(&[("a.rs", &asserted)]).is_empty());
        let tested = format!("{DOC}#[cfg(test)]\nmod tests {{\n/// ABC-1.\nfn a() {{}}\n}}");
        assert!(complaints(&[("a.rs", &tested)]).is_empty());
        assert!(complaints(&[("a.rs", DOC), ("tests/b.rs", "// ABC-1\nfn a() {}")]).is_empty());
    }

    #[test]
    fn a_check_of_what_was_never_promised_is_found() {
        let wrong = format!("{DOC}fn a() {{ assert!(true, \"ABC-1\"); assert!(true, \"ABC-2\") }}");
        assert_eq!(complaints(&[("a.rs", &wrong)]), ["a.rs:4: ABC-2 is defined nowhere"]);
        let unknown = "fn a() { assert!(true, \"NEW-1: holds\") }";
        assert_eq!(complaints(&[("a.rs", unknown)]), ["a.rs:1: NEW-1 is defined nowhere"]);
    }

    #[test]
    fn a_name_that_is_promised_twice_is_found() {
        let checked = "#[cfg(test)] mod t { const A: &str = \"ABC-1\"; }";
        let found = complaints(&[("a.rs", DOC), ("b.rs", DOC), ("c.rs", checked)]);
        assert_eq!(found, ["b.rs:3: ABC-1 is also defined in a.rs:3"]);
    }

    #[test]
    fn other_words_are_no_names() {
        let text = "//! CRC-32, UTF-8, RUSTSEC-2025-0141, x86-64, KIP-98, A-1, non-AB-1\nfn a() {}";
        assert!(complaints(&[("a.rs", text)]).is_empty());
    }
}
