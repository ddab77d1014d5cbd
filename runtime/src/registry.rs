//! What a whole process shares by key: a directory of values, and the era gates of all writers.
//!
//! Values are cloned out, so no lock outlives a call.

use std::{borrow::Borrow, fmt, hash::Hash, path::Path, sync::Arc};

use dashmap::DashMap;

use crate::era::EraGate;

/// A map that every thread reads and writes. Clones share it.
pub struct Directory<K, V>(Arc<DashMap<K, V>>);

impl<K: Eq + Hash, V: Clone> Directory<K, V> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(DashMap::new()))
    }

    /// Puts `value` under `key`, and gives back what stood there.
    pub fn insert(&self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// What stands under `key`.
    #[must_use]
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|found| found.value().clone())
    }

    /// What stands under `key`, made by `value` where nothing does.
    pub fn get_or_insert_with(&self, key: K, value: impl FnOnce() -> V) -> V {
        self.0.entry(key).or_insert_with(value).value().clone()
    }

    /// Takes away what stands under `key`.
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).map(|(_, value)| value)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Eq + Hash + Ord + Clone, V: Clone> Directory<K, V> {
    /// All of it, in the order of keys.
    #[must_use]
    pub fn entries(&self) -> Vec<(K, V)> {
        self.entries_where(|_| true)
    }

    /// The entries whose values are wanted, in the order of keys.
    #[must_use]
    pub fn entries_where(&self, wanted: impl Fn(&V) -> bool) -> Vec<(K, V)> {
        let wanted = self.0.iter().filter(|entry| wanted(entry.value()));
        let mut entries: Vec<_> =
            wanted.map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries
    }
}

impl<K: Eq + Hash, V: Clone> Default for Directory<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for Directory<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash, V: Clone> fmt::Debug for Directory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("len", &self.len()).finish()
    }
}

/// The era gate of everything that is written in this process, by path. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct EraGates(Directory<Arc<Path>, Arc<EraGate>>);

impl EraGates {
    /// No gate yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The one gate of the writers of `what`; made when first asked for.
    #[must_use]
    pub fn gate(&self, what: &Path) -> Arc<EraGate> {
        match self.0.get(what) {
            Some(gate) => gate,
            None => self.gate_at(&what.into()),
        }
    }

    /// As [`EraGates::gate`], with a path that is shared and not copied.
    #[must_use]
    pub fn gate_at(&self, what: &Arc<Path>) -> Arc<EraGate> {
        self.0.get_or_insert_with(what.clone(), || EraGate::new(what.clone()))
    }

    /// Forgets the gate of what has been deleted for good. Whoever still holds it keeps it.
    pub fn forget(&self, what: &Path) {
        self.0.remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_gate_however_often_it_is_asked_for() {
        let gates = EraGates::new();
        let gate = gates.gate(Path::new("a"));
        assert!(Arc::ptr_eq(&gate, &gates.gate(Path::new("a"))));
        assert!(!Arc::ptr_eq(&gate, &gates.gate(Path::new("b"))));
        gates.forget(Path::new("a"));
        assert!(!Arc::ptr_eq(&gate, &gates.gate(Path::new("a"))));
    }

    #[test]
    fn entries_come_in_the_order_of_their_keys() {
        let directory = Directory::new();
        for key in [5, 1, 3] {
            directory.insert(key, key * 10);
        }
        assert_eq!(directory.entries(), [(1, 10), (3, 30), (5, 50)]);
        assert_eq!(directory.entries_where(|value| *value > 10), [(3, 30), (5, 50)]);
        assert_eq!(directory.remove(&3), Some(30));
        assert_eq!(directory.get(&3), None);
    }
}
