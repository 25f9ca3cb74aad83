//! Frames whose type definitions are built to do harm.
#![allow(clippy::expect_used)]

use proptest::prelude::*;
use proto::gob::{DecodeError, Field, Kind, Value, decode, encode};

const WANTED: [Field; 2] =
    [Field { name: "A", kind: Kind::Int }, Field { name: "B", kind: Kind::Bytes }];

fn unsigned(number: u64) -> Vec<u8> {
    if number < 128 {
        return vec![number as u8];
    }
    let bytes = number.to_be_bytes();
    let skip = bytes.iter().take_while(|&&byte| byte == 0).count();
    [&[(256 - (8 - skip)) as u8], &bytes[skip..]].concat()
}

fn signed(number: i64) -> Vec<u8> {
    unsigned(((number << 1) ^ (number >> 63)) as u64)
}

fn message(id: i64, body: &[u8]) -> Vec<u8> {
    let id = signed(id);
    [unsigned((id.len() + body.len()) as u64), id, body.to_vec()].concat()
}

/// Defines a struct with these fields.
fn structure(id: i64, fields: &[(&str, i64)]) -> Vec<u8> {
    // The name and the id of the type are left out.
    let mut body = [vec![3, 2], unsigned(fields.len() as u64)].concat();
    for (name, id) in fields {
        body.push(1);
        body.extend(unsigned(name.len() as u64));
        body.extend(name.as_bytes());
        body.push(1);
        body.extend(signed(*id));
        body.push(0);
    }
    body.extend([0, 0]);
    message(-id, &body)
}

/// Defines a slice.
fn list(id: i64, element: i64) -> Vec<u8> {
    message(-id, &[vec![2, 2], signed(element), vec![0, 0]].concat())
}

/// Defines a map.
fn map(id: i64, key: i64, element: i64) -> Vec<u8> {
    message(-id, &[vec![4, 2], signed(key), vec![1], signed(element), vec![0, 0]].concat())
}

fn refused(frame: &[u8]) -> DecodeError {
    decode(frame, &WANTED).expect_err("must be refused")
}

#[test]
fn values_of_unknown_fields_are_skipped() {
    let frame = [
        structure(70, &[("x", 71), ("y", 72), ("A", 2), ("z", 7)]),
        list(71, 73),
        map(72, 6, 71),
        structure(73, &[("p", 3), ("q", 6)]),
        message(
            70,
            &[
                &[1, 2][..],
                &[1, 9, 1, 1, b's', 0, 2, 0, 0], // x: two structs
                &[1, 1, 1, b'k', 1, 1, 8, 0],    // y: k -> one struct
                &[1, 10],                        // A
                &[1, 3, 4, 0],                   // z
            ]
            .concat(),
        ),
    ]
    .concat();
    assert_eq!(decode(&frame, &WANTED), Ok([Some(Value::Int(5)), None]));
}

#[test]
fn a_type_may_not_nest_for_ever() {
    let frame = |value: &[u8]| {
        [structure(70, &[("x", 71), ("A", 2)]), list(71, 71), message(70, value)].concat()
    };
    let nested = |depth: usize| [vec![1], vec![1; depth], vec![0, 1, 10, 0]].concat();
    assert_eq!(decode(&frame(&nested(5)), &WANTED), Ok([Some(Value::Int(5)), None]));
    assert_eq!(refused(&frame(&nested(10_000))), DecodeError::Depth);
}

#[test]
fn counts_and_lengths_are_checked_against_what_is_left() {
    let huge = unsigned(u64::MAX);
    let field = |id| structure(70, &[("x", id), ("A", 2)]);
    for frame in [
        [field(71), list(71, 2), message(70, &[&[1][..], &huge].concat())].concat(),
        [field(71), map(71, 2, 2), message(70, &[&[1][..], &huge].concat())].concat(),
        [field(6), message(70, &[&[1][..], &huge].concat())].concat(),
        [vec![], huge.clone(), vec![0; 10]].concat(),
        message(-70, &[&[3, 2][..], &huge].concat()),
    ] {
        assert_eq!(refused(&frame), DecodeError::End);
    }
    let beyond = [field(6), message(70, &[&[1, 0][..], &huge].concat())].concat();
    assert_eq!(refused(&beyond), DecodeError::FieldNumber);
}

