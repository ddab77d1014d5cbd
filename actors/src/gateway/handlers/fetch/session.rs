//! A fetch session (KIP-227): the partitions that a consumer follows, so that it need not name them
//! each time, and is told only of those that have something new.
//!
//! A session belongs to its connection and ends with it: a consumer that comes back over another one
//! is told so (`FETCH_SESSION_ID_NOT_FOUND`) and begins anew.
//!
//! Who has no session is remembered one thing: what to begin with the next time (see [`super::gather`]).
//!
//! What all sessions follow is counted against one room of the node. Who finds none is given no
//! session, and names its partitions each time, as clients do where a broker has no sessions at all.

use std::{collections::BTreeMap, mem};

use bytestring::ByteString;
use flumen_runtime::credit::{Credit, Permit};
use uuid::Uuid;

use crate::gateway::{
    error_code::ErrorCode,
    messages::fetch::{
        FetchPartition, FetchRequest, FetchTopic, FetchableTopicResponse, PartitionData,
    },
};

/// Epoch of a request without a session, which also ends the one there is.
const FINAL_EPOCH: i32 = -1;
/// Epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;

/// A topic as the request names it: by id from version 13 on, by name before.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopicKey {
    pub(super) id: Uuid,
    pub(super) name: ByteString,
}

/// A partition, by its topic and number.
type Key = (TopicKey, i32);

/// One partition that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) topic: TopicKey,
    pub(super) partition: FetchPartition,
}

impl Want {
    /// Its topic and number.
    pub(super) fn key(&self) -> Key {
        (self.topic.clone(), self.partition.partition)
    }
}

/// What was last told of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    error: Option<ErrorCode>,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Followed {
    partition: FetchPartition,
    told: Option<Told>,
    /// Its place: whoever was given records goes behind the others.
    turn: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Session {
    /// 0: there is none.
    id: i32,
    epoch: i32,
    turn: u64,
    followed: BTreeMap<Key, Followed>,
    /// Where there is none: what the next request begins with.
    first: Option<Key>,
    /// Its part of the node's room for sessions: a count of partitions.
    room: Option<Permit>,
}

/// What one request of a session comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// The session that the answer names; 0: none.
    pub(super) session_id: i32,
    /// What to read, the most patient first.
    pub(super) wants: Vec<Want>,
    /// Whether only what is new is told.
    pub(super) is_incremental: bool,
}

impl Session {
    /// Takes in a request. A new session is given the id `new_id`, which is positive, where there is
    /// `room` for it.
    pub(super) fn begin(
        &mut self,
        request: FetchRequest,
        new_id: i32,
        room: &Credit,
    ) -> Result<Round, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            let first = mem::take(self).first;
            if epoch == FINAL_EPOCH || !self.make_room(&request.topics, room) {
                let mut wants: Vec<Want> = request.topics.into_iter().flat_map(wants).collect();
                let is_first = |want: &Want| first.as_ref().is_some_and(|key| want.key() == *key);
                let at = wants.iter().position(is_first).unwrap_or(0);
                wants.rotate_left(at);
                return Ok(Round { session_id: 0, wants, is_incremental: false });
            }
            (self.id, self.epoch) = (new_id, INITIAL_EPOCH + 1);
            self.follow(request.topics);
            let (session_id, wants) = (self.id, self.wants());
            return Ok(Round { session_id, wants, is_incremental: false });
        }
        if id == 0 || id != self.id {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if epoch != self.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if !self.make_room(&request.topics, room) {
            // It begins anew, and is then given none.
            *self = Session::default();
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        for forgotten in request.forgotten_topics_data {
            let topic = TopicKey { id: forgotten.topic_id, name: forgotten.topic };
            for partition in forgotten.partitions {
                if self.followed.remove(&(topic.clone(), partition)).is_some() {
                    drop(self.room.as_mut().and_then(|room| room.split(1, 0)));
                }
            }
        }
        self.follow(request.topics);
        let (session_id, wants) = (self.id, self.wants());
        Ok(Round { session_id, wants, is_incremental: true })
    }

    /// Takes room for the partitions that it does not follow yet; whether there is any.
    fn make_room(&mut self, topics: &[FetchTopic], room: &Credit) -> bool {
        let is_new = |topic: &FetchTopic, number: i32| {
            let key = TopicKey { id: topic.topic_id, name: topic.topic.clone() };
            !self.followed.contains_key(&(key, number))
        };
        let new = topics.iter().map(|topic| {
            topic.partitions.iter().filter(|part| is_new(topic, part.partition)).count()
        });
        match (room.try_acquire(new.sum(), 0), &mut self.room) {
            (Ok(more), Some(held)) => held.merge(more).is_ok(),
            (Ok(all), none) => {
                *none = Some(all);
                true
            }
            (Err(_), _) => false,
        }
    }

    fn follow(&mut self, topics: Vec<FetchTopic>) {
        for Want { topic, partition } in topics.into_iter().flat_map(wants) {
            self.turn += 1;
            let turn = self.turn;
            let key = (topic, partition.partition);
            let new = Followed { partition: partition.clone(), told: None, turn };
            self.followed.entry(key).and_modify(|old| old.partition = partition).or_insert(new);
        }
    }

    fn wants(&self) -> Vec<Want> {
        let mut followed: Vec<_> = self.followed.iter().collect();
        followed.sort_by_key(|(_, followed)| followed.turn);
        let want = |((topic, _), followed): (&(TopicKey, i32), &Followed)| Want {
            topic: topic.clone(),
            partition: followed.partition.clone(),
        };
        followed.into_iter().map(want).collect()
    }

    /// Takes in what is to be answered, and leaves out what an incremental answer need not say. Without a
    /// session the next request begins with what was `left_out`.
    pub(super) fn end(
        &mut self,
        round: &Round,
        left_out: Option<Key>,
        answers: &mut Vec<(TopicKey, PartitionData)>,
    ) {
        if round.session_id == 0 {
            self.first = left_out;
            return;
        }
        answers.retain(|(topic, data)| {
            let key = (topic.clone(), data.partition_index);
            let Some(followed) = self.followed.get_mut(&key) else { return true };
            let told = Told {
                error: (data.error_code != ErrorCode::None).then_some(data.error_code),
                high_watermark: data.high_watermark,
                log_start: data.log_start_offset,
            };
            let has_records = !data.records.is_empty();
            if has_records {
                self.turn += 1;
                followed.turn = self.turn;
            }
            // An error is told each time, as Kafka does, so that it is not taken for healed.
            let is_new = followed.told != Some(told) || told.error.is_some() || has_records;
            followed.told = Some(told);
            is_new || !round.is_incremental
        });
    }
}

