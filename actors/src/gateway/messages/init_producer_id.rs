//! InitProducerId: a number and an epoch for a producer, so that its retries are known.

use bytestring::ByteString;

use crate::gateway::error_code::ErrorCode;

messages! {
    InitProducerId: InitProducerIdRequest => InitProducerIdResponse;

    /// Give me a number.
    struct InitProducerIdRequest {
        /// The name that keeps its number; `None` for a producer without transactions.
        transactional_id: Option<ByteString> [0.., null 0..],
        /// How long its transactions may be open.
        transaction_timeout_ms: i32 [0..],
        /// The number that it has; −1 for none.
        producer_id: i64 = -1 [3..],
        /// The epoch that it has; −1 for none.
        producer_epoch: i16 = -1 [3..],
    }

    /// This.
    struct InitProducerIdResponse {
        /// How long the client must pause.
        throttle_time_ms: i32 [0.., ignorable],
        /// How it went.
        error_code: ErrorCode [0..],
        /// The producer's number.
        producer_id: i64 = -1 [0..],
        /// Its epoch.
        producer_epoch: i16 [0..],
    }
}
