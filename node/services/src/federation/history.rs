//! Older messages of groups of other nodes: fetched from the home when somebody wants to see them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message as _;
use proto::federation::{History, HistoryRequest, PastMessage, request, response};
use proto::msg::GetSeqMessageReq;
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use proto::sdkws::{MsgData, PullMessageBySeqsReq};
use store::{Direction, message_log, schema};

use super::Trouble;
use super::group::{digest, revoked};
use super::signature::Vouched;
use crate::Services;
use crate::access::Caller;
use crate::border;
use crate::change::Change;
use crate::conversation;
use crate::conversation_id::{self, GROUP};
use crate::error::{Result, ServiceError};
use crate::message;
use crate::object::blocking;

/// Messages in one answer, and their bytes.
const MAX_MESSAGES: i64 = 500;
const MAX_BYTES: usize = 180 * 1_024;
/// How far the clock of a home may be ahead, in milliseconds.
const MAX_AHEAD_MS: i64 = 24 * 3_600_000;
/// Answers that one request of a client may cost.
const MAX_FETCHES: usize = 8;
/// Messages fetched where the last one is wanted: the user may have deleted some.
const LAST: i64 = 20;
/// How long a list waits for last messages that are on other nodes.
const LONGEST_FOR_A_LIST: Duration = Duration::from_secs(2);

impl Services {
    /// Fetches what a pull of messages will want and is still with the home of its group.
    pub async fn fetch_ranges(
        &self,
        caller: &Caller,
        request: &PullMessageBySeqsReq,
    ) -> Result<()> {
        let ranges = request.seq_ranges.iter();
        let wanted = ranges.map(|r| (r.conversation_id.as_str(), r.begin, r.end, r.num));
        self.fetch_wanted(caller, &request.user_id, wanted).await
    }

    /// As [`fetch_ranges`](Self::fetch_ranges), for single seqs.
    pub async fn fetch_seqs(&self, caller: &Caller, request: &GetSeqMessageReq) -> Result<()> {
        let wanted = request.conversations.iter().filter_map(|wanted| {
            let (first, last) = (wanted.seqs.iter().min()?, wanted.seqs.iter().max()?);
            Some((wanted.conversation_id.as_str(), *first, *last, i64::MAX))
        });
        self.fetch_wanted(caller, &request.user_id, wanted).await
    }

    /// As [`fetch_ranges`](Self::fetch_ranges), for what a list shows as last: of the conversations
    /// named, or for none of all in the user's list. A list does not wait long for other nodes.
    pub async fn fetch_last(&self, caller: &Caller, user_id: &str, ids: &[String]) -> Result<()> {
        if self.domain().is_none() || caller.must_be(user_id).is_err() {
            return Ok(());
        }
        let listed;
        let ids = if ids.is_empty() {
            let list = conversation::list(&self.store().view(), user_id)?;
            listed = list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
            &listed
        } else {
            ids
        };
        let wanted = message::each_once(ids).map(|id| (id.as_str(), 1, i64::MAX, LAST));
        let fetched = self.fetch_wanted(caller, user_id, wanted);
        tokio::time::timeout(LONGEST_FOR_A_LIST, fetched).await.unwrap_or(Ok(()))
    }

