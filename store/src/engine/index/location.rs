//! Where a record of the value log is.

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    /// Of its first byte.
    pub(super) offset: u32,
    /// In bytes, all of it.
    pub(super) length: u32,
}

impl Location {
    pub(super) fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.segment.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_be_bytes());
        bytes[8..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let number = u32::from_be_bytes;
        Self {
            segment: number([a, b, c, d]),
            offset: number([e, f, g, h]),
            length: number([i, j, k, l]),
        }
    }
}
