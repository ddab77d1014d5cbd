//! What can go wrong between a client and a node, each a sentence.

use std::{io, time::Duration};

use flumen_actors::gateway::{
    api::ApiKey,
    codec::{DecodeError, EncodeError},
    error_code::ErrorCode,
};

/// Why something could not be asked, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nobody at that address.
    #[error("cannot connect to `{address}`: {error}; {}", remedy(error))]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// Whoever is there speaks something else.
    #[error("`{address}` is no Kafka node: {why}; look for a slip in the address or its port")]
    NotKafka {
        /// Where.
        address: String,
        /// What it did.
        why: String,
    },
    /// It takes connections and closes them, which has more than one reason.
    #[error(
        "`{address}` closed the connection before it answered: it has as many connections as it may have \
         (`max.connections`, `max.connections.per.ip`; the node's own output says so), it is being \
         stopped, or it is no Kafka listener without TLS: look at the node, and at the address and its port"
    )]
    Closed {
        /// Where.
        address: String,
    },
    /// None of several addresses leads to a node.
    #[error("none of these addresses leads to a node:{}", listed(.0))]
    Nowhere(Vec<ClientError>),
    /// The connection broke.
    #[error("the connection to `{address}` broke: {why}; the node may have stopped: try again")]
    Broken {
        /// Where.
        address: String,
        /// What became of it.
        why: String,
    },
    /// It takes too long.
    #[error(
        "`{address}` has not answered {api} within {within:?}; it may be overloaded or suspended"
    )]
    Late {
        /// Where.
        address: String,
        /// What was asked.
        api: ApiKey,
        /// How long it was waited for.
        within: Duration,
    },
    /// The node does not speak an API in any version that is known here.
    #[error("the node at `{address}` does not serve {api} in a version that this program knows")]
    Unsupported {
        /// Where.
        address: String,
        /// Which.
        api: ApiKey,
    },
    /// An answer that makes no sense.
    #[error("`{address}` gave an answer that cannot be read: {error}")]
    Unreadable {
        /// Where.
        address: String,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A question that the version at hand cannot ask.
    #[error("the node at `{address}` is too old for this: {error}")]
    Unaskable {
        /// Where.
        address: String,
        /// What cannot be said.
        error: EncodeError,
    },
    /// The node says no.
    #[error("{what}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The node's own words.
        message: Option<String>,
    },
    /// A record that is not taken, even alone in its batch.
    #[error(
        "the record takes {bytes} bytes, and {most} at most are taken: make it smaller, or raise {setting}"
    )]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// What it may.
        most: usize,
        /// Which setting says so.
        setting: &'static str,
    },
    /// The node in this process stops.
    #[error("the node stops")]
    Stopped,
    /// A partition that nobody leads.
    #[error("`{0}` has no leader now; see `flumen topics describe`, and try again")]
    NoLeader(String),
}

/// Each on a line of its own.
fn listed(errors: &[ClientError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: start a node with `flumen serve`, or give another address with \
             `--bootstrap HOST:PORT`"
        }
        io::ErrorKind::TimedOut => "no answer: is the machine up, and the port open?",
        _ => "give HOST:PORT of a node, such as `--bootstrap 127.0.0.1:9092`",
    }
}

/// What a code means, in the node's words or in ours.
fn refusal(code: ErrorCode, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) => message.to_owned(),
        None => meaning(code),
    }
}

/// What a code means to a person.
fn meaning(code: ErrorCode) -> String {
    let text = match code {
        ErrorCode::UnknownTopicOrPartition => "there is no such topic or partition",
        ErrorCode::TopicAlreadyExists => "there is a topic of that name already",
        ErrorCode::InvalidTopicException => "that is no name for a topic",
        ErrorCode::MessageTooLarge => {
            "a batch is larger than the topic allows: raise its `max.message.bytes`"
        }
        ErrorCode::GroupIdNotFound => "there is no such group",
        ErrorCode::NonEmptyGroup => "the group has members: stop them first",
        ErrorCode::UnknownMemberId => {
            "the group has members, and this is none of them: stop them first"
        }
        ErrorCode::InconsistentGroupProtocol => {
            "its members share out the partitions in another way: give the same as they with \
             `--assignor`"
        }
        ErrorCode::GroupMaxSizeReached => {
            "it has as many members as it may have: stop one, or raise the node's `group.max.size`"
        }
        ErrorCode::PolicyViolation => {
            "the node has as many groups, or partitions, as it may have: delete some, or raise its \
             `max.groups`, `max.group.bytes` or `max.partitions`"
        }
        ErrorCode::InvalidGroupId => "that is no name for a group",
        ErrorCode::KafkaStorageError => {
            "the node cannot read or write its log: what is wrong stands in the node's own output"
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::LeaderNotAvailable => {
            "no node leads the partition now: try again"
        }
        ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => {
            "the group's coordinator is not ready: try again"
        }
        ErrorCode::UnsupportedCompressionType => "the topic does not take that compression",
        code => return format!("{code:?} (Kafka's error {})", code.number()),
    };
    text.to_owned()
}

impl ClientError {
    /// Whether asking again, of whoever leads by then, may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::Closed { .. }
            | ClientError::Broken { .. }
            | ClientError::Late { .. }
            | ClientError::NoLeader(_) => true,
            ClientError::Nowhere(errors) => errors.iter().any(ClientError::is_passing),
            ClientError::Refused { code, .. } => is_passing(*code),
            _ => false,
        }
    }
}

/// Whether an error goes by itself.
#[must_use]
pub fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::RequestTimedOut
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
    )
}

/// Makes an error of a code that is one.
///
/// # Errors
/// [`ClientError::Refused`].
pub fn check(
    code: ErrorCode,
    message: Option<&str>,
    what: impl FnOnce() -> String,
) -> Result<(), ClientError> {
    if code.is_none() {
        return Ok(());
    }
    Err(ClientError::Refused { what: what(), code, message: message.map(str::to_owned) })
}
