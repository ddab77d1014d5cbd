//! What recovery takes from the journal: batches that the active segment is short of.

use super::{Recovery, Scan};
use crate::{
    batch::{self, BatchHeader},
    ids::Offset,
    journal::Journaled,
    log::OpenError,
};

impl Recovery<'_> {
    /// Writes into the active segment what only the journal holds. Returns how many batches.
    pub(super) async fn fill_from_journal(
        &mut self,
        active: &mut Scan,
        journaled: Vec<Journaled>,
    ) -> Result<usize, OpenError> {
        let mut filled = 0;
        for entry in journaled {
            let Journaled { base_offset, end_offset, payload: bytes, .. } = entry;
            if end_offset <= active.segment.end {
                continue;
            }
            if base_offset > active.segment.end {
                let reason = format!(
                    "the journal goes on at offset {base_offset}, and the log ends at {}",
                    active.segment.end
                );
                return Err(self.damaged(
                    active.file.path().to_owned(),
                    active.segment.size,
                    reason,
                ));
            }
            let mut at = 0;
            while at < bytes.len() {
                let header = BatchHeader::parse(&bytes[at..])
                    .and_then(|header| batch::check(&bytes[at..], &header).map(|()| header));
                let Ok(header) = header else { break };
                if header.next_offset() > end_offset {
                    break;
                }
                let batch = bytes.slice(at..at + header.batch_bytes as usize);
                at += batch.len();
                if header.base_offset == active.segment.end {
                    self.cut(active).await?;
                    let position = active.segment.size;
                    self.take(active, &header, &batch, Offset::ZERO);
                    self.disk
                        .write(&active.file, position, vec![batch], &self.place.ticket)
                        .await?;
                    active.len = active.len.max(active.segment.size);
                    filled += 1;
                }
            }
            if active.segment.end < end_offset {
                let reason = format!("the journal lacks offset {}", active.segment.end);
                return Err(self.damaged(
                    active.file.path().to_owned(),
                    active.segment.size,
                    reason,
                ));
            }
        }
        Ok(filled)
    }

    /// Cuts what follows the last batch, before another is written there: a sync that failed may have lost
    /// the file's length, and none brings that to the disk unless it changes.
    async fn cut(&self, active: &mut Scan) -> Result<(), OpenError> {
        if active.len > active.segment.size {
            active.len = active.segment.size;
            self.disk.truncate(&active.file, active.len, &self.place.ticket).await?;
        }
        Ok(())
    }
}
