//! Style as a test: what no compiler checks, checked on every file of the checkout.
//!
//! Each rule is a pure function over one file (or over what `cargo metadata` says) that returns
//! its complaints; each has tests of its own that it can fail. The rules themselves stand where
//! they are checked: [`words`] (who may name what), [`shape`] (files, functions, tests),
//! [`invariants`] (names that documents and assertions share), [`crates`] (dependencies).

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/invariants.rs"]
mod invariants;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::{fs, path::Path};

use source::Source;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the checkout.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["runtime", "actors", "pipelines", "examples", "tests", "benches"] {
        read_into(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 10, "the checkout was not found");
    sources
}

fn read_into(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it was listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_into(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root()).ok().and_then(Path::to_str);
            let relative = relative.expect("it lies below the root, and its name is ASCII");
            let text = fs::read_to_string(&path).expect("it is UTF-8, and stays while we look");
            sources.push(Source::new(relative, &text));
        }
    }
}

/// Fails with all complaints at once.
#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[track_caller]
fn assert_each(rule: impl Fn(&Source) -> Vec<String>) {
    assert_none(sources().iter().flat_map(rule).collect());
}

#[test]
fn arch_1_the_runtime_names_no_domain_type() {
    assert_each(words::domain_names_in_runtime);
}

#[test]
fn arch_2_cores_are_pure() {
    assert_each(words::impure_cores);
}

#[test]
fn arch_3_unsafe_stands_only_in_the_ring_s_driver() {
    assert_each(words::unsafe_code);
}

#[test]
fn arch_4_bincode_and_dashmap_stand_in_one_file_each() {
    assert_each(words::fenced_crates);
}

#[test]
fn arch_5_only_launch_code_makes_arbiters() {
    assert_each(words::arbiters);
}

#[test]
fn broker_and_agent_meet_only_where_a_topic_is_an_agent_s_end() {
    assert_each(words::broker_and_agent);
}

#[test]
fn no_actor_touches_its_state_after_an_await() {
    assert_each(words::state_after_await);
}

#[test]
fn wall_clock_and_randomness_stand_behind_their_ports() {
    assert_each(words::clock_and_random);
}

#[test]
fn nothing_is_left_to_do() {
    assert_each(words::leftovers);
}

#[test]
fn every_file_begins_with_what_it_is() {
    assert_each(shape::no_module_doc);
}

#[test]
fn files_and_functions_are_short() {
    assert_each(shape::too_long);
}

#[test]
fn tests_do_not_wait_in_real_time() {
    assert_each(shape::sleeping_tests);
}

#[test]
fn tests_are_named_by_what_they_claim() {
    assert_each(shape::test_names);
}

#[test]
fn invariants_are_named_alike_in_documents_and_assertions() {
    assert_none(invariants::mismatches(&sources()));
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let entries = fs::read_dir(root()).unwrap();
    let names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_none(shape::top_level(&names));
}

#[test]
fn every_example_is_a_section_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let sources = sources();
    let examples = sources.iter().filter_map(|source| {
        source.path.strip_prefix("examples/").and_then(|name| name.strip_suffix(".rs"))
    });
    assert_none(shape::unnamed_examples(examples, &readme));
}

#[test]
fn crates_depend_one_way() {
    assert_none(crates::wrong_edges(&crates::metadata(root())));
}

#[test]
fn dependencies_have_known_licences_and_sources() {
    let deny = fs::read_to_string(root().join(".cargo/deny.toml")).unwrap();
    let allowed = crates::allowed_licences(&deny);
    assert!(allowed.iter().any(|licence| licence == "Apache-2.0"), "no list in deny.toml");
    assert_none(crates::licences_and_sources(&crates::metadata(root()), &allowed));
}
