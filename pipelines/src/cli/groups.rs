//! `flumen groups`: consumer groups, how far they are behind, and where they go on.

mod describe;
mod reset;

use std::io;

use clap::{Args, Subcommand};
use serde_json::json;

use self::reset::{Reset, Target};
use super::{
    CliError,
    print::{self, Table, known},
    session::{self, NodeArgs, Session},
    tell,
};

/// What is said where there are none.
const NO_GROUPS: &str = "flumen: there are no groups yet";

/// Options of `flumen groups`.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
pub struct GroupsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Describe this group (the same as `describe GROUP`); without it, list all.
    group: Option<String>,
    /// Print one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists all groups.
    List,
    /// Describes groups: members, how far each partition was read, and how far that is behind.
    Describe {
        /// Which.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        groups: Vec<String>,
        /// All that there are.
        #[arg(long)]
        all: bool,
    },
    /// Lets a group without members go on elsewhere.
    Reset {
        /// Which; one that is not there is made.
        group: String,
        /// In this topic; may be given more than once. Without it, in all that the group has read.
        #[arg(long, short)]
        topic: Vec<String>,
        /// Only this partition.
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
        partition: Option<i32>,
        /// Where to go on: `beginning`, `end`, an offset, `+N` or `-N` from where it is, or a time as
        /// for `flumen consume`. Beyond the end of a partition it is the end, and before its beginning
        /// the beginning; that is said.
        #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
        to: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forgets groups without members.
    Delete {
        /// Which.
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

/// Runs it.
///
/// # Errors
/// [`CliError`].
pub fn run(args: GroupsArgs) -> Result<(), CliError> {
    let GroupsArgs { action, group, json, node } = args;
    let action = match (action, group) {
        (Some(action), _) => action,
        (None, Some(group)) => Action::Describe { groups: vec![group], all: false },
        (None, None) => Action::List,
    };
    let target = match &action {
        Action::Reset { to, .. } => Some(Target::parse(to)?),
        _ => None,
    };
    session::run(&node, |mut session| async move {
        match action {
            Action::List => list(&mut session, json).await,
            Action::Describe { all: true, .. } => describe::all(&mut session, json).await,
            Action::Describe { groups, .. } => describe::named(&mut session, &groups, json).await,
            Action::Delete { groups } => delete(&mut session, &groups, json).await,
            Action::Reset { group, topic, partition, dry_run, .. } => {
                let to = target.expect("it was parsed above");
                let reset = Reset { group, topics: topic, partition, to, dry_run };
                reset.run(&mut session, json).await
            }
        }
    })
}

async fn list(session: &mut Session, json: bool) -> Result<(), CliError> {
    let groups = session.client.groups().await?;
    if json {
        return Ok(print::json(&groups)?);
    }
    if groups.is_empty() {
        tell(NO_GROUPS);
        return Ok(());
    }
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL"]);
    for group in groups {
        let protocol = Some(group.protocol).filter(|protocol| !protocol.is_empty());
        table.row([group.group, group.state, known(protocol)]);
    }
    Ok(table.print(&mut io::stdout().lock())?)
}

async fn delete(session: &mut Session, groups: &[String], json: bool) -> Result<(), CliError> {
    for (at, group) in groups.iter().enumerate() {
        if let Err(error) = session.client.delete_group(group).await {
            if at > 0 {
                tell(format_args!("flumen: deleted `{}`", groups[..at].join("`, `")));
            }
            return Err(error.into());
        }
    }
    if json {
        return Ok(print::json(&json!({ "action": "deleted", "groups": groups }))?);
    }
    tell(format_args!("flumen: deleted `{}`", groups.join("`, `")));
    Ok(())
}