#[test]
fn definitions_are_bounded() {
    let fields = vec![("A", 2); 65];
    assert_eq!(refused(&structure(70, &fields)), DecodeError::Definition);
    let many: Vec<u8> = (70..103).flat_map(|id| list(id, 2)).collect();
    assert_eq!(refused(&many), DecodeError::Definition);
    let enough: Vec<u8> = (70..102).flat_map(|id| list(id, 2)).collect();
    assert_eq!(refused(&enough), DecodeError::End);
    assert_eq!(refused(&list(63, 2)), DecodeError::Definition);
    assert_eq!(refused(&[list(70, 2), list(70, 2)].concat()), DecodeError::Definition);
    // Two sorts at once, one too many field, a rest.
    for body in [&b"\x02\0\x01\0\0"[..], b"\x02\x04\x02\0\0", b"\x08\0\0", b"\0", b"\x02\0\0\0"] {
        assert_eq!(refused(&message(-70, body)), DecodeError::Definition);
    }
    assert_eq!(refused(&message(i64::MIN, b"\x02\0\0")), DecodeError::Definition);
}

#[test]
fn the_value_must_be_of_a_struct_with_known_fields() {
    assert_eq!(refused(&message(70, b"\0")), DecodeError::UnknownType);
    assert_eq!(refused(&message(2, b"\0\x02")), DecodeError::UnknownType);
    assert_eq!(refused(&[list(70, 2), message(70, b"\0")].concat()), DecodeError::UnknownType);
    let other = [structure(70, &[("C", 2)]), message(70, b"\0")].concat();
    assert_eq!(refused(&other), DecodeError::NoKnownField);
    let unsigned = [structure(70, &[("A", 3)]), message(70, b"\0")].concat();
    assert_eq!(refused(&unsigned), DecodeError::FieldType("A"));
    for id in [0, 8, 9, 63, 71, -5] {
        let unknown = [structure(70, &[("x", id), ("A", 2)]), message(70, b"\x01\0\0")].concat();
        assert_eq!(refused(&unknown), DecodeError::UnknownType);
    }
}

fn any_definition() -> impl Strategy<Value = Vec<u8>> {
    let id = || 64..70i64;
    let element = || prop_oneof![0..9i64, 64..70i64];
    prop_oneof![
        (id(), element()).prop_map(|(id, element)| list(id, element)),
        (id(), element(), element()).prop_map(|(id, key, element)| map(id, key, element)),
        (id(), proptest::collection::vec((prop_oneof![Just("A"), Just("x")], element()), 0..4))
            .prop_map(|(id, fields)| structure(id, &fields)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(number in any::<i64>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let definition = structure(70, &[("A", 2), ("B", 5)]);
        let frame = encode(&definition, 70, &[Value::Int(number), Value::Bytes(&bytes)]);
        let number = (number != 0).then_some(Value::Int(number));
        let bytes = (!bytes.is_empty()).then_some(Value::Bytes(&bytes));
        prop_assert_eq!(decode(&frame, &WANTED), Ok([number, bytes]));
    }

    #[test]
    fn any_types_with_any_value_do_no_harm(
        definitions in proptest::collection::vec(any_definition(), 0..6),
        value in proptest::collection::vec(prop_oneof![0..5u8, any::<u8>()], 0..200),
    ) {
        let main = structure(70, &[("A", 2), ("x", 64), ("y", 65)]);
        let frame = [main, definitions.concat(), message(70, &value)].concat();
        let _ = decode(&frame, &WANTED);
    }
}
