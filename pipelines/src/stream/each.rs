//! An outlet that calls a function.

use std::sync::Arc;

use flumen_actors::broker::names::TopicPartition;
use flumen_runtime::{batch::RecordView, ids::Offset};
use futures::{FutureExt as _, future, future::LocalBoxFuture};

use super::{
    Operators,
    outlet::{Begin, Outlet, StageError, State},
};

/// Calls a function with each result, at least once.
pub struct Each<T> {
    operators: Operators<T>,
    each: Arc<dyn Fn(T) + Send + Sync>,
}

impl<T: 'static> Each<T> {
    /// Calls `each`.
    #[must_use]
    pub fn new(operators: Operators<T>, each: Arc<dyn Fn(T) + Send + Sync>) -> Self {
        Self { operators, each }
    }
}

impl<T: 'static> Outlet for Each<T> {
    fn begin<'a>(
        &'a mut self,
        _: &'a TopicPartition,
        from: Begin<'a>,
    ) -> LocalBoxFuture<'a, Result<Offset, StageError>> {
        future::ready(Ok(from.position)).boxed_local()
    }

    fn take(
        &mut self,
        partition: &TopicPartition,
        record: &RecordView<'_>,
    ) -> Result<usize, StageError> {
        let taken = self.operators.run(record, &mut |item| (self.each)(item.value));
        taken.map(|()| 0).map_err(|error| StageError::Value {
            partition: partition.clone(),
            offset: record.offset,
            error,
        })
    }

    fn finish<'a>(
        &'a mut self,
        _: &'a TopicPartition,
        _: Offset,
    ) -> LocalBoxFuture<'a, Result<State, StageError>> {
        future::ready(Ok(State::new())).boxed_local()
    }

    fn end(&mut self, _: &TopicPartition) {}
}
