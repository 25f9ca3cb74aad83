//! Answers with maps of messages.
//!
//! An entry whose value is empty may be written without it, and decoders of the JS SDK then drop the
//! entry: what was asked for seems to be missing. Here every entry has its value.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, key_len, message, string};

use crate::msg::{GetConversationsHasReadAndMaxSeqResp, GetLastMessageResp, GetSeqMessageResp};
use crate::sdkws::PullMessageBySeqsResp;

/// An answer with maps of messages.
pub trait WithMaps {
    /// The answer as bytes, every entry with its value.
    fn encode_whole(self) -> Vec<u8>;
}

impl WithMaps for PullMessageBySeqsResp {
    fn encode_whole(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_map(1, &self.msgs, &mut out);
        put_map(2, &self.notification_msgs, &mut out);
        out
    }
}

impl WithMaps for GetSeqMessageResp {
    fn encode_whole(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_map(1, &self.msgs, &mut out);
        put_map(2, &self.notification_msgs, &mut out);
        out
    }
}

impl WithMaps for GetLastMessageResp {
    fn encode_whole(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_map(1, &self.msgs, &mut out);
        out
    }
}

impl WithMaps for GetConversationsHasReadAndMaxSeqResp {
    fn encode_whole(mut self) -> Vec<u8> {
        let seqs = std::mem::take(&mut self.seqs);
        let mut out = self.encode_to_vec();
        put_map(1, &seqs, &mut out);
        out
    }
}

fn put_map<V: Message>(tag: u32, map: &BTreeMap<String, V>, out: &mut Vec<u8>) {
    for (id, value) in map {
        let bytes = string::encoded_len(1, id) + message::encoded_len(2, value);
        out.reserve(key_len(tag) + bytes);
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(bytes as u64, out);
        string::encode(1, id, out);
        message::encode(2, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::Seqs;
    use crate::sdkws::{MsgData, PullMsgs};

    #[test]
    fn an_entry_has_its_value() {
        let empty = PullMsgs::default();
        let full = PullMsgs {
            msgs: vec![MsgData { seq: 1, ..MsgData::default() }],
            ..PullMsgs::default()
        };
        let answer = PullMessageBySeqsResp {
            msgs: [("a".to_owned(), empty.clone()), ("b".to_owned(), full)].into(),
            notification_msgs: [("n".to_owned(), empty)].into(),
        };
        let bytes = answer.clone().encode_whole();
        // Field 1: 5 bytes, of which field 1 is "a" and field 2 has no bytes.
        assert!(bytes.starts_with(&[0x0a, 5, 0x0a, 1, b'a', 0x12, 0]), "{bytes:?}");
        assert!(bytes.ends_with(&[0x12, 5, 0x0a, 1, b'n', 0x12, 0]), "{bytes:?}");
        assert_eq!(PullMessageBySeqsResp::decode(bytes.as_slice()), Ok(answer));

        let answer = GetConversationsHasReadAndMaxSeqResp {
            seqs: [("a".to_owned(), Seqs::default())].into(),
            pinned_conversation_ids: vec!["p".to_owned()],
        };
        let bytes = answer.clone().encode_whole();
        assert!(bytes.ends_with(&[0x0a, 5, 0x0a, 1, b'a', 0x12, 0]), "{bytes:?}");
        assert_eq!(GetConversationsHasReadAndMaxSeqResp::decode(bytes.as_slice()), Ok(answer));
    }
}
