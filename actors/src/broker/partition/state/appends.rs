//! Taking batches in: as the leader, who gives offsets, and as a follower, who gets them.

use bytes::{Bytes, BytesMut};
use flumen_runtime::{
    batch::{self, BatchHeader, Compression, control::Control},
    clock::UnixMillis,
    ids::{LeaderEpoch, Offset},
};

use super::{Effect, Effects, State};
use crate::broker::{
    names::ProducerId,
    partition::{
        messages::{AbortedTransaction, AppendError, Appended, InvalidBatch, Origin, Role},
        producers::{Marker, Recent, Tried, Verdict},
        validate::{self, Checked, CheckedBatches},
    },
};

/// Batches that were taken in; they are not yet written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Where they went.
    pub appended: Appended,
    /// The offset that a mark must reach for them to be safe.
    pub end: Offset,
}

/// What the sender of an append takes the log to be; it is refused where that is not so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Its epoch.
    pub epoch: Option<LeaderEpoch>,
    /// Its end.
    pub at: Option<Offset>,
}

/// Where each batch of a request goes, and as which it is there already: then its offset lies below the
/// log's end.
struct Plan {
    places: smallvec::SmallVec<[(Offset, Option<Recent>); 1]>,
    tried: Tried,
}

impl<A, F> State<A, F> {
    /// Takes `batches` in as the leader: all of them, or none. Compressed records are not looked at: where
    /// they must be, they are prepared.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append(
        &mut self,
        mut batches: BytesMut,
        origin: Origin,
        expected: Expected,
        now_ms: UnixMillis,
        effects: &mut Effects<A, F>,
    ) -> Result<Accepted, AppendError> {
        let Expected { epoch, at } = expected;
        if self.role != Role::Leader || epoch.is_some_and(|epoch| epoch != self.epoch) {
            return Err(self.not_leader().into());
        }
        let limits = self.rules.limits;
        let mut checked = validate::check_whole(&batches, &limits)?;
        for batch in &checked {
            validate::check_as_leader(&batch.header, origin, &limits, now_ms)
                .map_err(AppendError::Invalid)?;
            self.look_inside(&batch.header, &batches[batch.range.clone()], now_ms)?;
        }
        let plan = self.plan(&checked, &batches, now_ms)?;
        // What is there already is not appended, wherever the log ends now.
        let is_new = plan.places.iter().any(|(_, old)| old.is_none());
        if let Some(at) = at.filter(|at| is_new && *at != self.log_end) {
            return Err(AppendError::NotAtEnd { at, end: self.log_end });
        }
        for (Checked { header, range }, (base, old)) in checked.iter_mut().zip(&plan.places) {
            if let Some(old) = old {
                (header.base_offset, header.max_timestamp) = (*base, old.timestamp_ms);
                continue;
            }
            let batch = &mut batches[range.clone()];
            validate::set_time(batch, header, &limits, now_ms);
            batch::stamp(batch, *base, self.epoch);
            (header.base_offset, header.leader_epoch) = (*base, epoch_of_header(self.epoch));
        }
        self.producers.accept(plan.tried);
        let bytes = batches.freeze();
        for (Checked { header, range }, (_, old)) in checked.iter().zip(&plan.places) {
            match old {
                None => self.take(bytes.slice(range.clone()), header, now_ms, effects),
                Some(_) => self.duplicates += 1,
            }
        }
        self.check();
        Ok(self.accepted(&checked, !is_new))
    }

    /// Checks the records of a plain batch, where the topic demands it of them. Compressed ones were
    /// looked at before.
    fn look_inside(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        now_ms: UnixMillis,
    ) -> Result<(), AppendError> {
        let limits = &self.rules.limits;
        let is_plain = header.attributes.compression() == Compression::None;
        if !limits.needs_records() || !is_plain || header.attributes.is_control() {
            return Ok(());
        }
        let records = batch::records(&Bytes::copy_from_slice(batch), header);
        let records = records.map_err(|error| (&error).into()).map_err(AppendError::Invalid)?;
        let looked = validate::check_records(header, records, limits, now_ms);
        looked.map(drop).map_err(AppendError::Invalid)
    }

    fn accepted(&self, checked: &CheckedBatches, is_duplicate: bool) -> Accepted {
        let headers = || checked.iter().map(|batch| &batch.header);
        let (first, last) = (&checked[0].header, &checked[checked.len() - 1].header);
        let appended = Appended {
            base_offset: first.base_offset,
            last_offset: last.last_offset(),
            timestamp_ms: headers().map(|header| header.max_timestamp).max().unwrap_or(-1),
            is_append_time: self.rules.limits.is_append_time,
            log_start: self.log_start,
            is_duplicate,
        };
        let end = headers().map(BatchHeader::next_offset).max().unwrap_or(self.log_end);
        Accepted { appended, end }
    }

    /// Decides for each batch whether it is new, and which offset it gets.
    fn plan(
        &self,
        checked: &CheckedBatches,
        bytes: &[u8],
        now_ms: UnixMillis,
    ) -> Result<Plan, AppendError> {
        let mut places = smallvec::SmallVec::new();
        let log_time = self.rules.limits.is_append_time.then_some(now_ms);
        let mut end = self.log_end;
        let mut trial = self.producers.trial(now_ms);
        for Checked { header, range } in checked {
            if header.attributes.is_control() {
                let invalid = AppendError::Invalid(InvalidBatch::Control);
                let batch = Bytes::copy_from_slice(&bytes[range.clone()]);
                let marker = marker(header, &batch).ok_or(invalid)?;
                self.producers.judge_marker(&marker)?;
            }
            let verdict = match validate::produced(header) {
                Some(mut produced) => {
                    produced.timestamp_ms = log_time.unwrap_or(produced.timestamp_ms);
                    trial.judge(&produced, end)?
                }
                None => Verdict::New,
            };
            match verdict {
                Verdict::New => {
                    places.push((end, None));
                    end = end.plus(u64::from(header.last_offset_delta) + 1);
                }
                Verdict::Duplicate(old) => places.push((old.base_offset(), Some(old))),
            }
        }
        Ok(Plan { places, tried: trial.finish() })
    }

    /// Takes `batches` in as their leader stamped them.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append_as_follower(
        &mut self,
        batches: &Bytes,
        leader_epoch: LeaderEpoch,
        high_watermark: Offset,
        now_ms: UnixMillis,
        effects: &mut Effects<A, F>,
    ) -> Result<Accepted, AppendError> {
        if self.role != Role::Follower || leader_epoch != self.epoch {
            return Err(self.not_leader().into());
        }
        let mut checked = CheckedBatches::new();
        if !batches.is_empty() {
            checked = validate::check_whole(batches, &self.rules.limits)?;
            self.check_continues(&checked)?;
        }
        for Checked { header, range } in &checked {
            if let Some(produced) = validate::produced(header) {
                self.producers.follow(&produced, header.base_offset, now_ms);
            }
            self.take(batches.slice(range.clone()), header, now_ms, effects);
        }
        self.leader_high_watermark = self.leader_high_watermark.max(high_watermark);
        self.advance(effects);
        if checked.is_empty() {
            let (base_offset, log_start) = (self.log_end, self.log_start);
            let appended = Appended {
                base_offset,
                last_offset: base_offset,
                timestamp_ms: -1,
                is_append_time: false,
                log_start,
                is_duplicate: true,
            };
            return Ok(Accepted { appended, end: self.log_end });
        }
        Ok(self.accepted(&checked, false))
    }

    /// A follower's batches must follow each other and the log, in epochs up to its own.
    fn check_continues(&self, checked: &CheckedBatches) -> Result<(), AppendError> {
        let mut end = self.log_end;
        for Checked { header, .. } in checked {
            let (offset, epoch) = (header.base_offset, header.leader_epoch);
            if offset != end || epoch < 0 || epoch > epoch_of_header(self.epoch) {
                return Err(AppendError::Invalid(InvalidBatch::Discontinuous {
                    offset,
                    epoch,
                    end,
                }));
            }
            end = header.next_offset();
        }
        Ok(())
    }

    /// Appends one stamped batch.
    fn take(
        &mut self,
        batch: Bytes,
        header: &BatchHeader,
        now_ms: UnixMillis,
        effects: &mut Effects<A, F>,
    ) {
        assert!(header.base_offset == self.log_end, "PART-9: a batch not at the log's end");
        if let Some(marker) = marker(header, &batch) {
            let first = self.producers.end_transaction(&marker, now_ms);
            if let Some(first_offset) = first {
                let (producer, last_offset) = (marker.producer, header.last_offset());
                let ended = AbortedTransaction { producer, first_offset, last_offset };
                self.transactions.end(ended, marker.is_commit);
            }
        }
        self.log_end = header.next_offset();
        self.tail.push(header.base_offset, self.log_end, &batch);
        effects.push(Effect::Write(batch, *header));
    }
}

/// The end of a transaction that a control batch marks; `None` for any other batch.
pub(crate) fn marker(header: &BatchHeader, batch: &Bytes) -> Option<Marker> {
    if !header.attributes.is_control() || header.producer_id < 0 {
        return None;
    }
    let (coordinator_epoch, is_commit) = match Control::parse(batch, header).ok()? {
        Control::Abort { coordinator_epoch } => (coordinator_epoch, false),
        Control::Commit { coordinator_epoch } => (coordinator_epoch, true),
        Control::Other(_) => return None,
    };
    let (producer, epoch) = (ProducerId(header.producer_id), header.producer_epoch);
    Some(Marker { producer, epoch, coordinator_epoch, is_commit })
}

/// Epochs are signed in Kafka's format; ours stay below 2^31, for each costs an election.
fn epoch_of_header(epoch: LeaderEpoch) -> i32 {
    i32::try_from(epoch.0).expect("leader epochs stay below 2^31")
}
