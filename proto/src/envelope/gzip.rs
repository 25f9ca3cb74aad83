//! One gzip member (RFC 1952) around one envelope.

use std::cell::RefCell;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::EnvelopeError;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const HEADER: [u8; 10] = [MAGIC[0], MAGIC[1], DEFLATE, 0, 0, 0, 0, 0, 0, 0xff];
const TRAILER_LEN: usize = 8;

/// Up to here compressing costs more than it saves.
const STORED_LEN: usize = 1024;

/// The most bytes that one byte of a deflate stream can stand for.
const MAX_RATIO: usize = 1032;

mod flag {
    pub(super) const HEADER_CRC: u8 = 1 << 1;
    pub(super) const EXTRA: u8 = 1 << 2;
    pub(super) const NAME: u8 = 1 << 3;
    pub(super) const COMMENT: u8 = 1 << 4;
    pub(super) const RESERVED: u8 = 0b1110_0000;
}

/// Why bytes are not one gzip member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// No gzip header, or one with unknown features.
    #[error("no gzip header")]
    Header,
    /// The compressed data is damaged or cut off.
    #[error("damaged deflate stream")]
    Deflate,
    /// Length or checksum differ from what the trailer says, or bytes follow it.
    #[error("wrong gzip trailer")]
    Trailer,
}

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

/// Compresses into one gzip member.
pub(super) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut member = Vec::with_capacity(HEADER.len() + content.len() + content.len() / 64 + 64);
    member.extend_from_slice(&HEADER);
    match u16::try_from(content.len()) {
        Ok(len) if content.len() <= STORED_LEN => {
            const LAST_STORED_BLOCK: u8 = 1;
            member.push(LAST_STORED_BLOCK);
            member.extend_from_slice(&len.to_le_bytes());
            member.extend_from_slice(&(!len).to_le_bytes());
            member.extend_from_slice(content);
        }
        _ => COMPRESS.with_borrow_mut(|compress| {
            compress.reset();
            loop {
                let rest = content.get(compress.total_in() as usize..).unwrap_or_default();
                match compress.compress_vec(rest, &mut member, FlushCompress::Finish) {
                    Ok(Status::StreamEnd) | Err(_) => break,
                    Ok(Status::Ok | Status::BufError) => member.reserve(content.len() / 2),
                }
            }
        }),
    }
    let mut crc = Crc::new();
    crc.update(content);
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&(content.len() as u32).to_le_bytes());
    member
}

/// Inflates exactly one gzip member of at most `limit` bytes.
///
/// The trailer tells the length, so memory is asked for once, and never more than the limit or
/// than the compressed bytes could stand for.
pub(super) fn inflate(member: &[u8], limit: usize) -> Result<Vec<u8>, EnvelopeError> {
    let body = skip_header(member).ok_or(GzipError::Header)?;
    let (body, trailer) = body.split_last_chunk::<TRAILER_LEN>().ok_or(GzipError::Deflate)?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > limit {
        return Err(EnvelopeError::TooLarge(limit));
    }
    if len > body.len().saturating_mul(MAX_RATIO) {
        return Err(GzipError::Trailer.into());
    }

    // One byte more than announced, to see whether there is more.
    let mut content = Vec::with_capacity(len + 1);
    let consumed = DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        let status = decompress.decompress_vec(body, &mut content, FlushDecompress::Finish);
        match status {
            Ok(Status::StreamEnd) => Ok(decompress.total_in()),
            _ if content.len() > len => Err(GzipError::Trailer),
            _ => Err(GzipError::Deflate),
        }
    })?;
    let mut crc = Crc::new();
    crc.update(&content);
    let sound = consumed == body.len() as u64
        && content.len() == len
        && crc.sum() == u32::from_le_bytes([c0, c1, c2, c3]);
    if sound { Ok(content) } else { Err(GzipError::Trailer.into()) }
}

/// What follows the header.
fn skip_header(member: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = member.split_first_chunk::<{ HEADER.len() }>()?;
    let [magic @ .., _, _, _, _, _, _] = header;
    let [m0, m1, method, flags] = *magic;
    if [m0, m1] != MAGIC || method != DEFLATE || flags & flag::RESERVED != 0 {
        return None;
    }
    if flags & flag::EXTRA != 0 {
        let (len, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(u16::from_le_bytes(*len).into()..)?;
    }
    for text in [flag::NAME, flag::COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & flag::HEADER_CRC != 0 {
        let mut crc = Crc::new();
        crc.update(member.get(..member.len() - rest.len())?);
        let (sum, after) = rest.split_first_chunk::<2>()?;
        if u16::from_le_bytes(*sum) != crc.sum() as u16 {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i % 251) as u8).collect()
    }

    #[test]
    fn whatever_goes_in_comes_out() {
        for len in [0, 1, STORED_LEN, STORED_LEN + 1, 65_535, 65_536, 300_000] {
            let content = sample(len);
            let member = deflate(&content);
            assert_eq!(inflate(&member, len).expect("inflates"), content, "{len}");
            assert!(len == 0 || inflate(&member, len - 1).is_err());
        }
    }

    #[test]
    fn other_readers_accept_it() {
        use std::io::Read as _;
        for len in [0, 100, 5_000] {
            let content = sample(len);
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&deflate(&content)[..])
                .read_to_end(&mut read)
                .expect("is gzip");
            assert_eq!(read, content);
        }
    }

    #[test]
    fn members_of_other_writers_are_read() {
        use std::io::Write as _;
        let content = sample(3_000);
        for level in [Compression::none(), Compression::fast(), Compression::best()] {
            let mut writer = flate2::GzBuilder::new()
                .extra(vec![1, 2, 3])
                .filename("name")
                .comment("comment")
                .write(Vec::new(), level);
            for part in content.chunks(700) {
                writer.write_all(part).expect("is written");
                writer.flush().expect("starts another block");
            }
            let member = writer.finish().expect("is written");
            assert_eq!(inflate(&member, 3_000).expect("inflates"), content);
        }
    }

    #[test]
    fn only_one_sound_member_is_accepted() {
        let member = deflate(&sample(2_000));
        let twice = [&member[..], &member[..]].concat();
        assert!(inflate(&twice, 10_000).is_err());
        assert!(inflate(&[&member[..], b"x"].concat(), 10_000).is_err());
        for len in 0..member.len() {
            assert!(inflate(&member[..len], 10_000).is_err(), "cut to {len}");
        }
        for at in (0..2).chain(member.len() - TRAILER_LEN..member.len()) {
            let mut damaged = member.clone();
            damaged[at] ^= 1;
            assert!(inflate(&damaged, 10_000).is_err(), "damaged at {at}");
        }
        assert!(inflate(b"{}", 10_000).is_err());
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_announces() {
        let bomb = deflate(&vec![0; 10_000_000]);
        assert!(matches!(inflate(&bomb, 100_000), Err(EnvelopeError::TooLarge(100_000))));
        let mut liar = bomb;
        let at = liar.len() - 4;
        liar[at..].copy_from_slice(&1_000u32.to_le_bytes());
        assert!(matches!(
            inflate(&liar, 100_000),
            Err(EnvelopeError::Gzip(GzipError::Trailer | GzipError::Deflate))
        ));
        let mut short = deflate(b"x");
        let at = short.len() - 4;
        short[at..].copy_from_slice(&90_000u32.to_le_bytes());
        assert!(matches!(inflate(&short, 100_000), Err(EnvelopeError::Gzip(GzipError::Trailer))));
    }
}
