/// Why bytes are no gob frame with the wanted struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame, or a part of it, ends too early.
    #[error("unexpected end")]
    End,
    /// A number of more than 64 bits.
    #[error("a number is too long")]
    Number,
    /// A type definition that is malformed, repeated, or one too many.
    #[error("bad type definition")]
    Definition,
    /// A value of a type that is not defined, is no struct, or cannot be read.
    #[error("unknown type")]
    UnknownType,
    /// A wanted field has another type.
    #[error("the field {0} has another type")]
    FieldType(&'static str),
    /// The struct has no field that is wanted.
    #[error("no known field")]
    NoKnownField,
    /// A field number beyond the definition.
    #[error("field number out of range")]
    FieldNumber,
    /// Skipped values are nested too deep.
    #[error("nested too deep")]
    Depth,
}

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::End)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::End)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Either the number itself below 128, or 256 minus the count of the big-endian bytes to come.
    pub(super) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let (&first, rest) = self.0.split_first().ok_or(DecodeError::End)?;
        self.0 = rest;
        if first < 128 {
            return Ok(first.into());
        }
        let len = 256 - u64::from(first);
        if len > 8 {
            return Err(DecodeError::Number);
        }
        Ok(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The lowest bit tells whether the others are inverted.
    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.unsigned()?;
        let bits = (number >> 1).cast_signed();
        Ok(if number & 1 == 0 { bits } else { !bits })
    }

    /// A string, bytes, or a whole message.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.unsigned()?;
        self.take(len)
    }

    /// The number of elements to come; each takes at least a byte.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| DecodeError::End)?;
        if count > self.0.len() { Err(DecodeError::End) } else { Ok(count) }
    }

    /// Steps to the next field of a struct; `None` at its end.
    pub(super) fn next_field(&mut self, last: Option<u64>) -> Result<Option<u64>, DecodeError> {
        match (self.unsigned()?, last) {
            (0, _) => Ok(None),
            (delta, None) => Ok(Some(delta - 1)),
            (delta, Some(last)) => {
                last.checked_add(delta).map(Some).ok_or(DecodeError::FieldNumber)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let signed = |bytes: &[u8]| Input(bytes).signed();
        for (bytes, number) in [
            (&b"\x00"[..], 0),
            (b"\x02", 1),
            (b"\x01", -1),
            (b"\x7e", 63),
            (b"\x7f", -64),
            (b"\xff\x80", 64),
            (b"\xff\x81", -65),
            (b"\xfe\x07\xd2", 1001),
            (b"\xfc\x00\x00\x07\xd2", 1001),
            (b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff", i64::MIN),
            (b"\xf8\xff\xff\xff\xff\xff\xff\xff\xfe", i64::MAX),
        ] {
            assert_eq!(signed(bytes), Ok(number));
        }
        assert_eq!(signed(b""), Err(DecodeError::End));
        assert_eq!(signed(b"\xfe\x01"), Err(DecodeError::End));
        assert_eq!(signed(b"\xf7123456789"), Err(DecodeError::Number));
        assert_eq!(signed(b"\x80"), Err(DecodeError::Number));
    }
}
