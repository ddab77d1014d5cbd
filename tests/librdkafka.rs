//! librdkafka's own tests against a live node, held against the table in `tests/clients/README.md`: what
//! it says passes must pass, and what it says does not must not.
//!
//! Each number of the suite runs in a process of its own, since one that fails may end its process.
//! `tests/run` builds the suite, and says where it is in `FLUMEN_LIBRDKAFKA`.

#![expect(clippy::unwrap_used, reason = "in a test, failing is the answer")]

#[path = "cli/program.rs"]
#[expect(dead_code, reason = "what other tests of the program need")]
mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use program::{Place, Running, skip};

/// The longest that the cases of one number may take together, in seconds.
const PATIENCE: &str = "900";
/// Numbers that are tried at once: they mostly wait.
const AT_ONCE: usize = 8;
/// Numbers with cases for a node that makes no topic that is merely named.
const WITHOUT_AUTO_CREATE: [&str; 3] = ["0045", "0107", "0111"];

/// From here on numbers are for people to run.
const BY_HAND: &str = "8000";

/// How a case went, or should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It was not run, or found that it has nothing to do here.
    Skipped,
    Passed,
    Failed,
}

/// Which cases, in which form.
struct Mode {
    flags: &'static [&'static str],
    /// Its column in the table, after the case's name.
    column: usize,
}

/// Without cases that need no broker (`-L`), shortened (`-Q`), without what is known to fail (`-K`).
const QUICK: Mode = Mode { flags: &["-L", "-Q", "-K"], column: 1 };
const WHOLE: Mode = Mode { flags: &["-L", "-K"], column: 2 };

/// What a table says of each case; its rows begin with a number of four digits.
fn table(text: &str, column: usize) -> BTreeMap<String, Outcome> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if !cells[0].starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let outcome = match cells[column].split(':').next().unwrap() {
            "passes" => Outcome::Passed,
            "skips" => Outcome::Skipped,
            "not yet" | "cannot" => Outcome::Failed,
            other => panic!("{}: `{other}` says nothing of how it goes", cells[0]),
        };
        assert!(rows.insert(cells[0].to_owned(), outcome).is_none(), "{} stands twice", cells[0]);
    }
    rows
}

/// Where the table is wrong.
fn complaints(table: &BTreeMap<String, Outcome>, went: &BTreeMap<String, Outcome>) -> Vec<String> {
    let cases: BTreeSet<&String> = table.keys().chain(went.keys()).collect();
    let complain = |case: &String| match (table.get(case), went.get(case)) {
        (Some(said), Some(is)) if said == is => None,
        (Some(said), Some(is)) => Some(format!("{case}: the table says {said:?}, and it {is:?}")),
        (None, _) => Some(format!("{case} is not in the table")),
        (_, None) => Some(format!("{case} is in the table, and there is no such case")),
    };
    cases.into_iter().filter_map(complain).collect()
}

/// Runs the cases of one number against a node.
struct Runner<'a> {
    suite: &'a Path,
    place: &'a Path,
    mode: &'a Mode,
}

impl Runner<'_> {
    /// How each case went that the process knew of, of this number and (not run) of all others.
    fn run(&self, number: &str, scenario: &str, node: &str) -> BTreeMap<String, Outcome> {
        let home = tempfile::tempdir_in(self.place).unwrap().keep();
        for needed in ["interceptor_test", "plugin_test", "fixtures"] {
            symlink(self.suite.join("tests").join(needed), home.join(needed)).unwrap();
        }
        let conf = format!("bootstrap.servers={node}\ntest.timeout.multiplier=3\n");
        fs::write(home.join("test.conf"), conf).unwrap();
        let (log, suite) = (home.join("log"), self.suite.display());
        let status = Command::new("timeout")
            .arg(PATIENCE)
            .arg(self.suite.join("tests/test-runner"))
            .args(self.mode.flags)
            .env_remove("CI")
            .env("BROKERS", node)
            .env(
                "KAFKA_PATH",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/librdkafka"),
            )
            .env("LD_LIBRARY_PATH", format!("{suite}/src:{suite}/src-cpp"))
            .env("TEST_KAFKA_VERSION", "4.0.0")
            .env("TEST_REPORT", home.join("report.json"))
            .env("TEST_SCENARIO", scenario)
            .env("TESTS", number)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::options().append(true).open(&log).unwrap())
            .status()
            .unwrap();
        let went = report(&home.join("report.json"), number);
        if !status.success() {
            eprintln!("{number}: {status}\n{}", why(&log));
        }
        went
    }
}

