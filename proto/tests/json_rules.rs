//! The rules of the REST API's JSON, one line each.
#![allow(clippy::expect_used)]

use bytes::Bytes;
use proto::json::{from_slice, to_string};
use proto::{conversation, group, msg, relation, sdkws, user};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value that `key` has in the JSON of `message`, as text; `None` if the key is absent.
fn written<T: Serialize>(message: &T, key: &str) -> Option<String> {
    let text = to_string(message).expect("serializes");
    let from = text.find(&format!("\"{key}\":"))? + key.len() + 3;
    let mut depth = 0;
    let mut quoted = false;
    let mut escaped = false;
    let end = text[from..].find(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ => {}
        }
        depth < 0 || (depth == 0 && !quoted && c == ',')
    });
    Some(text[from..from + end.expect("ends")].to_owned())
}

#[test]
fn responses() {
    let some = sdkws::MsgData {
        send_id: "a<b>&\u{2028}\u{2029}\"\\\u{1}é用😀/'\u{7f}".into(),
        content: Bytes::from_static(&[0xfb, 0xff, 1]),
        seq: i64::MAX,
        send_time: i64::MIN,
        content_type: -1,
        is_read: true,
        options: [("b".into(), true), ("a".into(), false), ("B".into(), true)].into(),
        offline_push_info: Some(sdkws::OfflinePushInfo::default()),
        at_user_id_list: vec!["x".into(), String::new()],
        ..Default::default()
    };
    let none = sdkws::MsgData::default();
    for (rule, message, key, expected) in [
        ("64-bit integers are numbers", &some, "seq", Some("9223372036854775807")),
        ("64-bit integers are numbers", &some, "sendTime", Some("-9223372036854775808")),
        ("integers are present when 0", &none, "seq", Some("0")),
        ("negative integers", &some, "contentType", Some("-1")),
        ("bool", &some, "isRead", Some("true")),
        ("bool is present when false", &none, "isRead", Some("false")),
        ("string is present when empty", &none, "sendID", Some("\"\"")),
        (
            "escapes",
            &some,
            "sendID",
            Some("\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\u0001é用😀/'\u{7f}\""),
        ),
        ("bytes are base64", &some, "content", Some("\"+/8B\"")),
        ("no bytes are null", &none, "content", Some("null")),
        ("map keys in byte order", &some, "options", Some("{\"B\":true,\"a\":false,\"b\":true}")),
        ("an empty map is absent", &none, "options", None),
        ("list", &some, "atUserIDList", Some("[\"x\",\"\"]")),
        ("an empty list is null", &none, "atUserIDList", Some("null")),
        ("an unset message is null", &none, "offlinePushInfo", Some("null")),
    ] {
        assert_eq!(written(message, key).as_deref(), expected, "{rule}");
    }

    let order = msg::GetSeqMessageReq { order: 1, ..Default::default() };
    assert_eq!(written(&order, "order").as_deref(), Some("1"), "an enum is a number");

    let wrappers = group::SetGroupInfoExReq {
        ex: Some(proto::protobuf::StringValue::default()),
        need_verification: Some(proto::protobuf::Int32Value { value: 0 }),
        ..Default::default()
    };
    assert_eq!(written(&wrappers, "ex").as_deref(), Some("\"\""), "wrapper: a bare value");
    assert_eq!(written(&wrappers, "needVerification").as_deref(), Some("0"), "also when 0");
    assert_eq!(written(&wrappers, "groupName").as_deref(), Some("null"), "null when unset");

    let hash = group::GetFullGroupMemberUserIDsReq { id_hash: u64::MAX, ..Default::default() };
    assert_eq!(written(&hash, "idHash").as_deref(), Some("18446744073709551615"));

    let names = to_string(&relation::GetPaginationFriendsApplyToResp::default());
    assert_eq!(names.expect("serializes"), "{\"FriendRequests\":null,\"total\":0}");
}

fn read<T: DeserializeOwned>(text: impl AsRef<[u8]>) -> Option<T> {
    from_slice(text.as_ref()).ok()
}

