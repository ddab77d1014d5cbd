//! The shape of files, functions, tests and of the checkout.

use super::source::{Source, block_end, phrases, words};

/// Most lines of code of a file, tests apart.
const FILE_LINES_MAX: usize = 500;
/// Most lines of code of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Most lines of an example, blank ones and comments too: a page of the manual.
const EXAMPLE_LINES_MAX: usize = 60;

fn lines_of_code(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Every file says in its first line what it is.
pub(super) fn no_module_doc(source: &Source) -> Vec<String> {
    if source.comments.starts_with("//!") {
        return Vec::new();
    }
    vec![source.complain(0, "does not begin with `//!`")]
}

/// Files and functions that are too long to be held in the head.
pub(super) fn too_long(source: &Source) -> Vec<String> {
    let is_example = source.path.starts_with("examples/");
    let most = if is_example { EXAMPLE_LINES_MAX } else { FILE_LINES_MAX };
    let mut complaints = Vec::new();
    let lines = if is_example { source.code.lines().count() } else { lines_of_code(&source.code) };
    if lines > most {
        let of = if is_example { "lines" } else { "lines of code" };
        complaints.push(format!("{}: {lines} {of}, and at most {most}", source.path));
    }
    for at in phrases(&source.code, "fn") {
        let Some(end) = block_end(source.code.as_bytes(), at) else { continue };
        let lines = lines_of_code(&source.code[at..end]);
        if lines > FUNCTION_LINES_MAX {
            let what = format!("a function of {lines} lines, and at most {FUNCTION_LINES_MAX}");
            complaints.push(source.complain(at, &what));
        }
    }
    complaints
}

/// Tests that wait for real. Time is paused in them; where it cannot be (processes, disks), a comment
/// `// Real time: why` stands at most three lines above.
pub(super) fn sleeping_tests(source: &Source) -> Vec<String> {
    let paused = ["start_paused", "time::pause()", "sim::run("];
    if paused.iter().any(|paused| source.tests.contains(paused)) {
        return Vec::new();
    }
    let comments: Vec<_> = source.comments.lines().collect();
    let explained = |at| {
        let line = source.line(at) - 1;
        comments[line.saturating_sub(3)..=line].iter().any(|line| line.contains("// Real time: "))
    };
    let sleeps = phrases(&source.tests, "sleep(").filter(|at| !explained(*at));
    sleeps.map(|at| source.complain(at, "sleeps in real time, and does not say why")).collect()
}

/// Names of tests are sentences.
pub(super) fn test_names(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut after_attribute = false;
    let mut rest = words(&source.tests).peekable();
    while let Some((at, word)) = rest.next() {
        let bytes = source.tests.as_bytes();
        let is_in_attribute = at > 0 && matches!(bytes[at - 1], b'[' | b':');
        let is_test = word == "test" && bytes.get(at + 4).is_some_and(|b| matches!(b, b']' | b'('));
        if is_in_attribute && is_test {
            after_attribute = true;
        } else if word == "fn" && after_attribute {
            after_attribute = false;
            let (at, name) = rest.next().unwrap_or((at, ""));
            if name.starts_with("test_") || name == "it_works" || !name.contains('_') {
                let what = format!("test `{name}` does not say what it claims");
                complaints.push(source.complain(at, &what));
            }
        }
    }
    complaints
}

/// The top level: these, dot-files, and what cargo and the commands of the README make.
pub(super) fn top_level(names: &[String]) -> Vec<String> {
    const WANTED: [&str; 10] = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "runtime",
        "actors",
        "pipelines",
        "examples",
        "tests",
        "benches",
    ];
    let missing = WANTED.iter().filter(|wanted| !names.iter().any(|name| name == *wanted));
    let missing = missing.map(|name| format!("`{name}` is missing"));
    const MADE: [&str; 3] = ["target", "data", "flumen-demo.svg"];
    let known =
        |name: &str| WANTED.contains(&name) || MADE.contains(&name) || name.starts_with('.');
    let more = names.iter().filter(|name| !known(name));
    missing.chain(more.map(|name| format!("`{name}` does not belong there"))).collect()
}

