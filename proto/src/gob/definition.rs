use super::input::{DecodeError, Input};

pub(super) const BOOL: i64 = 1;
pub(super) const INT: i64 = 2;
pub(super) const UINT: i64 = 3;
pub(super) const FLOAT: i64 = 4;
pub(super) const BYTES: i64 = 5;
pub(super) const STRING: i64 = 6;
pub(super) const COMPLEX: i64 = 7;

/// The first id of a type that the frame defines itself.
pub(super) const FIRST_DEFINED: i64 = 64;

/// Most types in one frame; clients define one.
const MAX_TYPES: usize = 32;
/// Most fields of one struct; clients have six.
const MAX_FIELDS: usize = 64;

/// A type that a frame defines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Type<'a> {
    /// Slices and arrays look alike.
    List {
        element: i64,
    },
    Struct(Vec<(&'a [u8], i64)>),
    Map {
        key: i64,
        element: i64,
    },
    /// A type that writes its own bytes.
    Opaque,
}

/// The types defined so far.
#[derive(Debug, Default)]
pub(super) struct Types<'a>(Vec<(i64, Type<'a>)>);

impl<'a> Types<'a> {
    /// Reads the definition of the type `id` from the rest of a message.
    pub(super) fn define(&mut self, id: i64, mut message: Input<'a>) -> Result<(), DecodeError> {
        if id < FIRST_DEFINED || self.0.len() >= MAX_TYPES || self.get(id).is_some() {
            return Err(DecodeError::Definition);
        }
        let definition = read(&mut message)?;
        if !message.is_empty() {
            return Err(DecodeError::Definition);
        }
        self.0.push((id, definition));
        Ok(())
    }

    pub(super) fn get(&self, id: i64) -> Option<&Type<'a>> {
        self.0.iter().find(|(defined, _)| *defined == id).map(|(_, definition)| definition)
    }
}

/// A struct with one field for each sort of type, of which exactly one is set.
fn read<'a>(input: &mut Input<'a>) -> Result<Type<'a>, DecodeError> {
    let sort = input.next_field(None)?.ok_or(DecodeError::Definition)?;
    let definition = match sort {
        0 | 1 => {
            let [element, _] = read_parts(input, 2 - sort)?;
            Type::List { element }
        }
        2 => Type::Struct(read_struct(input)?),
        3 => {
            let [key, element] = read_parts(input, 2)?;
            Type::Map { key, element }
        }
        4..=6 => {
            read_parts(input, 0)?;
            Type::Opaque
        }
        _ => return Err(DecodeError::Definition),
    };
    match input.next_field(Some(sort))? {
        None => Ok(definition),
        Some(_) => Err(DecodeError::Definition),
    }
}

/// What all sorts have first, then up to `count` numbers.
fn read_parts(input: &mut Input<'_>, count: u64) -> Result<[i64; 2], DecodeError> {
    let mut parts = [0; 2];
    let mut last = None;
    while let Some(field) = input.next_field(last)? {
        match (field, parts.get_mut(field.wrapping_sub(1) as usize)) {
            (0, _) => skip_common(input)?,
            (1.., Some(part)) if field <= count => *part = input.signed()?,
            _ => return Err(DecodeError::Definition),
        }
        last = Some(field);
    }
    Ok(parts)
}

fn read_struct<'a>(input: &mut Input<'a>) -> Result<Vec<(&'a [u8], i64)>, DecodeError> {
    let mut fields = Vec::new();
    let mut last = None;
    while let Some(field) = input.next_field(last)? {
        match field {
            0 => skip_common(input)?,
            1 => {
                let count = input.count()?;
                if count > MAX_FIELDS {
                    return Err(DecodeError::Definition);
                }
                fields.reserve_exact(count);
                for _ in 0..count {
                    fields.push(read_name_and_id(input)?);
                }
            }
            _ => return Err(DecodeError::Definition),
        }
        last = Some(field);
    }
    Ok(fields)
}

/// The name of a type and, once more, its id.
fn skip_common(input: &mut Input<'_>) -> Result<(), DecodeError> {
    read_name_and_id(input).map(drop)
}

fn read_name_and_id<'a>(input: &mut Input<'a>) -> Result<(&'a [u8], i64), DecodeError> {
    let (mut name, mut id) = (&[][..], 0);
    let mut last = None;
    while let Some(field) = input.next_field(last)? {
        match field {
            0 => name = input.bytes()?,
            1 => id = input.signed()?,
            _ => return Err(DecodeError::Definition),
        }
        last = Some(field);
    }
    Ok((name, id))
}