#[test]
fn what_counts_as_a_request() {
    for (rule, text, accepted) in [
        ("object", "{}", true),
        ("null", "null", true),
        ("space around", " \t\r\n{} \n", true),
        ("unknown keys", r#"{"x":{"y":[1,2.5e3,"",null,true]},"":0}"#, true),
        ("array", "[]", false),
        ("number", "1", false),
        ("string", "\"{}\"", false),
        ("bool", "true", false),
        ("empty", "", false),
        ("space only", " ", false),
        ("byte order mark", "\u{feff}{}", false),
        ("trailing garbage", "{}x", false),
        ("two objects", "{}{}", false),
        ("cut off", "{\"a\":1", false),
        ("trailing comma", "{\"a\":1,}", false),
        ("comment", "{/**/}", false),
        ("single quotes", "{'a':1}", false),
        ("control character in a string", "{\"a\":\"\n\"}", false),
    ] {
        assert_eq!(read::<sdkws::RequestPagination>(text).is_some(), accepted, "{rule}: {text}");
    }
}

#[test]
fn integers() {
    for (text, expected) in [
        ("7", Some(7)),
        ("-7", Some(-7)),
        ("2147483647", Some(i32::MAX)),
        ("-2147483648", Some(i32::MIN)),
        ("null", Some(0)),
        ("2147483648", None),
        ("-2147483649", None),
        ("1.0", None),
        ("1e3", None),
        ("\"1\"", None),
        ("\"\"", None),
        ("true", None),
        ("[]", None),
        ("{}", None),
        ("01", None),
        ("+1", None),
    ] {
        let text = format!("{{\"pageNumber\":{text}}}");
        let page = read::<sdkws::RequestPagination>(&text).map(|page| page.page_number);
        assert_eq!(page, expected, "{text}");
    }
    for (text, expected) in
        [("18446744073709551615", Some(u64::MAX)), ("18446744073709551616", None), ("-1", None)]
    {
        let text = format!("{{\"idHash\":{text}}}");
        let hash = read::<group::GetFullGroupMemberUserIDsReq>(&text).map(|hash| hash.id_hash);
        assert_eq!(hash, expected, "{text}");
    }
    for (text, expected) in [
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("1e18", None),
    ] {
        let text = format!("{{\"seq\":{text}}}");
        assert_eq!(read::<sdkws::MsgData>(&text).map(|data| data.seq), expected, "{text}");
    }
}

#[test]
fn other_scalars() {
    let is_read = |text: &str| {
        read::<sdkws::MsgData>(format!("{{\"isRead\":{text}}}")).map(|data| data.is_read)
    };
    for (text, expected) in
        [("true", Some(true)), ("false", Some(false)), ("null", Some(false)), ("1", None)]
    {
        assert_eq!(is_read(text), expected, "{text}");
    }

    let send_id = |text: &str| {
        read::<sdkws::MsgData>(format!("{{\"sendID\":{text}}}")).map(|data| data.send_id)
    };
    for (text, expected) in [
        ("\"a\"", Some("a")),
        ("null", Some("")),
        ("\"\\u00e9\\ud83d\\ude00\\n\\/\"", Some("é😀\n/")),
        ("\"a\\ud83d\"", Some("a\u{fffd}")),
        ("\"\\ude00\\ud83d\\u0041\"", Some("\u{fffd}\u{fffd}A")),
        ("\"\\\\ud83d\"", Some("\\ud83d")),
        ("1", None),
        ("[]", None),
        ("{}", None),
        ("\"\\x\"", None),
    ] {
        assert_eq!(send_id(text).as_deref(), expected, "{text}");
    }
    let bad = read::<sdkws::MsgData>(b"{\"sendID\":\"a\xffb\xed\xa0\x80\"}").expect("is accepted");
    assert_eq!(bad.send_id, "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");

    let content = |text: &str| {
        read::<sdkws::MsgData>(format!("{{\"content\":{text}}}")).map(|data| data.content)
    };
    for (text, expected) in [
        ("\"+/8B\"", Some(&[0xfb, 0xff, 1][..])),
        ("\"AQ==\"", Some(&[1])),
        ("\"AR==\"", Some(&[1])),
        ("\"A\\nQ\\r=\\n=\"", Some(&[1])),
        ("\"\"", Some(&[])),
        ("null", Some(&[])),
        ("\"AQ\"", None),
        ("\"-_8B\"", None),
        ("\" AQ==\"", None),
        ("[1]", None),
        ("1", None),
    ] {
        assert_eq!(content(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn wrappers() {
    let ex = |text: &str| {
        read::<group::SetGroupInfoExReq>(format!("{{\"ex\":{text}}}"))
            .map(|request| request.ex.map(|ex| ex.value))
    };
    assert_eq!(ex("\"x\""), Some(Some("x".into())));
    assert_eq!(ex("\"\""), Some(Some(String::new())));
    assert_eq!(ex("null"), Some(None));
    assert_eq!(ex("1"), None);
    assert_eq!(ex("{\"value\":\"x\"}"), None);

    let pinned = |text: &str| {
        read::<conversation::ConversationReq>(format!("{{\"isPinned\":{text}}}"))
            .map(|request| request.is_pinned.map(|pinned| pinned.value))
    };
    for (text, expected) in [
        ("true", Some(Some(true))),
        ("false", Some(Some(false))),
        ("1", Some(Some(true))),
        ("0", Some(Some(false))),
        ("null", Some(None)),
        ("2", None),
        ("-1", None),
        ("1.0", None),
        ("\"true\"", None),
        ("{\"value\":true}", None),
    ] {
        assert_eq!(pinned(text), expected, "{text}");
    }

    let verification = |text: &str| {
        read::<group::SetGroupInfoExReq>(format!("{{\"needVerification\":{text}}}"))
            .map(|request| request.need_verification.map(|value| value.value))
    };
    assert_eq!(verification("2"), Some(Some(2)));
    assert_eq!(verification("2.0"), None);
    assert_eq!(verification("{\"value\":2}"), None);
}

#[test]
fn keys_lists_and_maps() {
    let page = |text: &str| {
        read::<sdkws::RequestPagination>(text).map(|page| (page.page_number, page.show_number))
    };
    for (rule, text, expected) in [
        ("exact", r#"{"pageNumber":1,"showNumber":2}"#, Some((1, 2))),
        ("other case", r#"{"PAGENUMBER":1,"shownumber":2}"#, Some((1, 2))),
        ("exact before other case", r#"{"pageNumber":1,"PageNumber":2}"#, Some((1, 0))),
        ("exact before other case", r#"{"PageNumber":2,"pageNumber":1}"#, Some((1, 0))),
        ("the last of two", r#"{"pageNumber":1,"pageNumber":2}"#, Some((2, 0))),
        ("missing", r#"{"showNumber":2}"#, Some((0, 2))),
        ("escaped key", r#"{"page\u004eumber":1}"#, Some((1, 0))),
    ] {
        assert_eq!(page(text), expected, "{rule}");
    }

    let ids = |text: &str| {
        read::<user::GetDesignateUsersReq>(format!("{{\"userIDs\":{text}}}"))
            .map(|request| request.user_ids)
    };
    assert_eq!(ids(r#"["a",null,"b"]"#), Some(vec!["a".into(), String::new(), "b".into()]));
    assert_eq!(ids("[]"), Some(vec![]));
    assert_eq!(ids("null"), Some(vec![]));
    for text in ["\"a\"", "{}", "[1]", "[[\"a\"]]", "1"] {
        assert_eq!(ids(text), None, "{text}");
    }

    let options = |text: &str| {
        read::<sdkws::MsgData>(format!("{{\"options\":{text}}}"))
            .map(|data| data.options.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(
        options(r#"{"b":true,"a":null,"A":true}"#),
        Some(vec![("A".into(), true), ("a".into(), false), ("b".into(), true)])
    );
    assert_eq!(options("null"), Some(vec![]));
    assert_eq!(options("[]"), None);

    let info = |text: &str| {
        read::<sdkws::MsgData>(format!("{{\"offlinePushInfo\":{text}}}"))
            .map(|data| data.offline_push_info)
    };
    assert_eq!(info("null"), Some(None));
    assert_eq!(info("{}"), Some(Some(sdkws::OfflinePushInfo::default())));
    assert_eq!(
        info(r#"{"TITLE":"t"}"#).flatten().map(|info| info.title).as_deref(),
        Some("t"),
        "nested keys match without regard to case too"
    );
    assert_eq!(info("[]"), None);
    assert_eq!(info("\"\""), None);
}
