//! Records of `__consumer_offsets` in words: what Kafka's `--offsets-decoder` shows.

use std::path::Path;

use flumen_actors::broker::{
    OFFSETS_TOPIC,
    group_coordinator::{
        protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription},
        records::{CommittedOffset, GroupRecord, MemberRecord, Membership, decode},
    },
    names::TopicPartition,
};
use flumen_runtime::batch::Record;
use serde_json::{Value, json};

use super::super::time::rfc3339;

/// Whether `file` is a segment of the topic in which groups are kept.
pub(super) fn is_of_groups(file: &Path) -> bool {
    let dir = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let partition = dir.and_then(|dir| dir.strip_prefix(OFFSETS_TOPIC)?.strip_prefix('-'));
    partition.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// What a record says of a group.
pub(super) enum Found {
    /// This.
    Known(GroupRecord),
    /// Something of a kind that is not known.
    Other,
    /// Nothing that can be read, for this reason.
    Unreadable(String),
}

impl Found {
    pub(super) fn of(record: &Record) -> Self {
        let key = record.key.as_deref().unwrap_or_default();
        match decode(key, record.value.as_deref()) {
            Ok(Some(known)) => Found::Known(known),
            Ok(None) => Found::Other,
            Err(error) => Found::Unreadable(error.to_string()),
        }
    }

    /// As a person reads it.
    pub(super) fn text(&self) -> String {
        match self {
            Found::Known(GroupRecord::Offset { group, partition, value }) => match value {
                Some(value) => format!("group {group}  {partition}  {}", offset_text(value)),
                None => format!("group {group}  {partition}  offset deleted"),
            },
            Found::Known(GroupRecord::Group { group, value: None }) => {
                format!("group {group}  deleted")
            }
            Found::Known(GroupRecord::Group { group, value: Some(value) }) => {
                format!("group {group}  {}", membership_text(value))
            }
            Found::Other => "a record of a kind that is not known here".to_owned(),
            Found::Unreadable(why) => format!("UNREADABLE: {why}"),
        }
    }

    /// As an object.
    pub(super) fn object(&self) -> Value {
        match self {
            Found::Known(GroupRecord::Offset { group, partition, value }) => json!({
                "type": "offset_commit",
                "group": group.as_str(),
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "value": value.as_ref().map(offset_object),
            }),
            Found::Known(GroupRecord::Group { group, value }) => json!({
                "type": "group_metadata",
                "group": group.as_str(),
                "value": value.as_ref().map(membership_object),
            }),
            Found::Other => json!({ "type": null }),
            Found::Unreadable(why) => json!({ "type": null, "error": why }),
        }
    }
}

fn offset_text(value: &CommittedOffset) -> String {
    let mut text = format!("offset {}", value.offset);
    if let Some(epoch) = value.leader_epoch {
        text += &format!("  epoch {}", epoch.0);
    }
    if let Some(time) = rfc3339(value.committed_at_ms) {
        text += &format!("  committed {time}");
    }
    if let Some(time) = value.expires_at_ms.and_then(rfc3339) {
        text += &format!("  expires {time}");
    }
    if !value.metadata.is_empty() {
        text += &format!("  metadata {:?}", value.metadata);
    }
    text
}

fn offset_object(value: &CommittedOffset) -> Value {
    json!({
        "offset": value.offset.0,
        "leader_epoch": value.leader_epoch.map(|epoch| epoch.0),
        "metadata": &*value.metadata,
        "commit_timestamp": value.committed_at_ms,
        "expire_timestamp": value.expires_at_ms,
        "topic_id": value.topic_id.map(flumen_runtime::data_dir::kafka_id),
    })
}

fn membership_text(value: &Membership) -> String {
    let mut text = format!("generation {}", value.generation.as_i32());
    if !value.protocol_type.is_empty() {
        text += &format!("  {}", value.protocol_type);
    }
    for (word, name) in [
        ("assigned by", value.protocol.as_deref()),
        ("leader", value.leader.as_ref().map(|leader| leader.as_str())),
    ] {
        text += &name.map(|name| format!("  {word} {name}")).unwrap_or_default();
    }
    if let Some(time) = value.since_ms.and_then(rfc3339) {
        text += &format!("  since {time}");
    }
    if value.members.is_empty() {
        text += "  no members";
    }
    let is_consumer = value.protocol_type == CONSUMER_PROTOCOL_TYPE;
    for member in &value.members {
        let (id, client, host) = (&member.member_id, &member.client_id, &member.client_host);
        text += &format!("  member {id} ({client} at {host})");
        if let Some(name) = &member.instance_id {
            text += &format!(" instance {}", name.as_str());
        }
        if let Some(partitions) = partitions(member, is_consumer) {
            let names = partitions.iter().map(ToString::to_string).collect::<Vec<_>>();
            text += &format!(" reads [{}]", names.join(", "));
        }
    }
    text
}

/// What a member was assigned; only consumers say it in a form that is known.
fn partitions(member: &MemberRecord, is_consumer: bool) -> Option<Vec<TopicPartition>> {
    let assigned = is_consumer.then(|| Assignment::decode(&member.assignment).ok())??;
    Some(assigned.partitions)
}

fn membership_object(value: &Membership) -> Value {
    let is_consumer = value.protocol_type == CONSUMER_PROTOCOL_TYPE;
    let members = value.members.iter().map(|member| {
        let subscribed = is_consumer.then(|| Subscription::decode(&member.subscription).ok());
        let topics = subscribed.flatten().map(|subscribed| {
            subscribed.topics.iter().map(ToString::to_string).collect::<Vec<_>>()
        });
        let partitions = partitions(member, is_consumer);
        let partitions =
            partitions.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        json!({
            "member_id": member.member_id.as_str(),
            "group_instance_id": member.instance_id.as_ref().map(|name| name.as_str()),
            "client_id": member.client_id,
            "client_host": member.client_host,
            "rebalance_timeout": member.rebalance_timeout_ms,
            "session_timeout": member.session_timeout_ms,
            "topics": topics,
            "partitions": partitions,
        })
    });
    json!({
        "protocol_type": value.protocol_type,
        "generation": value.generation.as_i32(),
        "protocol": value.protocol,
        "leader": value.leader.as_ref().map(|leader| leader.as_str()),
        "current_state_timestamp": value.since_ms,
        "members": members.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_groups_are_known_by_their_directory() {
        for (path, is) in [
            ("data/__consumer_offsets-7/00000000000000000000.log", true),
            ("data/__consumer_offsets/00000000000000000000.log", false),
            ("data/__consumer_offsets-x/00000000000000000000.log", false),
            ("data/t-0/00000000000000000000.log", false),
            ("00000000000000000000.log", false),
        ] {
            assert_eq!(is_of_groups(Path::new(path)), is, "{path}");
        }
    }
}
