//! Streams: typed records of a topic, through operators, into another topic or a sink.
//!
//! ```text
//!   topic ──► consumer (member of the stage's group) ──► operators ──► outlet
//!                ▲                                                       │ finish: everything so far is out
//!                └────────── commit { position, state of the outlet } ◄──┘
//! ```
//!
//! Position and state stand in one record of `__consumer_offsets`, so they cannot part; state that may
//! be large, with a position of its own, in one batch of a changelog. What an outlet had put out beyond
//! the last commit it recognises when it begins again, by sequence numbers, by the names of its files or
//! by its changelog: each record counts once, whatever restarts.
//!
//! Operators are pure functions: the same record gives the same results in each life of a stage.

mod asking;
pub(crate) mod changelog;
pub mod each;
pub mod files;
pub mod fold;
pub mod outlet;
mod reading;
#[cfg(test)]
mod testing;
pub mod to_topic;
pub mod worker;

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use flumen_runtime::batch;

use crate::typed::{Format, TYPE_HEADER, ValueError};

/// What flows through a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<T> {
    /// Its key, which decides the partition that it goes to.
    pub key: Option<Bytes>,
    /// Unix ms of the record that it came from.
    pub timestamp: i64,
    /// The value.
    pub value: T,
}

/// From a record to what the operators make of it.
type Chain<T> = Arc<
    dyn Fn(&batch::RecordView<'_>, &mut dyn FnMut(Item<T>)) -> Result<(), ValueError> + Send + Sync,
>;

/// Operators one after the other, from the records of a topic to values of type `T`.
pub struct Operators<T> {
    chain: Chain<T>,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for Operators<T> {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), item: PhantomData }
    }
}

impl<T: 'static> Operators<T> {
    fn of(
        chain: impl Fn(&batch::RecordView<'_>, &mut dyn FnMut(Item<T>)) -> Result<(), ValueError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { chain: Arc::new(chain), item: PhantomData }
    }

    /// Reads values in `format`. Records without a value (tombstones) are passed over.
    pub fn read(format: impl Format<T> + Send + Sync) -> Self {
        Self::of(move |record, out| {
            if let Some(bytes) = record.value {
                let value = format.read(bytes, record.header(TYPE_HEADER))?;
                out(Item {
                    key: record.key.map(|key| key.share()),
                    timestamp: record.timestamp,
                    value,
                });
            }
            Ok(())
        })
    }

    /// Each value, changed.
    #[must_use]
    pub fn map<U: 'static>(self, change: impl Fn(T) -> U + Send + Sync + 'static) -> Operators<U> {
        Operators::of(move |record, out| {
            (self.chain)(record, &mut |item| {
                let Item { key, timestamp, value } = item;
                out(Item { key, timestamp, value: change(value) });
            })
        })
    }

    /// Only the values that `keep` says yes to.
    #[must_use]
    pub fn filter(self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Operators<T> {
        Operators::of(move |record, out| {
            (self.chain)(record, &mut |item| {
                if keep(&item.value) {
                    out(item);
                }
            })
        })
    }

    /// Any number of values for each, in order.
    #[must_use]
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        change: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Operators<U> {
        Operators::of(move |record, out| {
            (self.chain)(record, &mut |item| {
                let Item { key, timestamp, value } = item;
                for value in change(value) {
                    out(Item { key: key.clone(), timestamp, value });
                }
            })
        })
    }

    /// The same values under other keys.
    #[must_use]
    pub fn key_by<K: Into<Bytes>>(
        self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Operators<T> {
        Operators::of(move |record, out| {
            (self.chain)(record, &mut |mut item| {
                item.key = Some(key(&item.value).into());
                out(item);
            })
        })
    }

    /// Runs one record through.
    ///
    /// # Errors
    /// [`ValueError`] where the record is not of the type that is read.
    pub fn run(
        &self,
        record: &batch::RecordView<'_>,
        out: &mut dyn FnMut(Item<T>),
    ) -> Result<(), ValueError> {
        (self.chain)(record, out)
    }
}

#[cfg(test)]
mod tests {
    use flumen_runtime::batch::{BatchBuilder, BatchHeader, RecordRef};

    use super::*;
    use crate::typed::Json;

    fn records(value: Option<&[u8]>) -> batch::Records {
        let mut builder = BatchBuilder::new(5);
        builder.push(RecordRef { timestamp: 5, key: Some(b"k"), value, headers: &[] });
        let bytes = builder.build().freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        batch::records(&bytes, &header).unwrap()
    }

    fn results<T: 'static>(operators: &Operators<T>, value: Option<&[u8]>) -> Vec<Item<T>> {
        let (mut all, mut records) = (Vec::new(), records(value));
        operators.run(&records.lend().unwrap().unwrap(), &mut |item| all.push(item)).unwrap();
        all
    }

    #[test]
    fn operators_run_one_after_the_other() {
        let operators = Operators::<Vec<u32>>::read(Json)
            .flat_map(|all| all)
            .filter(|number| number % 2 == 1)
            .map(|number| number * 10)
            .key_by(|number| number.to_string());
        let items = results(&operators, Some(b"[1,2,3]"));
        let wanted = [10, 30].map(|value| Item {
            key: Some(Bytes::from(value.to_string())),
            timestamp: 5,
            value,
        });
        assert_eq!(items, wanted);
    }

    #[test]
    fn tombstones_are_passed_over_and_wrong_values_are_errors() {
        let operators = Operators::<u32>::read(Json);
        assert!(results(&operators, None).is_empty());
        let mut wrong = records(Some(b"x"));
        assert!(operators.run(&wrong.lend().unwrap().unwrap(), &mut |_| {}).is_err());
    }
}
