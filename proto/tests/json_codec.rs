//! Properties of the REST API's JSON: every message comes back as it was written, and no text does
//! harm.
#![allow(clippy::expect_used)]

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proto::json::{from_slice, to_vec};
use serde::Serialize;
use serde::de::value::Error;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// Runs a generic function for messages with every sort of field.
macro_rules! for_messages {
    ($function:ident, $argument:expr) => {{
        use proto::*;
        $function::<sdkws::MsgData>($argument);
        $function::<sdkws::GroupInfo>($argument);
        $function::<sdkws::GroupMemberFullInfo>($argument);
        $function::<sdkws::UserInfo>($argument);
        $function::<sdkws::PullMessageBySeqsResp>($argument);
        $function::<sdkws::PushMessages>($argument);
        $function::<sdkws::RequestPagination>($argument);
        $function::<sdkws::GetMaxSeqResp>($argument);
        $function::<sdkws::GroupCreatedTips>($argument);
        $function::<sdkws::ConversationUpdateTips>($argument);
        $function::<auth::GetUserTokenReq>($argument);
        $function::<conversation::Conversation>($argument);
        $function::<conversation::SetConversationsReq>($argument);
        $function::<conversation::UpdateConversationReq>($argument);
        $function::<conversation::GetIncrementalConversationResp>($argument);
        $function::<group::CreateGroupReq>($argument);
        $function::<group::SetGroupInfoExReq>($argument);
        $function::<group::SetGroupMemberInfoReq>($argument);
        $function::<group::GetFullGroupMemberUserIDsReq>($argument);
        $function::<group::GetIncrementalGroupMemberResp>($argument);
        $function::<group::BatchGetIncrementalGroupMemberResp>($argument);
        $function::<jssdk::GetActiveConversationsResp>($argument);
        $function::<msg::SendMsgReq>($argument);
        $function::<msg::SearchMessageReq>($argument);
        $function::<msg::GetSeqMessageReq>($argument);
        $function::<msg::GetActiveUserResp>($argument);
        $function::<msg::SetConversationHasReadSeqReq>($argument);
        $function::<relation::ApplyToAddFriendReq>($argument);
        $function::<relation::UpdateFriendsReq>($argument);
        $function::<relation::GetIncrementalFriendsResp>($argument);
        $function::<relation::GetPaginationFriendsApplyToResp>($argument);
        $function::<third::AuthSignParts>($argument);
        $function::<third::InitiateFormDataResp>($argument);
        $function::<user::UpdateUserInfoExReq>($argument);
        $function::<user::UserRegisterReq>($argument);
        $function::<user::ProcessUserCommandAddReq>($argument);
        $function::<user::UpdateNotificationAccountInfoReq>($argument);
    }};
}

/// Draws the fields of any message from random bytes. When they run out all else is zero.
struct Source<'s>(&'s [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn bits(&mut self) -> u64 {
        match self.byte() % 5 {
            0 => 0,
            1 => self.byte().into(),
            2 => u64::MAX,
            3 => i64::MAX as u64,
            _ => (0..8).fold(0, |bits, _| bits << 8 | u64::from(self.byte())),
        }
    }

    /// Mostly base64, since that is what a field of bytes wants.
    fn text(&mut self) -> String {
        const CHARS: [char; 16] = [
            '<',
            '>',
            '&',
            '\u{2028}',
            '\u{2029}',
            '"',
            '\\',
            '/',
            '\0',
            '\n',
            '\u{7f}',
            'é',
            '用',
            '\u{ffff}',
            '😀',
            '\u{10ffff}',
        ];
        let len = usize::from(self.byte() % 6);
        match self.byte() % 4 {
            0 => (0..len).map(|_| CHARS[usize::from(self.byte()) % CHARS.len()]).collect(),
            1 => "AQ==".into(),
            _ => ["User", "9+/0", "aBcD"].concat()[..len / 4 * 4].into(),
        }
    }
}

macro_rules! draw_integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.bits() as $type)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Source<'_> {
    type Error = Error;

    draw_integers!(
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64
    );

    /// Only the bool of a wrapper asks for anything.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bool(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.byte() % 2 == 1)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.byte().is_multiple_of(3) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.byte() % 4;
        visitor.visit_seq(Several { source: self, left, fields: &[] })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.byte() % 4;
        visitor.visit_map(Several { source: self, left, fields: &[] })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Several { source: self, left: 0, fields })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// The elements of a list, the entries of a map, or all fields of a struct.
struct Several<'a, 's> {
    source: &'a mut Source<'s>,
    left: u8,
    fields: &'static [&'static str],
}

impl<'de> SeqAccess<'de> for Several<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.source).map(Some)
    }
}

