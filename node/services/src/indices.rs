//! Indices that the data of an older program lacks: filled at its first start with this one.

use store::record::{Number, Present};
use store::{Direction, schema};

use crate::Services;
use crate::access::Caller;
use crate::conversation_id::is_stream;
use crate::error::Result;

/// Records looked at in one step.
const STEP: usize = 1_000;
/// Version of the indices that this program keeps.
const VERSION: i64 = 1;

impl Services {
    /// Fills the indices, unless that is done.
    pub(crate) async fn fill_indices(&self) -> Result<()> {
        let name = schema::counter::INDICES;
        let known = schema::COUNTERS.get(&self.store().view(), name)?;
        if known.is_some_and(|known| known.value >= VERSION) {
            return Ok(());
        }
        let caller = Caller::node("");
        let mut next = String::new();
        while let Some(last) = self.list_streams(&caller, &next).await? {
            next = format!("{last}\0");
        }
        let mut next = (String::new(), String::new());
        while let Some((owner, id)) = self.list_deleted(&caller, &next).await? {
            next = (owner, format!("{id}\0"));
        }
        self.change_to_make_room(&caller, move |change| {
            schema::COUNTERS.put(change.tx, name, &Number { value: VERSION });
            Ok(())
        })
        .await
    }

    /// Lists the next streams of two for both; returns the last conversation looked at.
    async fn list_streams(&self, caller: &Caller, first: &str) -> Result<Option<String>> {
        let (mut streams, mut last) = (Vec::new(), None);
        {
            let view = self.store().view();
            let rows = schema::CONVERSATION_HEADS.range(&view, first, (), Direction::Ascending);
            for row in rows.take(STEP) {
                let (id, head) = row?;
                if is_stream(&id) {
                    streams.extend(head.pair.into_iter().map(|user_id| (user_id, id.clone())));
                }
                last = Some(id);
            }
        }
        self.change_to_make_room(caller, move |change| {
            for (user_id, id) in streams {
                change.list_stream_for(&user_id, &id);
            }
            Ok(last)
        })
        .await
    }

    /// Lists who has deleted the next conversations; returns the last record looked at.
    async fn list_deleted(
        &self,
        caller: &Caller,
        first: &(String, String),
    ) -> Result<Option<(String, String)>> {
        let (mut deleted, mut last) = (Vec::new(), None);
        {
            let view = self.store().view();
            let first = (first.0.as_str(), first.1.as_str());
            let rows = schema::CONVERSATIONS.range(&view, first, (), Direction::Ascending);
            for row in rows.take(STEP) {
                let (key, record) = row?;
                if record.hidden_through.is_some() && record.max_seq == 0 {
                    deleted.push(key.clone());
                }
                last = Some(key);
            }
        }
        self.change_to_make_room(caller, move |change| {
            for (owner, id) in deleted {
                let record = schema::CONVERSATIONS.get(change.tx, (&owner, &id))?;
                let there = crate::conversation::find(change.tx, &owner, &id)?.is_some();
                if record.is_some_and(|record| record.hidden_through.is_some()) && !there {
                    schema::DELETED_CONVERSATIONS.put(change.tx, (&id, &owner), &Present {});
                    change.tx.set_awaited(&id, true)?;
                }
            }
            Ok(last)
        })
        .await
    }
}
