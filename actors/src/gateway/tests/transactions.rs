//! Transactions are not served: who wants one is refused for good, nothing is kept of it, and nobody is
//! told that there are any.

use flumen_runtime::batch::Attributes;

use super::{
    produces::{outcomes, stored},
    *,
};
use crate::gateway::{
    api::ApiKey,
    messages::{
        api_versions::ApiVersionsRequest, find_coordinator::FindCoordinatorRequest,
        init_producer_id::InitProducerIdRequest,
    },
};

/// What clients take for final.
const REFUSED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;
const TRANSACTION: i8 = 1;

#[test]
fn nobody_coordinates_transactions_and_their_producers_get_no_id() {
    paused(async {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        for version in 1..=6 {
            let request = match version {
                ..4 => FindCoordinatorRequest { key: "mine".into(), ..Default::default() },
                _ => FindCoordinatorRequest {
                    coordinator_keys: vec!["mine".into()],
                    ..Default::default()
                },
            };
            let request = FindCoordinatorRequest { key_type: TRANSACTION, ..request };
            let mut answer = client.ask(version, &request).await;
            let found = answer.coordinators.pop();
            let found = found.map_or((answer.error_code, answer.node_id), |found| {
                (found.error_code, found.node_id)
            });
            assert_eq!(found, (REFUSED, -1), "version {version}");
        }
        for version in 0..=5 {
            let transactional_id = Some("mine".into());
            let request = InitProducerIdRequest { transactional_id, ..Default::default() };
            let answer = client.ask(version, &request).await;
            let told = (answer.error_code, answer.producer_id, answer.producer_epoch);
            assert_eq!(told, (REFUSED, -1, -1), "version {version}");
        }
        assert_eq!(world.broker.topics().len(), 1, "no topic was made for them");
    });
}

#[test]
fn what_is_part_of_a_transaction_is_stored_in_no_version() {
    let with = |attributes: u16| {
        let builder = BatchBuilder::new(1_000_000).producer(7, 0, 0);
        fill(builder.attributes(Attributes(attributes)), &["x"]).freeze()
    };
    paused(async move {
        let world = World::with_topic().await;
        let mut client = world.connect().await;
        for version in 3..=11 {
            for (transactional_id, batch, error) in [
                (Some("mine".into()), with(0), REFUSED),
                (Some("mine".into()), with(0x10), REFUSED),
                (None, with(0x10), ErrorCode::InvalidTxnState),
                (None, with(0x20), ErrorCode::InvalidRecord),
                (None, with(0x30), ErrorCode::InvalidRecord),
            ] {
                let request = produce(-1, vec![(0, batch)]);
                let request = ProduceRequest { transactional_id, ..request };
                let refused = [(0, error, -1)];
                assert_eq!(outcomes(&mut client, version, &request).await, refused, "{request:?}");
            }
        }
        assert!(stored(&world, 0).await.is_empty());
    });
}

#[test]
fn neither_their_requests_nor_their_feature_nor_that_of_new_groups_are_advertised() {
    paused(async {
        let world = World::new().await;
        let mut client = world.connect().await;
        for version in 0..=4 {
            let answer = client.ask(version, &ApiVersionsRequest::default()).await;
            let supported = answer.supported_features.into_iter().map(|feature| feature.name);
            let finalized = answer.finalized_features.into_iter().map(|feature| feature.name);
            for feature in supported.chain(finalized) {
                assert!(
                    !["transaction.version", "group.version"].contains(&&*feature),
                    "{feature}"
                );
            }
            let of_transactions = [
                ApiKey::AddPartitionsToTxn,
                ApiKey::AddOffsetsToTxn,
                ApiKey::EndTxn,
                ApiKey::WriteTxnMarkers,
                ApiKey::TxnOffsetCommit,
            ];
            let numbers: Vec<i16> = answer.api_keys.iter().map(|api| api.api_key).collect();
            assert!(of_transactions.iter().all(|api| !numbers.contains(&api.number())));
            // From version 12 on a producer need not announce the partitions of its transaction.
            let produce = answer.api_keys.iter().find(|api| api.api_key == 0).unwrap();
            assert!(produce.max_version < 12);
        }
    });
}
