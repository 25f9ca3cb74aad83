//! The recorded gob frames, read and written.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use bytes::Bytes;
use proto::envelope::{
    Encoding, EnvelopeError, Request, Response, decode_request, decode_response, encode_request,
    encode_response,
};
use proto::gob::{self, Field, Kind, Value};
use serde_json::Value as Json;

const LIMIT: usize = 1 << 20;

const ANSWER: [Field; 6] = [
    Field { name: "ReqIdentifier", kind: Kind::Int },
    Field { name: "MsgIncr", kind: Kind::Text },
    Field { name: "OperationID", kind: Kind::Text },
    Field { name: "ErrCode", kind: Kind::Int },
    Field { name: "ErrMsg", kind: Kind::Text },
    Field { name: "Data", kind: Kind::Bytes },
];

struct Vector {
    name: String,
    frame: Vec<u8>,
    json: Json,
}

fn vectors() -> Vec<Vector> {
    let file: Json =
        serde_json::from_str(include_str!("gob-vectors.json")).expect("vectors are JSON");
    let list = file["vectors"].as_array().expect("a list of vectors");
    let vectors: Vec<Vector> = list
        .iter()
        .map(|json| {
            let frame = from_hex(json["hex"].as_str().expect("hex"));
            assert_eq!(json["length"], frame.len());
            Vector {
                name: json["name"].as_str().expect("a name").into(),
                frame,
                json: json.clone(),
            }
        })
        .collect();
    assert_eq!(vectors.len(), 75);
    vectors
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn bytes(json: &Json) -> Vec<u8> {
    match (json["hex"].as_str(), json["length"].as_u64()) {
        (Some(hex), _) => from_hex(hex),
        (None, Some(length)) => (0..length).map(|i| (i % 251) as u8).collect(),
        (None, None) => Vec::new(),
    }
}

fn int(json: &Json) -> i64 {
    match json {
        Json::Null => 0,
        Json::String(digits) => digits.parse().expect("a number"),
        number => number.as_i64().expect("a number"),
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().into()
}

fn request(fields: &Json) -> Request {
    Request {
        req_identifier: int(&fields["ReqIdentifier"]).try_into().expect("32 bits"),
        token: text(&fields["Token"]),
        send_id: text(&fields["SendID"]),
        operation_id: text(&fields["OperationID"]),
        msg_incr: text(&fields["MsgIncr"]),
        data: bytes(&fields["Data"]).into(),
    }
}

/// The fields of an answer, with numbers of 64 bits.
type Answer = (i64, String, String, i64, String, Vec<u8>);

fn answer(fields: &Json) -> Answer {
    (
        int(&fields["ReqIdentifier"]),
        text(&fields["MsgIncr"]),
        text(&fields["OperationID"]),
        int(&fields["ErrCode"]),
        text(&fields["ErrMsg"]),
        bytes(&fields["Data"]),
    )
}

fn decode_answer(frame: &[u8]) -> Result<Answer, gob::DecodeError> {
    fn int(value: Option<Value<'_>>) -> i64 {
        match value {
            Some(Value::Int(number)) => number,
            None => 0,
            other => panic!("no number: {other:?}"),
        }
    }
    fn bytes(value: Option<Value<'_>>) -> Vec<u8> {
        match value {
            Some(Value::Bytes(bytes)) => bytes.into(),
            None => Vec::new(),
            other => panic!("no bytes: {other:?}"),
        }
    }
    fn text(value: Option<Value<'_>>) -> String {
        String::from_utf8(bytes(value)).expect("UTF-8")
    }
    let [id, msg_incr, operation_id, err_code, err_msg, data] = gob::decode(frame, &ANSWER)?;
    Ok((int(id), text(msg_incr), text(operation_id), int(err_code), text(err_msg), bytes(data)))
}

#[test]
fn requests_are_read_as_recorded() {
    let mut read = 0;
    for Vector { name, frame, json } in vectors() {
        let expected = &json["asRequest"];
        let got = decode_request(&frame, Encoding::Gob, false, LIMIT);
        match expected["ok"].as_bool() {
            Some(true) => {
                let got = got.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(got, request(&expected["fields"]), "{name}");
                read += 1;
            }
            Some(false) => {
                assert!(got.is_err(), "{name} must be refused");
                read += 1;
            }
            None => assert!(name.starts_with("server-") || json["gzip"] == true, "{name}"),
        }
    }
    assert_eq!(read, 55);
}

#[test]
fn answers_are_read_as_recorded() {
    let mut read = 0;
    for Vector { name, frame, json } in vectors() {
        let expected = &json["asResponse"];
        let narrow = decode_response(&frame, Encoding::Gob, false, LIMIT);
        match expected["ok"].as_bool() {
            Some(true) => {
                let expected = answer(&expected["fields"]);
                let got = decode_answer(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(got, expected, "{name}");
                let (id, msg_incr, operation_id, err_code, err_msg, data) = expected;
                match i32::try_from(err_code) {
                    Ok(err_code) => {
                        let expected = Response {
                            req_identifier: id.try_into().expect("32 bits"),
                            msg_incr,
                            operation_id,
                            err_code,
                            err_msg,
                            data: (!data.is_empty()).then(|| data.into()),
                        };
                        assert_eq!(narrow.expect("decodes"), expected, "{name}");
                    }
                    Err(_) => {
                        assert!(matches!(narrow, Err(EnvelopeError::OutOfRange("ErrCode"))));
                    }
                }
                read += 1;
            }
            Some(false) => {
                assert!(decode_answer(&frame).is_err() && narrow.is_err(), "{name}");
                read += 1;
            }
            None => assert!(name.starts_with("client-") || json["gzip"] == true, "{name}"),
        }
    }
    assert_eq!(read, 39);
}

#[test]
fn compressed_frames_are_read_as_the_plain_ones() {
    let vectors = vectors();
    let by_name: HashMap<&str, &Vector> = vectors.iter().map(|v| (v.name.as_str(), v)).collect();
    let mut read = 0;
    for vector in vectors.iter().filter(|vector| vector.json["gzip"] == true) {
        let plain = by_name[vector.json["gunzipsTo"].as_str().expect("a name")];
        if plain.name.starts_with("client-") {
            let got = decode_request(&vector.frame, Encoding::Gob, true, plain.frame.len());
            assert_eq!(got.expect("decodes"), request(&plain.json["asRequest"]["fields"]));
            let got = decode_request(&vector.frame, Encoding::Gob, true, plain.frame.len() - 1);
            assert!(matches!(got, Err(EnvelopeError::TooLarge(_))));
        } else {
            let got = decode_response(&vector.frame, Encoding::Gob, true, plain.frame.len());
            let plain = decode_response(&plain.frame, Encoding::Gob, false, LIMIT);
            assert_eq!(got.expect("decodes"), plain.expect("decodes"));
        }
        read += 1;
    }
    assert_eq!(read, 3);
}

/// The type definition message, and the id it defines.
fn definition(frame: &[u8]) -> (&[u8], i64) {
    let len = usize::from(frame[0]) + 1;
    match frame[1] {
        0x7f => (&frame[..len], 64),
        0xff => (&frame[..len], (i64::from(frame[2]) + 1) / 2),
        0xfe => (&frame[..len], (i64::from(frame[2]) * 256 + i64::from(frame[3]) + 1) / 2),
        other => panic!("unexpected first byte {other}"),
    }
}

#[test]
fn frames_are_written_as_recorded() {
    let (mut answers, mut requests) = (0, 0);
    for Vector { name, frame, json } in vectors() {
        let fields = &json["fields"];
        match json["struct"].as_str() {
            Some("Resp") => {
                let answer = answer(fields);
                let values = [
                    Value::Int(answer.0),
                    Value::Bytes(answer.1.as_bytes()),
                    Value::Bytes(answer.2.as_bytes()),
                    Value::Int(answer.3),
                    Value::Bytes(answer.4.as_bytes()),
                    Value::Bytes(&answer.5),
                ];
                let (definition, id) = definition(&frame);
                assert_eq!(gob::encode(definition, id, &values), frame, "{name}");
                answers += 1;
            }
            Some("GeneralWsReq") if json["sentBy"] == "client" => {
                let values = [
                    Value::Int(int(&fields["ReqIdentifier"])),
                    Value::Bytes(fields["Token"].as_str().expect("text").as_bytes()),
                    Value::Bytes(fields["SendID"].as_str().expect("text").as_bytes()),
                    Value::Bytes(fields["OperationID"].as_str().expect("text").as_bytes()),
                    Value::Bytes(fields["MsgIncr"].as_str().expect("text").as_bytes()),
                    Value::Bytes(&bytes(&fields["Data"])),
                ];
                let (definition, id) = definition(&frame);
                assert_eq!(gob::encode(definition, id, &values), frame, "{name}");
                requests += 1;
            }
            _ => {}
        }
    }
    assert_eq!((answers, requests), (16, 32));
}

#[test]
fn envelopes_are_written_with_type_id_65() {
    let vectors = vectors();
    let frame = |name: &str| {
        let vector = vectors.iter().find(|vector| vector.name == name).expect("is there");
        Bytes::copy_from_slice(&vector.frame)
    };
    let response = Response {
        req_identifier: 1001,
        msg_incr: "u1_op1".into(),
        operation_id: "op1".into(),
        data: Some(Bytes::from_static(b"\x01\x02\x03")),
        ..Response::default()
    };
    assert_eq!(encode_response(&response, Encoding::Gob, false), frame("server-ok-data-id65"));
    let kick = Response { req_identifier: 2002, ..Response::default() };
    assert_eq!(encode_response(&kick, Encoding::Gob, false), frame("server-kick-id65"));

    let request = Request {
        req_identifier: 1001,
        send_id: "u1".into(),
        operation_id: "op1".into(),
        msg_incr: "u1_op1".into(),
        data: Bytes::from_static(b"\x0a\x02u1"),
        token: String::new(),
    };
    assert_eq!(encode_request(&request, Encoding::Gob, false), frame("client-newest-seq-id65"));
    let zero = encode_request(&Request::default(), Encoding::Gob, false);
    assert_eq!(zero, frame("client-zero-id65"));
}