fn wants(topic: FetchTopic) -> impl Iterator<Item = Want> {
    // A copy: what waits, and a session, outlive the frame that names their topics.
    let key = TopicKey { id: topic.topic_id, name: ByteString::from(&*topic.topic) };
    topic.partitions.into_iter().map(move |partition| Want { topic: key.clone(), partition })
}

/// Answers, each topic once, however its partitions are spread over them: there are clients who take a
/// second entry of a topic to stand in the place of the first.
pub(super) fn by_topic(answers: Vec<(TopicKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut places = BTreeMap::new();
    for (key, data) in answers {
        let place = *places.entry(key).or_insert_with_key(|key| {
            let (topic, topic_id) = (key.name.clone(), key.id);
            topics.push(FetchableTopicResponse { topic, topic_id, partitions: Vec::new() });
            topics.len() - 1
        });
        topics[place].partitions.push(data);
    }
    topics
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn topic(name: &'static str, partitions: &[i32]) -> FetchTopic {
        let part =
            |partition: &i32| FetchPartition { partition: *partition, ..FetchPartition::default() };
        let partitions = partitions.iter().map(part).collect();
        FetchTopic { topic: name.into(), topic_id: Uuid::nil(), partitions }
    }

    thread_local! {
        static ROOM: Credit = Credit::new(100, 0);
    }

    /// The same one all through a test, which has a thread of its own.
    fn room() -> Credit {
        ROOM.with(Clone::clone)
    }

    fn request(id: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
        FetchRequest { session_id: id, session_epoch: epoch, topics, ..FetchRequest::default() }
    }

    fn numbers(round: &Round) -> Vec<i32> {
        round.wants.iter().map(|want| want.partition.partition).collect()
    }

    fn answers(
        session: &mut Session,
        round: &Round,
        marks: &[(i32, i64, &'static str)],
    ) -> Vec<i32> {
        let answer = |(partition, high_watermark, records): &(i32, i64, &'static str)| {
            let key = TopicKey { id: Uuid::nil(), name: "t".into() };
            let data = PartitionData {
                partition_index: *partition,
                high_watermark: *high_watermark,
                records: Bytes::from_static(records.as_bytes()).into(),
                ..PartitionData::default()
            };
            (key, data)
        };
        let mut answers = marks.iter().map(answer).collect();
        session.end(round, None, &mut answers);
        answers.iter().map(|(_, data)| data.partition_index).collect()
    }

    #[test]
    fn only_what_is_new_is_told_and_who_was_served_goes_behind() {
        let mut session = Session::default();
        let round = session.begin(request(0, 0, vec![topic("t", &[1, 2, 3])]), 7, &room()).unwrap();
        assert_eq!((round.session_id, numbers(&round)), (7, vec![1, 2, 3]));
        let all = [(1, 5, "abc"), (2, 0, ""), (3, 0, "")];
        assert_eq!(answers(&mut session, &round, &all), [1, 2, 3], "the first answer is full");
        let round = session.begin(request(7, 1, vec![]), 8, &room()).unwrap();
        assert_eq!(numbers(&round), [2, 3, 1]);
        let next = [(2, 0, ""), (3, 9, ""), (1, 5, "")];
        assert_eq!(answers(&mut session, &round, &next), [3], "its high watermark moved");
    }

    #[test]
    fn without_a_session_what_was_left_out_comes_first_and_all_have_their_turn() {
        let mut session = Session::default();
        let mut turn = |left_out: i32| {
            let request = request(0, -1, vec![topic("t", &[1, 2, 3])]);
            let round = session.begin(request, 7, &room()).unwrap();
            let key = (TopicKey { id: Uuid::nil(), name: "t".into() }, left_out);
            session.end(&round, Some(key), &mut Vec::new());
            numbers(&round)
        };
        assert_eq!(turn(2), [1, 2, 3]);
        assert_eq!(turn(3), [2, 3, 1]);
        assert_eq!(turn(9), [3, 1, 2]);
        assert_eq!(turn(1), [1, 2, 3], "it is not asked for any more");
    }

    #[test]
    fn partitions_come_change_and_are_forgotten() {
        let mut session = Session::default();
        session.begin(request(0, 0, vec![topic("t", &[1, 2])]), 7, &room()).unwrap();
        let mut moved = topic("t", &[1, 4]);
        moved.partitions[0].fetch_offset = 50;
        let mut next = request(7, 1, vec![moved]);
        let forgotten = crate::gateway::messages::fetch::ForgottenTopic {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partitions: vec![2],
        };
        next.forgotten_topics_data.push(forgotten);
        let round = session.begin(next, 8, &room()).unwrap();
        assert_eq!(numbers(&round), [1, 4]);
        assert_eq!(round.wants[0].partition.fetch_offset, 50);
    }

    #[test]
    fn a_wrong_session_or_epoch_is_refused_and_the_final_epoch_ends_it() {
        let mut session = Session::default();
        let refused = session.begin(request(9, 1, vec![]), 7, &room());
        assert_eq!(refused, Err(ErrorCode::FetchSessionIdNotFound));
        session.begin(request(0, 0, vec![topic("t", &[1])]), 7, &room()).unwrap();
        let refused = session.begin(request(7, 5, vec![]), 8, &room());
        assert_eq!(refused, Err(ErrorCode::InvalidFetchSessionEpoch));
        let round = session.begin(request(7, -1, vec![topic("t", &[1])]), 8, &room()).unwrap();
        assert_eq!((round.session_id, numbers(&round)), (0, vec![1]));
        let refused = session.begin(request(7, 1, vec![]), 9, &room());
        assert_eq!(refused, Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn who_follows_more_than_there_is_room_for_is_given_no_session() {
        let room = Credit::new(4, 0);
        let mut first = Session::default();
        let round = first.begin(request(0, 0, vec![topic("t", &[1, 2, 3])]), 7, &room).unwrap();
        assert_eq!(round.session_id, 7);
        let mut second = Session::default();
        let round = second.begin(request(0, 0, vec![topic("t", &[1, 2])]), 8, &room).unwrap();
        assert_eq!((round.session_id, numbers(&round)), (0, vec![1, 2]), "but it is served");
        let again = first.begin(request(7, 1, vec![topic("t", &[1, 2, 3])]), 9, &room);
        assert!(again.is_ok(), "what it follows already needs no more room");
        let more = first.begin(request(7, 2, vec![topic("t", &[4, 5])]), 9, &room);
        assert_eq!(more, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(room.out().count, 0);
        second.begin(request(0, 0, vec![topic("t", &[1, 2])]), 8, &room).unwrap();
        let mut less = request(8, 1, vec![]);
        less.forgotten_topics_data.push(crate::gateway::messages::fetch::ForgottenTopic {
            topic: "t".into(),
            partitions: vec![2, 9],
            ..Default::default()
        });
        second.begin(less, 9, &room).unwrap();
        assert_eq!(room.out().count, 1);
        drop(second);
        assert_eq!(room.out().count, 0);
    }
}