impl<'de> MapAccess<'de> for Several<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if let Some((&field, rest)) = self.fields.split_first() {
            self.fields = rest;
            return seed.deserialize(field.into_deserializer()).map(Some);
        }
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.source)
    }
}

trait Message: Serialize + DeserializeOwned + PartialEq + Default + Debug {}
impl<T: Serialize + DeserializeOwned + PartialEq + Default + Debug> Message for T {}

/// Nothing is drawn if a field of bytes met text that is no base64.
fn comes_back<T: Message>(bytes: &[u8]) {
    let Ok(message) = T::deserialize(&mut Source(bytes)) else { return };
    let text = to_vec(&message).expect("serializes");
    let back: T = from_slice(&text).expect("is read");
    assert_eq!(back, message, "{}", String::from_utf8_lossy(&text));
    // Any reader of JSON sees the same.
    let value: serde_json::Value = serde_json::from_slice(&text).expect("is JSON");
    let back: T = proto::json::from_value(value).expect("is read");
    assert_eq!(back, message);
}

fn does_no_harm<T: Message>(text: &[u8]) {
    if let Ok(message) = from_slice::<T>(text) {
        let text = to_vec(&message).expect("serializes");
        assert_eq!(from_slice::<T>(&text).expect("is read"), message);
    }
}

/// JSON with keys that messages know.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        Just("msgData"),
        Just("content"),
        Just("options"),
        Just("userIDs"),
        Just("pagination"),
        Just("PAGENUMBER"),
        Just("isPinned"),
        Just("conversation"),
        Just("ex"),
        Just("msgs"),
        Just("Msgs"),
        Just("friends"),
        Just("nope"),
    ];
    let scalar = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map_into(),
        any::<i64>().prop_map_into(),
        any::<u64>().prop_map_into(),
        (-2..3i32).prop_map_into(),
        any::<f64>().prop_map_into(),
        "[A-Za-z=<\u{2028}]{0,4}".prop_map_into(),
    ];
    scalar.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map_into(),
            3 => proptest::collection::vec((key.clone().prop_map_into(), inner), 0..6)
                .prop_map(|entries: Vec<(String, _)>| {
                    serde_json::Value::Object(entries.into_iter().collect())
                }),
        ]
    })
}

proptest! {
    #[test]
    fn messages_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for_messages!(comes_back, &bytes);
    }

    #[test]
    fn any_json_does_no_harm(value in json()) {
        for_messages!(does_no_harm, value.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_do_no_harm(
        bytes in proptest::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(&b"{}[]\",:\\u0d8c null1-.e"[..]),
        ], 0..200),
    ) {
        does_no_harm::<proto::sdkws::MsgData>(&bytes);
        let text = [b"{\"sendID\":\"", &bytes[..], b"\"}"].concat();
        does_no_harm::<proto::sdkws::MsgData>(&text);
    }
}

/// Messages of all sorts are really drawn, filled with values.
#[test]
fn the_source_fills_messages() {
    fn draw<T: Message>(filled: &std::cell::Cell<usize>) {
        let bytes: Vec<u8> =
            (0..4_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let some = (0..50).any(|skip| {
            T::deserialize(&mut Source(&bytes[skip..])).is_ok_and(|message| message != T::default())
        });
        assert!(some, "{}", std::any::type_name::<T>());
        filled.set(filled.get() + 1);
    }
    let filled = std::cell::Cell::new(0);
    for_messages!(draw, &filled);
    assert_eq!(filled.get(), 37);
}

#[test]
fn hostile_json_is_refused_quickly() {
    const BYTES: usize = 1_000_000;
    let deep = |open: &str| open.repeat(BYTES / open.len());
    let texts = [
        deep("["),
        deep("{\"a\":"),
        format!("{{\"nope\":{}", deep("[")),
        format!("{{\"msgData\":{{\"options\":{}", deep("{\"a\":")),
        deep("\\ud83d"),
        format!("{{\"a\":\"{}\"", deep("\\ud83d")),
    ];
    for text in texts {
        let start = Instant::now();
        assert!(from_slice::<proto::msg::SendMsgReq>(text.as_bytes()).is_err());
        assert!(start.elapsed() < Duration::from_secs(2), "{}", &text[..20]);
    }
}

/// Every key differs from every field, so each is looked up without regard to case.
#[test]
fn many_unknown_keys_are_passed_quickly() {
    let keys: Vec<String> = (0..60_000).map(|i| format!("\"groupid{i:x}\":0")).collect();
    let text = format!("{{{}}}", keys.join(","));
    let start = Instant::now();
    assert!(from_slice::<proto::sdkws::GroupInfo>(text.as_bytes()).is_ok());
    assert!(start.elapsed() < Duration::from_secs(2));
}
