//! Records that came with a hash only get their rows: of equal hashes the partner's, and of the
//! first that differs the side's own, which are read for it.

use super::lane::Lane;
use crate::compare::Key;
use crate::compare::sequence::Record;

/// What has been read of a step.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// The rows of the tap that differs first.
    read: Vec<Record>,
}

impl Filled {
    /// The record with its row; nothing for one behind the tap that was read, which follows from it
    /// or is looked at by nobody.
    pub(super) fn fill(
        &mut self,
        expected: &Record,
        actual: Record,
        engine: &mut Lane,
    ) -> Option<Record> {
        // A record without a partner is told by its key, and one with a row has it.
        if expected.key != actual.key || !actual.row.is_empty() || expected.row.is_empty() {
            return Some(actual);
        }
        if expected.hash.is_some() && expected.hash == actual.hash {
            return Some(Record { row: expected.row.clone(), ..actual });
        }
        if self.read.is_empty() {
            self.read = engine.rows_of(&actual.key)?;
        }
        self.of(&actual.key)
    }

    fn of(&self, key: &Key) -> Option<Record> {
        self.read.iter().find(|record| record.key == *key).cloned()
    }
}
