//! Searching all messages, for app admins.

use std::collections::{BTreeSet, HashMap, VecDeque};

use proto::msg::{ChatLog, SearchChatLog, SearchMessageReq, SearchMessageResp};
use proto::sdkws::{GroupInfo, MsgData};
use store::{Direction, Read, message_log, schema};

use super::carried;
use crate::Services;
use crate::access::Caller;
use crate::conversation_id::{self, GROUP, SINGLE};
use crate::day::{self, DAY_MS};
use crate::error::{Result, ServiceError};

/// Messages looked at in one search.
const MAX_LOOKED_AT: i64 = 200_000;
/// Messages looked at in one step.
const CHUNK: i64 = 1_000;
/// Results on a page.
const MAX_PAGE: i64 = 1_000;
/// Results counted past the page.
const COUNTED_BEYOND: usize = 10_000;

/// What is searched for.
struct Filter {
    sender: String,
    receiver: String,
    content_type: i32,
    session_type: i32,
    /// First millisecond of the day.
    day: Option<i64>,
}

impl Services {
    /// Messages by sender, receiver or group, type and day, conversation after conversation.
    ///
    /// The total is exact as long as the search gets to the end.
    pub async fn search_msg(
        &self,
        caller: &Caller,
        request: SearchMessageReq,
    ) -> Result<SearchMessageResp> {
        caller.must_be_admin()?;
        let filter = Filter {
            sender: request.send_id.clone(),
            receiver: request.recv_id.clone(),
            content_type: request.content_type,
            session_type: request.session_type,
            day: day(&request.send_time)?,
        };
        let (skip, show) = match &request.pagination {
            Some(page) if page.page_number < 1 => {
                return Err(ServiceError::args("pageNumber is invalid"));
            }
            Some(page) => {
                let show = i64::from(page.show_number).clamp(0, MAX_PAGE);
                ((i64::from(page.page_number) - 1) * show, show)
            }
            None => (0, 0),
        };
        let page = usize::try_from(skip).unwrap_or(usize::MAX)
            ..usize::try_from(skip + show).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let (mut total, mut left) = (0, MAX_LOOKED_AT);
        let mut numbers: Option<VecDeque<u64>> = None;
        let mut next = 1;
        self.in_steps(|view| {
            let numbers = match &mut numbers {
                Some(numbers) => numbers,
                None => numbers.insert(candidates(view, &filter)?.into_iter().collect()),
            };
            let Some(number) = numbers.front().copied() else { return Ok(false) };
            let (newest, _) = message_log::newest_of(view, number)?;
            let end = newest.min(next + CHUNK - 1);
            for row in message_log::messages(view, number, next, end, Direction::Ascending) {
                left -= 1;
                let (_, message) = row?;
                if message_log::is_erased(&message) || !filter.takes(&message) {
                    continue;
                }
                if page.contains(&total) {
                    let key = (number, message.seq.cast_unsigned());
                    let marks = schema::MESSAGE_MARKS.get(view, key)?;
                    let revoked = marks.is_some_and(|marks| marks.revoke.is_some());
                    let (id, _) = conversation_id::of_message(&message);
                    let mut message = message;
                    if let Some(repaired) = carried::repaired(view, &id, &message)? {
                        message.content = repaired.into();
                    }
                    found.push((message, revoked));
                }
                total += 1;
            }
            next = end + 1;
            if end == newest {
                numbers.pop_front();
                next = 1;
            }
            Ok(left > CHUNK && total < page.end.saturating_add(COUNTED_BEYOND))
        })
        .await?;
        let view = self.store().view();
        let mut names = Names { from: &view, users: HashMap::new(), groups: HashMap::new() };
        let chat_logs = found
            .into_iter()
            .map(|(message, is_revoked)| {
                Ok(SearchChatLog { chat_log: Some(names.chat_log(message)?), is_revoked })
            })
            .collect::<Result<_>>()?;
        Ok(SearchMessageResp { chat_logs, chat_logs_num: i32::try_from(total).unwrap_or(i32::MAX) })
    }
}