/// Examples that the README does not tell how to run.
pub(super) fn unnamed_examples<'a>(
    examples: impl Iterator<Item = &'a str>,
    readme: &str,
) -> Vec<String> {
    examples
        .filter(|name| phrases(readme, &format!("--example {name}")).next().is_none())
        .map(|name| format!("README.md does not show `--example {name}`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("actors/src/a.rs", text)
    }

    #[test]
    fn a_file_without_a_doc_is_found() {
        assert_eq!(no_module_doc(&source("// a\n//! b")).len(), 1);
        assert_eq!(no_module_doc(&source("use a;")).len(), 1);
        assert!(no_module_doc(&source("//! What it is.\nuse a;")).is_empty());
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let code = "fn a() {}\n".repeat(FILE_LINES_MAX);
        let tests = "#[cfg(test)]\nmod tests {\n fn b() {}\n}\n";
        assert!(too_long(&source(&(code.clone() + "// a comment\n\n" + tests))).is_empty());
        assert_eq!(too_long(&source(&(code + "fn b() {}"))).len(), 1);
        let example = "fn a() {}\n".repeat(EXAMPLE_LINES_MAX + 1);
        assert_eq!(too_long(&Source::new("examples/a.rs", &example)).len(), 1);
    }

    #[test]
    fn long_functions_are_found() {
        let body = |lines| format!("fn a(b: [u8; 2]) {{\n{}}}\n", "b();\n".repeat(lines));
        assert!(too_long(&source(&body(FUNCTION_LINES_MAX - 2))).is_empty());
        assert_eq!(too_long(&source(&body(FUNCTION_LINES_MAX - 1))).len(), 1);
        assert!(
            too_long(&source(&("trait T { fn a(); }\n".to_string() + &"x;\n".repeat(80))))
                .is_empty()
        );
    }

    #[test]
    fn tests_that_sleep_are_found() {
        let sleep = "#[cfg(test)]\nmod tests {\n// Why.\nfn a() { sleep(ms(1)).await; }\n}";
        assert_eq!(sleeping_tests(&source(sleep)).len(), 1);
        let explained = sleep.replace("// Why.", "// Real time: the disk does not know ours.");
        assert!(sleeping_tests(&source(&explained)).is_empty());
        let paused = sleep.replace("// Why.", "#[tokio::test(start_paused = true)]");
        assert!(sleeping_tests(&source(&paused)).is_empty());
        assert!(sleeping_tests(&source("fn a() { sleep(ms(1)).await; }")).is_empty(), "no test");
        assert_eq!(sleeping_tests(&Source::new("tests/a.rs", "fn a() { sleep(1) }")).len(), 1);
    }

    #[test]
    fn tests_without_a_claim_are_found() {
        let test =
            |name| format!("#[cfg(test)] mod t {{ #[actix_rt::test] async fn {name}() {{}} }}");
        for name in ["test_append", "it_works", "append"] {
            assert_eq!(test_names(&source(&test(name))).len(), 1, "{name}");
        }
        assert!(test_names(&source(&test("appends_are_kept"))).is_empty());
        let fixture = "#[cfg(test)] mod t { fn test_data() {} }";
        assert!(test_names(&source(fixture)).is_empty(), "no test");
        let call = "#[cfg(test)] mod t { fn run(test: F) { test(1) } fn paused() {} }";
        assert!(test_names(&source(call)).is_empty(), "no attribute");
    }

    #[test]
    fn a_top_level_with_more_or_less_is_found() {
        let names = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let right = "Cargo.toml Cargo.lock LICENSE README.md runtime actors pipelines examples tests \
                     benches .git target data flumen-demo.svg";
        assert!(top_level(&names(right)).is_empty());
        assert_eq!(
            top_level(&names(&(right.to_string() + " docs"))),
            ["`docs` does not belong there"]
        );
        assert_eq!(top_level(&names(&right.replace("LICENSE ", ""))), ["`LICENSE` is missing"]);
    }

    #[test]
    fn an_example_that_the_readme_does_not_name_is_found() {
        let readme = "cargo run --release --example fan_out\n";
        let complaints = unnamed_examples(["fan_out", "fan"].into_iter(), readme);
        assert_eq!(complaints, ["README.md does not show `--example fan`"]);
    }
}