/// What the suite's report says; nothing where the process ended before it wrote one.
fn report(path: &Path, number: &str) -> BTreeMap<String, Outcome> {
    let Ok(text) = fs::read_to_string(path) else { return BTreeMap::new() };
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut went = BTreeMap::new();
    for (name, case) in report["tests"].as_object().unwrap() {
        let outcome = match case["state"].as_str().unwrap() {
            "PASSED" => Outcome::Passed,
            _ if !name.starts_with(number) => Outcome::Skipped,
            "SKIPPED" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        if name != "<MAIN>" {
            went.insert(name.clone(), outcome);
        }
    }
    went
}

/// The lines of a log that say what failed, each with the next.
fn why(log: &Path) -> String {
    let text = fs::read(log).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let failures = lines.windows(2).filter(|pair| pair[0].contains("### Test"));
    failures.map(|pair| format!("  {}\n  {}\n", pair[0], pair[1])).collect()
}

fn start(place: &Place, options: &str) -> (Running, String) {
    let serve = "serve --listen 127.0.0.1:0 --data data --set num.partitions=4";
    let node = place.start(&format!("{serve} --set auto.create.topics.enable={options}"));
    node.has_said("listening on ");
    let address = node.word_after("listening on ");
    (node, address)
}

/// A number, the name of the suite's scenario, and the address of the node that is set up for it.
type Job<'a> = (&'a str, &'static str, &'a str);

/// Runs jobs, so many at once, and gathers how each case went.
fn run_all(runner: &Runner<'_>, jobs: Vec<Job<'_>>, at_once: usize) -> BTreeMap<String, Outcome> {
    let (jobs, went) = (Mutex::new(jobs), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let Some((number, scenario, node)) = jobs.lock().unwrap().pop() else { break };
            let cases = runner.run(number, scenario, node);
            let mut went = went.lock().unwrap();
            for (case, outcome) in cases {
                let known = went.entry(case).or_insert(Outcome::Skipped);
                *known = outcome.max(*known);
            }
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    went.into_inner().unwrap()
}

/// Runs everything, and once more, alone, what failed although it should pass: some cases measure
/// milliseconds, and a busy machine has none to spare.
fn run_twice(runner: &Runner<'_>, table: &BTreeMap<String, Outcome>) -> BTreeMap<String, Outcome> {
    let (Some(first), Some(second)) = (Place::new(), Place::new()) else { return BTreeMap::new() };
    let (_node, address) = start(&first, "true");
    let (_other_node, other_address) = start(&second, "false");
    let mut numbers: BTreeSet<&str> = table.keys().map(|case| &case[..4]).collect();
    numbers.retain(|number| *number < BY_HAND);
    let mut jobs: Vec<Job<'_>> =
        numbers.into_iter().map(|number| (number, "default", &*address)).collect();
    jobs.extend(WITHOUT_AUTO_CREATE.map(|number| (number, "noautocreate", &*other_address)));
    let mut went = run_all(runner, jobs.clone(), AT_ONCE);
    let has_failed = |(case, outcome): (&String, &Outcome)| {
        (*outcome == Outcome::Passed && went.get(case) != Some(outcome))
            .then(|| case[..4].to_owned())
    };
    let failed: BTreeSet<String> = table.iter().filter_map(has_failed).collect();
    jobs.retain(|(number, ..)| failed.contains(*number));
    if !jobs.is_empty() {
        eprintln!("once more: {failed:?}");
        went.retain(|case, _| !failed.contains(&case[..4]));
        for (case, outcome) in run_all(runner, jobs, 1) {
            went.entry(case).or_insert(outcome);
        }
    }
    went
}

#[test]
fn librdkafka_s_own_tests_go_as_the_table_says() {
    let Some(suite) = std::env::var_os("FLUMEN_LIBRDKAFKA").map(PathBuf::from) else {
        return skip(
            "librdkafka's own tests are not there: `tests/run --test librdkafka` builds them",
        );
    };
    if program::built().is_none() {
        return;
    }
    let mode = if std::env::var_os("FLUMEN_LONG").is_some() { WHOLE } else { QUICK };
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/README.md");
    let table = table(&fs::read_to_string(readme).unwrap(), mode.column);
    let place = tempfile::tempdir().unwrap();
    // One case looks beside its directory for a file of the source.
    symlink(suite.join("src"), place.path().join("src")).unwrap();
    let runner = Runner { suite: &suite, place: place.path(), mode: &mode };
    let went = run_twice(&runner, &table);
    let complaints = complaints(&table, &went);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_table_that_is_wrong_either_way_is_complained_of() {
    let table = table(
        "| case | short | whole |\n\
         | 0001_one | passes | passes |\n\
         | 0002_two | skips: local | passes |\n\
         | 0003_three | not yet: transactions | not yet: transactions |\n\
         | 0004_four | cannot: it is old | passes |\n",
        1,
    );
    use Outcome::{Failed, Passed, Skipped};
    let went = |outcomes: [Outcome; 4]| -> BTreeMap<String, Outcome> {
        table.keys().cloned().zip(outcomes).collect()
    };
    let as_said = went([Passed, Skipped, Failed, Failed]);
    assert!(complaints(&table, &as_said).is_empty());
    for (case, others) in [(0, [Failed, Skipped]), (1, [Failed, Passed]), (2, [Passed, Skipped])] {
        for other in others {
            let mut outcomes = [Passed, Skipped, Failed, Failed];
            outcomes[case] = other;
            assert_eq!(complaints(&table, &went(outcomes)).len(), 1, "{case} {other:?}");
        }
    }
    let fewer: BTreeMap<String, Outcome> = as_said.clone().into_iter().skip(1).collect();
    assert_eq!(complaints(&table, &fewer).len(), 1);
    assert_eq!(complaints(&fewer, &as_said).len(), 1);
}
