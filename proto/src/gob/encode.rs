use super::Value;

/// Writes a frame: a ready-made type definition message, then a value of that type.
///
/// `values` are in the order of the definition; zero and empty ones are left out.
pub fn encode(definition: &[u8], type_id: i64, values: &[Value<'_>]) -> Vec<u8> {
    const END: u64 = 0;
    let mut len = signed_len(type_id) + unsigned_len(END);
    for (delta, value) in sent(values) {
        len += unsigned_len(delta)
            + match value {
                Value::Int(number) => signed_len(number),
                Value::Bytes(bytes) => unsigned_len(bytes.len() as u64) + bytes.len(),
            };
    }

    let mut frame = Vec::with_capacity(definition.len() + unsigned_len(len as u64) + len);
    frame.extend_from_slice(definition);
    push_unsigned(&mut frame, len as u64);
    push_signed(&mut frame, type_id);
    for (delta, value) in sent(values) {
        push_unsigned(&mut frame, delta);
        match value {
            Value::Int(number) => push_signed(&mut frame, number),
            Value::Bytes(bytes) => {
                push_unsigned(&mut frame, bytes.len() as u64);
                frame.extend_from_slice(bytes);
            }
        }
    }
    push_unsigned(&mut frame, END);
    frame
}

/// The values that are not zero, each with its distance to the one sent before.
fn sent<'a>(values: &[Value<'a>]) -> impl Iterator<Item = (u64, Value<'a>)> {
    let mut delta = 0;
    values.iter().filter_map(move |&value| {
        delta += 1;
        let zero = matches!(value, Value::Int(0) | Value::Bytes([]));
        (!zero).then(|| (std::mem::take(&mut delta), value))
    })
}

/// The bytes of a number without leading zeros.
const fn byte_count(number: u64) -> usize {
    (8 - number.leading_zeros() / 8) as usize
}

const fn unsigned_len(number: u64) -> usize {
    if number < 128 { 1 } else { 1 + byte_count(number) }
}

fn signed_len(number: i64) -> usize {
    unsigned_len(zigzag(number))
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn push_unsigned(frame: &mut Vec<u8>, number: u64) {
    if number < 128 {
        frame.push(number as u8);
    } else {
        let count = byte_count(number);
        frame.push((256 - count) as u8);
        frame.extend(number.to_be_bytes().into_iter().skip(8 - count));
    }
}

fn push_signed(frame: &mut Vec<u8>, number: i64) {
    push_unsigned(frame, zigzag(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, bytes) in [
            (0, &b"\x00"[..]),
            (127, b"\x7f"),
            (128, b"\xff\x80"),
            (255, b"\xff\xff"),
            (256, b"\xfe\x01\x00"),
            (65_536, b"\xfd\x01\x00\x00"),
            (u64::MAX, b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            push_unsigned(&mut out, number);
            assert_eq!(out, bytes);
            assert_eq!(unsigned_len(number), bytes.len());
        }
        for (number, bytes) in [
            (1, &b"\x02"[..]),
            (-1, b"\x01"),
            (64, b"\xff\x80"),
            (-65, b"\xff\x81"),
            (1001, b"\xfe\x07\xd2"),
            (i64::MIN, b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            push_signed(&mut out, number);
            assert_eq!(out, bytes);
        }
    }
}