/// Numbers of the conversations that can hold what is searched for, oldest first.
fn candidates(from: &impl Read, filter: &Filter) -> Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    let mut ids = Vec::new();
    let (sender, receiver) = (filter.sender.as_str(), filter.receiver.as_str());
    if !receiver.is_empty() {
        ids.push(conversation_id::group(receiver));
    }
    match (sender.is_empty(), receiver.is_empty()) {
        (false, false) => ids.push(conversation_id::single(sender, receiver)),
        (true, true) => {
            for row in schema::CONVERSATION_HEADS.scan(from, ()) {
                let (id, head) = row?;
                if is_chat(&id) {
                    numbers.insert(head.number);
                }
            }
        }
        _ => {
            let user = if sender.is_empty() { receiver } else { sender };
            for row in schema::CONVERSATIONS.scan(from, user) {
                ids.push(row?.0.1);
            }
            for row in schema::JOINED.scan(from, user) {
                ids.push(conversation_id::group(&row?.0.1));
            }
        }
    }
    for id in ids.iter().filter(|id| is_chat(id)) {
        numbers.extend(schema::CONVERSATION_HEADS.get(from, id)?.map(|head| head.number));
    }
    Ok(numbers)
}

fn is_chat(conversation_id: &str) -> bool {
    conversation_id.starts_with("si_") || conversation_id.starts_with("sg_")
}

impl Filter {
    fn takes(&self, message: &MsgData) -> bool {
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        let one_of = |wanted: i32, value: i32| wanted == 0 || wanted == value;
        is(&self.sender, &message.send_id)
            && (is(&self.receiver, &message.recv_id) || self.receiver == message.group_id)
            && one_of(self.content_type, message.content_type)
            && one_of(self.session_type, message.session_type)
            && self.day.is_none_or(|day| (day..day + DAY_MS).contains(&message.send_time))
    }
}

/// Names of users and groups, each looked up once.
struct Names<'a, R> {
    from: &'a R,
    users: HashMap<String, String>,
    groups: HashMap<String, GroupInfo>,
}

impl<R: Read> Names<'_, R> {
    fn nickname(&mut self, user_id: &str) -> Result<String> {
        if let Some(name) = self.users.get(user_id) {
            return Ok(name.clone());
        }
        let name = schema::USERS.get(self.from, user_id)?.unwrap_or_default().nickname;
        self.users.insert(user_id.to_owned(), name.clone());
        Ok(name)
    }

    fn group(&mut self, group_id: &str) -> Result<GroupInfo> {
        if let Some(group) = self.groups.get(group_id) {
            return Ok(group.clone());
        }
        let info = schema::GROUPS.get(self.from, group_id)?.unwrap_or_default().info;
        self.groups.insert(group_id.to_owned(), info.clone());
        Ok(info)
    }

    fn chat_log(&mut self, message: MsgData) -> Result<ChatLog> {
        let mut log = ChatLog {
            server_msg_id: message.server_msg_id,
            client_msg_id: message.client_msg_id,
            send_id: message.send_id,
            recv_id: message.recv_id,
            group_id: message.group_id,
            sender_platform_id: message.sender_platform_id,
            sender_nickname: message.sender_nickname,
            sender_face_url: message.sender_face_url,
            session_type: message.session_type,
            msg_from: message.msg_from,
            content_type: message.content_type,
            content: String::from_utf8_lossy(&message.content).into_owned(),
            status: message.status,
            send_time: message.send_time,
            create_time: message.create_time,
            ex: message.ex,
            seq: message.seq,
            ..Default::default()
        };
        if log.sender_nickname.is_empty() {
            log.sender_nickname = self.nickname(&log.send_id)?;
        }
        match log.session_type {
            SINGLE => log.recv_nickname = self.nickname(&log.recv_id)?,
            GROUP => {
                let group = self.group(&log.group_id)?;
                log.recv_id.clone_from(&log.group_id);
                log.sender_face_url = group.face_url;
                log.group_name = group.group_name;
                log.group_member_count = group.member_count;
                log.group_type = group.group_type;
            }
            _ => {}
        }
        Ok(log)
    }
}

/// First millisecond of a day `YYYY-MM-DD` in UTC; `None` for an empty text.
fn day(text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let day =
        day::named(text).ok_or_else(|| ServiceError::args("sendTime is no day like 2006-01-02"))?;
    Ok(Some(day * DAY_MS))
}
