//! Who and which groups say most.

use std::collections::{BTreeMap, HashMap};

use proto::msg::{
    ActiveGroup, ActiveUser, GetActiveGroupReq, GetActiveGroupResp, GetActiveUserReq,
    GetActiveUserResp,
};
use proto::sdkws::{GroupInfo, RequestPagination, UserInfo};
use store::record::ConversationHead;
use store::{Direction, Read, message_log, schema};

use super::by_date;
use crate::Services;
use crate::access::Caller;
use crate::day::day_of;
use crate::error::{Result, ServiceError};
use crate::page::{Page, STEP_ROWS};

/// Most messages a report reads.
const MAX_MESSAGES: usize = 20_000_000;
/// What looking for the first message of a conversation costs, in rows.
const LOOKUP_ROWS: usize = 20;

impl Services {
    /// How much is said in a range of time, and by whom most or least.
    pub async fn statistics_user_active(
        &self,
        caller: &Caller,
        request: GetActiveUserReq,
    ) -> Result<GetActiveUserResp> {
        caller.must_be_admin()?;
        let page = page(request.pagination.as_ref())?;
        let groups = request.group;
        let tally = self
            .tally(request.start, request.end, move |id, _| match id.starts_with("si_") {
                true => Some(Subject::Sender),
                false => (groups && is_group(id)).then_some(Subject::Sender),
            })
            .await?;
        let (msg_count, date_count) = (tally.messages, by_date(tally.days));
        let ranked = ranked(tally.subjects, request.ase);
        let user_count = count(ranked.len());
        let view = self.store().view();
        let users = page.of(ranked).into_iter().map(|(user_id, count)| {
            let user = schema::USERS.get(&view, &user_id)?.unwrap_or_else(|| UserInfo {
                nickname: user_id.clone(),
                user_id,
                ..Default::default()
            });
            Ok(ActiveUser { user: Some(user), count })
        });
        let users = users.collect::<Result<_>>()?;
        Ok(GetActiveUserResp { msg_count, user_count, date_count, users })
    }

    /// How much is said in groups in a range of time, and in which most or least.
    pub async fn statistics_group_active(
        &self,
        caller: &Caller,
        request: GetActiveGroupReq,
    ) -> Result<GetActiveGroupResp> {
        caller.must_be_admin()?;
        let page = page(request.pagination.as_ref())?;
        let tally = self
            .tally(request.start, request.end, |id, head| {
                is_group(id).then(|| Subject::Group(head.group_id.clone()))
            })
            .await?;
        let (msg_count, date_count) = (tally.messages, by_date(tally.days));
        let ranked = ranked(tally.subjects, request.ase);
        let group_count = count(ranked.len());
        let view = self.store().view();
        let groups = page.of(ranked).into_iter().map(|(group_id, count)| {
            let info = match schema::GROUPS.get(&view, &group_id)? {
                Some(group) => {
                    GroupInfo { owner_user_id: String::new(), member_count: 0, ..group.info }
                }
                None => GroupInfo { group_name: group_id.clone(), group_id, ..Default::default() },
            };
            Ok(ActiveGroup { group: Some(info), count })
        });
        let groups = groups.collect::<Result<_>>()?;
        Ok(GetActiveGroupResp { msg_count, group_count, date_count, groups })
    }

    /// Counts the messages sent from `start` until before `end` in the conversations that have a
    /// subject.
    async fn tally(
        &self,
        start: i64,
        end: i64,
        subject: impl Fn(&str, &ConversationHead) -> Option<Subject> + Send + Sync,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let (mut next_conversation, mut open) = (String::new(), None::<Reading>);
        self.in_steps(|view| {
            let mut budget = STEP_ROWS;
            while budget > 0 {
                if let Some(reading) = open.take() {
                    open = reading.go_on(view, end, &mut budget, &mut tally)?;
                    continue;
                }
                let from = next_conversation.clone();
                let heads = &schema::CONVERSATION_HEADS;
                let next = heads.range(view, from.as_str(), (), Direction::Ascending).next();
                let Some((id, head)) = next.transpose()? else { return Ok(false) };
                budget = budget.saturating_sub(LOOKUP_ROWS);
                if let Some(subject) = subject(&id, &head) {
                    let next_seq = first_since(view, head.number, start)?;
                    open = Some(Reading { number: head.number, next_seq, subject });
                }
                // The least text after `id`.
                next_conversation = format!("{id}\0");
            }
            if tally.read > MAX_MESSAGES {
                return Err(ServiceError::args("too many messages; ask for a shorter time"));
            }
            Ok(true)
        })
        .await?;
        Ok(tally)
    }
}

/// What is counted.
#[derive(Default)]
struct Tally {
    read: usize,
    messages: i64,
    days: BTreeMap<i64, i64>,
    subjects: HashMap<String, i64>,
}

/// To whom a message counts.
enum Subject {
    Sender,
    Group(String),
}

/// A conversation that is being read.
struct Reading {
    number: u64,
    next_seq: i64,
    subject: Subject,
}

impl Reading {
    /// Reads on; `None` when the conversation has no further message before `end`.
    fn go_on(
        mut self,
        from: &impl Read,
        end: i64,
        budget: &mut usize,
        tally: &mut Tally,
    ) -> Result<Option<Self>> {
        let ascending = Direction::Ascending;
        for row in message_log::messages(from, self.number, self.next_seq, i64::MAX, ascending) {
            let (seq, message) = row?;
            if message.send_time >= end {
                return Ok(None);
            }
            tally.read += 1;
            tally.messages += 1;
            *tally.days.entry(day_of(message.send_time)).or_default() += 1;
            let subject = match &self.subject {
                Subject::Sender => &message.send_id,
                Subject::Group(group_id) => group_id,
            };
            // Of an erased message only the time remains.
            if !subject.is_empty() {
                match tally.subjects.get_mut(subject) {
                    Some(count) => *count += 1,
                    None => drop(tally.subjects.insert(subject.clone(), 1)),
                }
            }
            self.next_seq = seq + 1;
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return Ok(Some(self));
            }
        }
        Ok(None)
    }
}

/// A seq at which the messages sent at `start` or later begin; send times rise with the seq.
fn first_since(from: &impl Read, number: u64, start: i64) -> Result<i64> {
    let (newest, sent) = message_log::newest_of(from, number)?;
    if sent < start {
        return Ok(newest + 1);
    }
    let (mut low, mut high) = (1, newest);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut rows = message_log::messages(from, number, middle, newest, Direction::Ascending);
        match rows.next().transpose()? {
            Some((seq, message)) if message.send_time < start => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn is_group(conversation_id: &str) -> bool {
    conversation_id.starts_with("sg_") || conversation_id.starts_with("g_")
}

fn page(pagination: Option<&RequestPagination>) -> Result<Page> {
    let page = Page::required(pagination)?;
    if page.is_empty() {
        return Err(ServiceError::args("showNumber is invalid"));
    }
    Ok(page)
}

/// Most first, or least first; then by ID.
fn ranked(subjects: HashMap<String, i64>, ascending: bool) -> Vec<(String, i64)> {
    let mut ranked: Vec<_> = subjects.into_iter().collect();
    ranked.sort_unstable_by(|(a, of_a), (b, of_b)| {
        let order = if ascending { of_a.cmp(of_b) } else { of_b.cmp(of_a) };
        order.then_with(|| a.cmp(b))
    });
    ranked
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
