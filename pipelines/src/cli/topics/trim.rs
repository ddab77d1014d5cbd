//! `flumen topics trim`: deletes what is before a place in each partition of a topic.

use std::io;

use flumen_actors::gateway::error_code::ErrorCode;
use serde_json::json;

use super::super::{
    CliError,
    place::{self, Where},
    print::{self, Table, counted},
    session::Session,
    tell,
};

/// What was done to one partition.
struct Trimmed {
    partition: i32,
    was: i64,
    begins: i64,
}

pub(super) async fn run(
    session: &mut Session,
    name: &str,
    to: &str,
    only: &[i32],
    json: bool,
) -> Result<(), CliError> {
    let at = Where::parse("--to", to)?;
    let topic = session.topic(name).await?;
    let numbers = place::chosen(&topic, only)?;
    let ranges = place::ranges(session, &topic, &numbers).await?;
    if !place::is_within(ranges.values().copied(), at) {
        return Err(place::beyond(("--to", to), &[name]));
    }
    let before = place::positions(session, &topic, &ranges, at).await?;
    let told = session.client.delete_records(&topic, &before).await?;
    let mut done = Vec::new();
    for (partition, (was, _)) in ranges {
        match told.get(&partition) {
            Some(Ok(begins)) => done.push(Trimmed { partition, was, begins: *begins }),
            Some(Err(ErrorCode::PolicyViolation)) => {
                return Err(CliError::Unreadable(format!(
                    "`{name}` keeps the last record of each key (`cleanup.policy=compact`), and cannot be trimmed"
                )));
            }
            Some(Err(code)) => return Err(session.why(name, partition, was, *code).await),
            None => {
                return Err(CliError::Unreadable(format!(
                    "of `{name}-{partition}` nothing is told"
                )));
            }
        }
    }
    if json {
        let parts = done.iter().map(|part| {
            let Trimmed { partition, was, begins } = part;
            json!({ "partition": partition, "was": was, "first_offset": begins })
        });
        let parts = parts.collect::<Vec<_>>();
        return Ok(print::json(
            &json!({ "action": "trimmed", "topics": [name], "partitions": parts }),
        )?);
    }
    let gone: i64 = done.iter().map(|part| part.begins - part.was).sum();
    let mut table = Table::new(&["PARTITION", "BEGAN AT", "BEGINS AT"]);
    for Trimmed { partition, was, begins } in done {
        table.row([partition.to_string(), was.to_string(), begins.to_string()]);
    }
    table.print(&mut io::stdout().lock())?;
    let gone = counted(gone.unsigned_abs(), "offset");
    tell(format_args!("flumen: `{name}` was trimmed by {gone}"));
    Ok(())
}
