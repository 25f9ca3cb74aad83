//! Properties of the gateway envelopes: what is written is read again, and nothing that a client
//! may send does harm.
#![allow(clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use proto::envelope::{
    Encoding, Request, Response, decode_request, decode_response, encode_request, encode_response,
};

const LIMIT: usize = 1 << 20;

const FORMS: [(Encoding, bool); 4] = [
    (Encoding::Gob, false),
    (Encoding::Gob, true),
    (Encoding::Json, false),
    (Encoding::Json, true),
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-z_]{0,24}",
        proptest::collection::vec(any::<char>(), 0..80).prop_map(String::from_iter),
        "[<>&\"\\\\\u{0}-\u{1f}\u{7f}\u{2028}\u{2029}]{0,10}",
    ]
}

fn data() -> impl Strategy<Value = Bytes> {
    let bytes = |len| proptest::collection::vec(any::<u8>(), len).prop_map(Bytes::from);
    prop_oneof![
        20 => bytes(0..300),
        3 => bytes(900..1_400),
        1 => bytes(60_000..70_000),
        1 => (0..200_000usize).prop_map(|len| Bytes::from(vec![7; len])),
    ]
}

prop_compose! {
    fn request()(
        req_identifier in any::<i32>(),
        token in text(),
        send_id in text(),
        operation_id in text(),
        msg_incr in text(),
        data in data(),
    ) -> Request {
        Request { req_identifier, token, send_id, operation_id, msg_incr, data }
    }
}

prop_compose! {
    fn response()(
        req_identifier in any::<i32>(),
        msg_incr in text(),
        operation_id in text(),
        err_code in any::<i32>(),
        err_msg in text(),
        data in proptest::option::of(data()),
    ) -> Response {
        Response { req_identifier, msg_incr, operation_id, err_code, err_msg, data }
    }
}

/// A frame that is nearly right: bytes are overwritten, removed and put in.
fn damaged() -> impl Strategy<Value = (Vec<u8>, Encoding, bool)> {
    let frame = (request(), response(), any::<bool>(), 0..FORMS.len()).prop_map(
        |(mut request, mut response, is_request, form)| {
            request.data.truncate(2_000);
            response.data = response.data.map(|data| data.slice(..data.len().min(2_000)));
            let (encoding, gzip) = FORMS[form];
            let frame = if is_request {
                encode_request(&request, encoding, gzip)
            } else {
                encode_response(&response, encoding, gzip)
            };
            (frame.to_vec(), encoding, gzip)
        },
    );
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (frame, proptest::collection::vec(edit, 1..8)).prop_map(
        |((mut frame, encoding, gzip), edits)| {
            for (at, byte, edit) in edits {
                // The beginning holds what the structure hangs on.
                let len = if edit % 2 == 0 { frame.len() } else { frame.len().min(130) };
                if len == 0 {
                    break;
                }
                let at = at.index(len);
                match edit {
                    0 | 1 => frame[at] = byte,
                    2 => frame.insert(at, byte),
                    _ => drop(frame.remove(at)),
                }
            }
            (frame, encoding, gzip)
        },
    )
}

/// Reads in every way; what is read is within the limit.
fn read(frame: &[u8], encoding: Encoding, gzip: bool, limit: usize) {
    // Three bytes at most come from one: a byte that is no UTF-8 turns into U+FFFD.
    let most = limit * 3;
    if let Ok(Request { token, send_id, operation_id, msg_incr, data, .. }) =
        decode_request(frame, encoding, gzip, limit)
    {
        let texts = token.len() + send_id.len() + operation_id.len() + msg_incr.len();
        assert!(texts + data.len() <= most);
    }
    if let Ok(Response { operation_id, msg_incr, err_msg, data, .. }) =
        decode_response(frame, encoding, gzip, limit)
    {
        let texts = operation_id.len() + msg_incr.len() + err_msg.len();
        assert!(texts + data.unwrap_or_default().len() <= most);
    }
}

proptest! {
    #[test]
    fn requests_come_back(request in request()) {
        for (encoding, gzip) in FORMS {
            let frame = encode_request(&request, encoding, gzip);
            let back = decode_request(&frame, encoding, gzip, LIMIT).expect("decodes");
            prop_assert_eq!(&back, &request);
        }
    }

    #[test]
    fn responses_come_back(mut response in response()) {
        for (encoding, gzip) in FORMS {
            let frame = encode_response(&response, encoding, gzip);
            let back = decode_response(&frame, encoding, gzip, LIMIT).expect("decodes");
            if encoding == Encoding::Gob {
                // No bytes and no data are the same in gob.
                let data = response.data.clone().unwrap_or_default();
                let back = Response { data: Some(back.data.unwrap_or_default()), ..back };
                prop_assert_eq!(&back, &Response { data: Some(data), ..response.clone() });
            } else {
                prop_assert_eq!(&back, &response);
            }
        }
        // The JSON is what any reader of JSON understands.
        response.data = Some(Bytes::new());
        let frame = encode_response(&response, Encoding::Json, false);
        let json: serde_json::Value = serde_json::from_slice(&frame).expect("is JSON");
        prop_assert_eq!(json, serde_json::json!({
            "reqIdentifier": response.req_identifier,
            "msgIncr": response.msg_incr,
            "operationID": response.operation_id,
            "errCode": response.err_code,
            "errMsg": response.err_msg,
            "data": "",
        }));
    }

    #[test]
    fn the_limit_is_exact(request in request()) {
        for (encoding, gzip) in FORMS {
            let frame = encode_request(&request, encoding, gzip);
            let plain = encode_request(&request, encoding, false).len();
            prop_assert!(decode_request(&frame, encoding, gzip, plain).is_ok());
            prop_assert!(decode_request(&frame, encoding, gzip, plain - 1).is_err());
        }
    }

    #[test]
    fn a_cut_frame_is_refused(request in request(), at in any::<prop::sample::Index>()) {
        for (encoding, gzip) in FORMS {
            let frame = encode_request(&request, encoding, gzip);
            let cut = &frame[..at.index(frame.len())];
            prop_assert!(decode_request(cut, encoding, gzip, LIMIT).is_err());
        }
    }

    #[test]
    fn random_bytes_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        limit in 0..2_000usize,
    ) {
        for (encoding, gzip) in FORMS {
            read(&bytes, encoding, gzip, limit);
        }
    }

    #[test]
    fn damaged_frames_do_no_harm((frame, encoding, gzip) in damaged(), limit in 0..4_000usize) {
        read(&frame, encoding, gzip, limit);
        read(&frame, encoding, gzip, LIMIT);
    }

    /// Random deflate data behind a sound header, with any announced length.
    #[test]
    fn random_deflate_data_does_no_harm(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        len in prop_oneof![0..5_000u32, any::<u32>()],
        limit in 0..5_000usize,
    ) {
        let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let member = [&header[..], &body, &[0; 4], &len.to_le_bytes()].concat();
        for encoding in [Encoding::Gob, Encoding::Json] {
            read(&member, encoding, true, limit);
        }
    }
}
