//! On whose account an event of another node is: one flooding user or group is told from the rest.

use prost::Message;
use prost::bytes::Bytes;
use proto::federation::{Event, EventKind};

/// The first field of a message, a text: a sender, a reader, a group.
#[derive(Clone, PartialEq, Message)]
struct First {
    #[prost(string, tag = "1")]
    text: String,
}

/// The first field of a message, another message.
#[derive(Clone, PartialEq, Message)]
struct Within {
    #[prost(bytes = "bytes", tag = "1")]
    message: Bytes,
}

/// The user or the group of its node that causes an event; `None` if the event does not say.
///
/// It is what the event claims: a node that invents users still has its own budget.
pub fn account(event: &Event) -> Option<String> {
    let body = event.body.clone();
    let first = match EventKind::try_from(event.kind.cast_signed()).ok()? {
        EventKind::EventChat
        | EventKind::EventGroupSend
        | EventKind::EventFriendRequest
        | EventKind::EventGroupEntry => First::decode(Within::decode(body).ok()?.message),
        EventKind::EventRead
        | EventKind::EventRevoke
        | EventKind::EventDelete
        | EventKind::EventClear
        | EventKind::EventNotice
        | EventKind::EventProfile
        | EventKind::EventFriendListed
        | EventKind::EventGroupSnapshot => First::decode(body),
        EventKind::EventNothing | EventKind::EventFriendAnswer => return None,
    };
    first.ok().map(|first| first.text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proto::federation::{Chat, EntryHeader, FriendRequest, GroupEntry, Profile, Read};
    use proto::sdkws::MsgData;

    use super::*;

    fn of(kind: EventKind, body: &impl Message) -> Option<String> {
        let body = body.encode_to_vec().into();
        account(&Event { kind: kind as u32, body, time_ms: 1 })
    }

    #[test]
    fn who_causes_an_event() {
        let alice = || Some("alice@alpha.example".to_owned());
        let message = MsgData { send_id: "alice@alpha.example".into(), ..MsgData::default() };
        let chat = Chat { message: message.encode_to_vec().into(), ..Chat::default() };
        assert_eq!(of(EventKind::EventChat, &chat), alice());
        let from = Profile { user_id: "alice@alpha.example".into(), ..Profile::default() };
        let request = FriendRequest { from: Some(from), ..FriendRequest::default() };
        assert_eq!(of(EventKind::EventFriendRequest, &request), alice());
        let read = Read { reader: "alice@alpha.example".into(), ..Read::default() };
        assert_eq!(of(EventKind::EventRead, &read), alice());
        let header = EntryHeader { group: "7@alpha.example".into(), ..EntryHeader::default() };
        let entry = GroupEntry { header: header.encode_to_vec().into(), ..GroupEntry::default() };
        assert_eq!(of(EventKind::EventGroupEntry, &entry), Some("7@alpha.example".into()));
        assert_eq!(of(EventKind::EventChat, &Chat::default()), None);
    }
}
