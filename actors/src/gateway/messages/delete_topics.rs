//! DeleteTopics: delete topics, by name or by id.

use bytestring::ByteString;
use uuid::Uuid;

use crate::gateway::error_code::ErrorCode;

messages! {
    DeleteTopics: DeleteTopicsRequest => DeleteTopicsResponse;

    /// Delete these.
    struct DeleteTopicsRequest {
        /// The topics.
        topics: Vec<DeleteTopicState> [6..],
        /// Their names.
        topic_names: Vec<ByteString> [0..=5, ignorable],
        /// How long to wait until they are gone.
        timeout_ms: i32 [0..],
    }

    /// A topic, by name or by id.
    struct DeleteTopicState {
        /// Its name; `None` where it is asked for by id.
        name: Option<ByteString> [6.., null 6..],
        /// Its id; zero where it is asked for by name.
        topic_id: Uuid [6..],
    }

    /// Deleted.
    struct DeleteTopicsResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [1.., ignorable],
        /// Per topic.
        responses: Vec<DeletableTopicResult> [0..],
    }

    /// How it went for a topic.
    struct DeletableTopicResult {
        /// Its name; `None` where there is none of that id.
        name: Option<ByteString> [0.., null 6..],
        /// Its id.
        topic_id: Uuid [6.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// What went wrong.
        error_message: Option<ByteString> [5.., null 5.., ignorable],
    }
}
