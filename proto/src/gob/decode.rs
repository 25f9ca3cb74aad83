use super::definition::{
    BOOL, BYTES, COMPLEX, FIRST_DEFINED, FLOAT, INT, STRING, Type, Types, UINT,
};
use super::input::{DecodeError, Input};
use super::{Field, Kind, Value};

/// Deepest nesting of a skipped value.
const MAX_DEPTH: usize = 16;

/// Reads the first value of a frame into `fields`, which keep their order; what the frame leaves
/// out is `None`. Nothing is copied.
pub fn decode<'a, const N: usize>(
    frame: &'a [u8],
    fields: &[Field; N],
) -> Result<[Option<Value<'a>>; N], DecodeError> {
    let mut frame = Input(frame);
    let mut types = Types::default();
    loop {
        let mut message = Input(frame.bytes()?);
        let id = message.signed()?;
        if id >= 0 {
            return read(&types, id, message, fields);
        }
        let id = id.checked_neg().ok_or(DecodeError::Definition)?;
        types.define(id, message)?;
    }
}

fn read<'a, const N: usize>(
    types: &Types<'a>,
    id: i64,
    mut input: Input<'a>,
    wanted: &[Field; N],
) -> Result<[Option<Value<'a>>; N], DecodeError> {
    let Some(Type::Struct(sent)) = types.get(id) else { return Err(DecodeError::UnknownType) };
    let find =
        |name: &[u8]| wanted.iter().enumerate().find(|(_, field)| field.name.as_bytes() == name);
    let mut known = false;
    for (name, type_id) in sent {
        if let Some((_, field)) = find(name) {
            if field.kind.type_id() != *type_id {
                return Err(DecodeError::FieldType(field.name));
            }
            known = true;
        }
    }
    if !known {
        return Err(DecodeError::NoKnownField);
    }

    let mut values = [None; N];
    let mut last = None;
    // The end of the message may stand for the end of the struct.
    while !input.is_empty()
        && let Some(index) = input.next_field(last)?
    {
        let (name, type_id) = field_at(sent, index)?;
        match find(name) {
            Some((place, field)) => {
                let value = match field.kind {
                    Kind::Int => Value::Int(input.signed()?),
                    Kind::Text | Kind::Bytes => Value::Bytes(input.bytes()?),
                };
                if let Some(slot) = values.get_mut(place) {
                    *slot = Some(value);
                }
            }
            None => skip(types, type_id, &mut input, MAX_DEPTH)?,
        }
        last = Some(index);
    }
    Ok(values)
}

fn field_at<'a>(fields: &[(&'a [u8], i64)], index: u64) -> Result<(&'a [u8], i64), DecodeError> {
    let field = usize::try_from(index).ok().and_then(|index| fields.get(index));
    field.copied().ok_or(DecodeError::FieldNumber)
}

fn skip(
    types: &Types<'_>,
    id: i64,
    input: &mut Input<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    match id {
        BOOL | INT | UINT | FLOAT => input.unsigned().map(drop),
        COMPLEX => {
            input.unsigned()?;
            input.unsigned().map(drop)
        }
        BYTES | STRING => input.bytes().map(drop),
        FIRST_DEFINED.. => {
            let depth = depth.checked_sub(1).ok_or(DecodeError::Depth)?;
            match types.get(id).ok_or(DecodeError::UnknownType)? {
                Type::List { element } => {
                    for _ in 0..input.count()? {
                        skip(types, *element, input, depth)?;
                    }
                }
                Type::Map { key, element } => {
                    for _ in 0..input.count()? {
                        skip(types, *key, input, depth)?;
                        skip(types, *element, input, depth)?;
                    }
                }
                Type::Struct(fields) => {
                    let mut last = None;
                    while let Some(index) = input.next_field(last)? {
                        skip(types, field_at(fields, index)?.1, input, depth)?;
                        last = Some(index);
                    }
                }
                Type::Opaque => drop(input.bytes()?),
            }
            Ok(())
        }
        _ => Err(DecodeError::UnknownType),
    }
}
