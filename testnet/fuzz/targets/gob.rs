//! Any bytes as a gob frame of a few fields. What is read must survive writing and reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::gob::{Field, Kind, Value, decode, encode};

const FIELDS: [Field; 3] = [
    Field { name: "ReqIdentifier", kind: Kind::Int },
    Field { name: "SendID", kind: Kind::Text },
    Field { name: "Data", kind: Kind::Bytes },
];

/// Defines a type 65 with these fields.
const DEFINITION: &[u8] = b"\x2d\xff\x81\x03\x02\x03\
    \x01\x0dReqIdentifier\x01\x04\0\x01\x06SendID\x01\x0c\0\x01\x04Data\x01\x0a\0\0\0";

fuzz_target!(|frame: &[u8]| {
    let Ok(values) = decode(frame, &FIELDS) else { return };
    let zero = |value: &Value<'_>| matches!(value, Value::Int(0) | Value::Bytes([]));
    let values = values.map(|value| value.filter(|value| !zero(value)));
    let written = encode(DEFINITION, 65, &values.map(|value| value.unwrap_or(Value::Int(0))));
    assert_eq!(decode(&written, &FIELDS).expect("own frames are read"), values);
});