    /// Each wanted: a conversation, its first and last seq, and at most how many of the last.
    async fn fetch_wanted(
        &self,
        caller: &Caller,
        user_id: &str,
        wanted: impl Iterator<Item = (&str, i64, i64, i64)>,
    ) -> Result<()> {
        if self.domain().is_none() || caller.must_be(user_id).is_err() {
            return Ok(());
        }
        let mut fetches = 0;
        for (id, begin, end, num) in wanted {
            let differs = self.inner.homes_differ.load(Ordering::Acquire);
            if conversation_id::is_stream(id) || !(is_remote(id) || differs) {
                continue;
            }
            let mut last = end;
            while let Some((group_id, first, to)) = self.missing(user_id, id, begin, last, num)? {
                fetches += 1;
                if fetches > MAX_FETCHES {
                    return Ok(());
                }
                match self.fetch(user_id, id, &group_id, first, to).await {
                    Ok(reached) if reached > first => last = reached - 1,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::debug!(conversation = id, %error, "no history");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The group, and the part of a range, of which messages are missing here.
    fn missing(
        &self,
        user_id: &str,
        id: &str,
        begin: i64,
        end: i64,
        num: i64,
    ) -> Result<Option<(String, i64, i64)>> {
        let view = self.store().view();
        let Some(head) = schema::CONVERSATION_HEADS.get(&view, id)? else { return Ok(None) };
        if head.elsewhere_to == 0 || head.group_id.is_empty() {
            return Ok(None);
        }
        let Some(window) = message::window(&view, user_id, id)? else { return Ok(None) };
        let end = end.min(window.high);
        let begin = begin.max(window.low).max(1);
        let begin = begin.max(end.saturating_sub(num.max(0)).saturating_add(1));
        let mut last = end.min(head.elsewhere_to);
        // What is here already needs no fetching.
        let rows = message_log::messages(&view, head.number, begin, last, Direction::Descending);
        for row in rows {
            let (seq, message) = row?;
            if seq < last || message::is_elsewhere(&message) {
                break;
            }
            last = seq - 1;
        }
        Ok((begin <= last).then_some((head.group_id, begin, last)))
    }

    /// Fetches messages; returns the lowest seq that the answer covers.
    async fn fetch(
        &self,
        user_id: &str,
        id: &str,
        group_id: &str,
        first: i64,
        last: i64,
    ) -> Result<i64> {
        let home = self.group_home(&self.store().view(), group_id)?;
        let (Some(own), Some(home)) = (self.domain(), home) else { return Ok(first) };
        let request = HistoryRequest {
            group: qualify(group_id, own)?,
            user: qualify(user_id, own)?,
            first,
            last,
        };
        let response = self.ask(&home, request::Body::History(request)).await?;
        let Some(response::Body::History(history)) = response.body else { return Ok(first) };
        let reached = history.first.clamp(first, last);
        let (id, group_id) = (id.to_owned(), group_id.to_owned());
        let caller = Caller::other_node(home.as_str());
        let (services, of) = (self.clone(), group_id.clone());
        let (history, vouched) = blocking(move || {
            let vouched = services.vouch_past(&home, &of, &history.messages);
            Ok((history, vouched))
        })
        .await?;
        self.change(&caller, move |change| {
            let kept = change.keep_history(&id, &group_id, reached, last, history, &vouched);
            kept.map_err(Trouble::of_an_answer)?;
            Ok(reached)
        })
        .await
    }

    /// Messages of a group of this node that another one asks for.
    pub(super) fn answer_history(
        &self,
        origin: &Domain,
        request: &HistoryRequest,
    ) -> Result<History> {
        let Some(own) = self.domain() else { return Ok(History::default()) };
        let (group_id, user_id) = (localise(&request.group, own)?, localise(&request.user, own)?);
        let view = self.store().view();
        if home_of(&user_id).as_ref() != Some(origin)
            || self.group_home(&view, &group_id)?.is_some()
        {
            return Err(ServiceError::denied(
                "not a user of that node, or not a group of this one",
            ));
        }
        let chat = conversation_id::group(&group_id);
        let Some(window) = message::window(&view, &user_id, &chat)? else {
            return Err(ServiceError::denied(format!("{user_id} is not in {group_id}")));
        };
        let first = request.first.max(window.low).max(1);
        let last = request.last.min(window.high);
        let mut history = History { messages: Vec::new(), first };
        let mut bytes = 0;
        let rows = message_log::messages(&view, window.number, first, last, Direction::Descending);
        for row in rows {
            let (seq, message) = row?;
            if last - seq >= MAX_MESSAGES || bytes >= MAX_BYTES {
                history.first = seq + 1;
                break;
            }
            let send_time_ms = message.send_time;
            if message::is_elsewhere(&message) {
                continue;
            }
            if message_log::is_erased(&message) {
                let gone = PastMessage { seq, send_time_ms, ..PastMessage::default() };
                history.messages.push(gone);
                continue;
            }
            let content = border::bare(message, own)?;
            bytes += content.len();
            let revoked = revoked(&view, window.number, seq, own)?;
            let key = (window.number, seq.cast_unsigned());
            let signature = schema::MESSAGE_SIGNATURES.get(&view, key)?;
            let content = content.into();
            history.messages.push(PastMessage { seq, send_time_ms, content, revoked, signature });
        }
        history.messages.reverse();
        Ok(history)
    }
}

impl Change<'_, '_> {
    /// Keeps messages that were fetched; what is missing between them is gone at the home.
    fn keep_history(
        &mut self,
        id: &str,
        group_id: &str,
        first: i64,
        last: i64,
        history: History,
        vouched: &Vouched,
    ) -> std::result::Result<(), Trouble> {
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, id)? else { return Ok(()) };
        let last = last.min(head.elsewhere_to);
        let latest = self.now.saturating_add(MAX_AHEAD_MS);
        let mut before = 0;
        for past in history.messages {
            let (seq, send_time) = (past.seq, past.send_time_ms);
            if !(first..=last).contains(&seq) || seq <= before || !(0..=latest).contains(&send_time)
            {
                return Err(Trouble::Bad("messages that were not asked for".into()));
            }
            before = seq;
            if past.content.is_empty() || !vouched.contains(&digest(&past.content)) {
                let gone = message::trace().encode_to_vec();
                self.tx.put_fetched(head.number, seq, send_time, gone);
                continue;
            }
            let message = self.services.inbound(MsgData::decode(past.content)?)?;
            if message.group_id != group_id || message.session_type != GROUP {
                return Err(Trouble::Bad("a message of another conversation".into()));
            }
            let key = (head.number, seq.cast_unsigned());
            let message = MsgData { seq: 0, send_time: 0, ..message }.encode_to_vec();
            self.tx.put_fetched(head.number, seq, send_time, message);
            if let Some(signature) = &past.signature {
                schema::MESSAGE_SIGNATURES.put(self.tx, key, signature);
            }
            if let Some(revoked) = &past.revoked {
                self.take_revoke(key, revoked)?;
            }
        }
        Ok(())
    }
}
