//! Answers that wait for a mark to pass, given in the order of their offsets.

use std::collections::VecDeque;

use flumen_runtime::ids::Offset;

/// What waits for one mark: each with the offset that the mark must reach.
#[derive(Debug)]
pub struct Waiting<A>(VecDeque<(Offset, A)>);

impl<A> Default for Waiting<A> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<A> Waiting<A> {
    /// Keeps `answer` until the mark reaches `end`. After those that wait for the same offset.
    pub fn push(&mut self, end: Offset, answer: A) {
        // Almost always the last; the repeat of an older batch goes where that batch is.
        let is_last = self.0.back().is_none_or(|(last, _)| *last <= end);
        let at = if is_last { self.0.len() } else { self.0.partition_point(|(e, _)| *e <= end) };
        self.0.insert(at, (end, answer));
    }

    /// The next answer whose offset `mark` has reached.
    pub fn pop(&mut self, mark: Offset) -> Option<A> {
        if self.0.front()?.0 > mark {
            return None;
        }
        let (end, answer) = self.0.pop_front()?;
        assert!(self.0.front().is_none_or(|(next, _)| end <= *next), "PART-7: out of order");
        if self.0.is_empty() {
            // An idle partition keeps no room for a burst that is over.
            self.0 = VecDeque::new();
        }
        Some(answer)
    }

    /// Takes all of it, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = A> + use<A> {
        std::mem::take(&mut self.0).into_iter().map(|(_, answer)| answer)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_offsets_and_not_before_their_mark() {
        let mut waiting = Waiting::default();
        for (end, name) in [(5, "a"), (9, "b"), (5, "repeat of a"), (12, "c"), (9, "repeat of b")] {
            waiting.push(Offset(end), name);
        }
        assert_eq!(waiting.pop(Offset(4)), None);
        let mut given = Vec::new();
        while let Some(name) = waiting.pop(Offset(11)) {
            given.push(name);
        }
        assert_eq!(given, ["a", "repeat of a", "b", "repeat of b"]);
        assert_eq!(waiting.drain().collect::<Vec<_>>(), ["c"]);
        assert!(waiting.is_empty());
    }
}
