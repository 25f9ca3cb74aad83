//! Any bytes as a gateway frame, in every encoding. What is read must survive writing and reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::envelope::{Encoding, decode_request, decode_response, encode_request, encode_response};

const LIMIT: usize = 256 * 1024;
/// Bytes that are no UTF-8 become three, and JSON escapes at most six.
const LIMIT_WRITTEN: usize = 18 * LIMIT + 1024;

fuzz_target!(|frame: &[u8]| {
    for encoding in [Encoding::Gob, Encoding::Json] {
        for gzip in [false, true] {
            if let Ok(request) = decode_request(frame, encoding, gzip, LIMIT) {
                let written = encode_request(&request, encoding, gzip);
                let read = decode_request(&written, encoding, gzip, LIMIT_WRITTEN);
                assert_eq!(read.expect("own frames are read"), request);
            }
            if let Ok(response) = decode_response(frame, encoding, gzip, LIMIT) {
                let written = encode_response(&response, encoding, gzip);
                let read = decode_response(&written, encoding, gzip, LIMIT_WRITTEN);
                assert_eq!(read.expect("own frames are read"), response);
            }
        }
    }
});
