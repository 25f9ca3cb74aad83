//! Thumbnails of pictures, kept on disk as long as there are few of a picture.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::folder::{TempFile, blocking, create_folder};
use crate::Services;
use crate::error::{Result, ServiceError};

/// Largest file a thumbnail is made of.
pub(super) const MAX_SOURCE_BYTES: i64 = 50 << 20;
/// Larger thumbnails are not made: the original is as good.
const MAX_SIDE: i64 = 1_024;
/// Most pixels of a picture that is decoded.
const MAX_PIXELS: u64 = 64 << 20;
/// Most memory for a decoded picture.
const MAX_DECODED_BYTES: u64 = 256 << 20;
/// Thumbnails that are kept of one picture.
const MAX_KEPT: usize = 32;
const JPEG_QUALITY: u8 = 75;

/// Formats of thumbnails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Gif,
}

impl Format {
    /// Picture types that may be shown in a browser.
    pub(super) const SHOWN: [&str; 6] =
        ["image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp", "image/bmp"];

    fn named(name: &str) -> Option<Self> {
        match name {
            "png" => Some(Self::Png),
            "jpeg" => Some(Self::Jpeg),
            "gif" => Some(Self::Gif),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    width: i64,
    height: i64,
    format: Option<Format>,
}

impl Shape {
    pub(super) fn read(width: &str, height: &str, format: &str) -> Self {
        let format = format.to_ascii_lowercase();
        let format = if format == "jpg" { "jpeg" } else { &format };
        Self {
            width: width.parse().unwrap_or(0),
            height: height.parse().unwrap_or(0),
            format: Format::named(format),
        }
    }

    /// The original is asked for.
    pub(super) fn is_original(self) -> bool {
        self.width > MAX_SIDE
            || self.height > MAX_SIDE
            || (self.width < 0 && self.height < 0 && self.format.is_none())
    }

    /// Width and height of the thumbnail of a picture: inside what is asked for, never enlarged.
    fn fit(self, width: u32, height: u32) -> (u32, u32) {
        let limit = |asked: i64, source: u32| match u32::try_from(asked) {
            Ok(asked) if (1..=source).contains(&asked) => u64::from(asked),
            _ => u64::from(source),
        };
        let (most_w, most_h) = (limit(self.width, width), limit(self.height, height));
        let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
        let (out_w, out_h) = if most_w * h <= most_h * w {
            (most_w, h * most_w / w)
        } else {
            (w * most_h / h, most_h)
        };
        let narrow = |side: u64| u32::try_from(side.max(1)).unwrap_or(u32::MAX);
        (narrow(out_w), narrow(out_h))
    }
}

/// A thumbnail by its file name, `640x480.png`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thumbnail {
    width: u32,
    height: u32,
    pub(super) format: Format,
}

impl Thumbnail {
    pub(super) fn parse(file: &str) -> Option<Self> {
        let (size, format) = file.split_once('.')?;
        let (width, height) = size.split_once('x')?;
        let side = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let side = text.parse::<u32>().ok().filter(|_| plain)?;
            (1..=MAX_SIDE).contains(&i64::from(side)).then_some(side)
        };
        let format = Format::named(format)?;
        Some(Self { width: side(width)?, height: side(height)?, format })
    }
}

/// What to answer to a request for a thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The content itself.
    pub(super) original: bool,
    /// Format of what is answered, if it is one of ours.
    pub(super) format: Option<Format>,
    width: u32,
    height: u32,
}

impl Plan {
    pub(super) fn file_name(self) -> String {
        let format = self.format.unwrap_or(Format::Png);
        format!("{}x{}.{}", self.width, self.height, format.name())
    }
}

/// Looks at the head of a picture and decides what to answer.
pub(super) fn plan(source: &Path, shape: Shape) -> Result<Plan> {
    let (mut decoder, source_format) = open(source)?;
    let (mut width, mut height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if turned(&mut decoder) {
        std::mem::swap(&mut width, &mut height);
    }
    let (out_width, out_height) = shape.fit(width, height);
    let format = shape.format.unwrap_or(Format::Png);
    let same = (out_width, out_height) == (width, height) && source_format == Some(format);
    let large = i64::from(out_width.max(out_height)) > MAX_SIDE;
    let heavy = pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES;
    if same || large || heavy {
        return Ok(Plan { original: true, format: source_format, width, height });
    }
    Ok(Plan { original: false, format: Some(format), width: out_width, height: out_height })
}

impl Services {
    /// Path of a thumbnail, made now if there is none.
    pub(super) async fn thumbnail(&self, key: &str, file: &str) -> Result<PathBuf> {
        let wanted = Thumbnail::parse(file);
        let wanted = wanted.ok_or_else(|| ServiceError::not_found("no such thumbnail"))?;
        let folder = self.inner.objects.thumbnails_path(key);
        let folder = folder.ok_or_else(|| ServiceError::not_found("no such thumbnail"))?;
        let target = folder.join(file);
        if tokio::fs::try_exists(&target).await? {
            return Ok(target);
        }
        let objects = Arc::clone(&self.inner.objects);
        let _turn = objects
            .rendering
            .acquire()
            .await
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        self.store().must_have_room(0)?;
        let (source, unique) = (self.content_file(key)?, self.new_id());
        blocking(move || {
            if !target.exists() {
                create_folder(&folder)?;
                render(&source, &target, wanted, &unique)?;
                keep_few(&folder, &target)?;
            }
            Ok(target)
        })
        .await
    }
}

fn not_a_picture(error: image::ImageError) -> ServiceError {
    match error {
        image::ImageError::IoError(error)
            if error.kind() != std::io::ErrorKind::UnexpectedEof
                && error.raw_os_error().is_some() =>
        {
            match error.kind() {
                std::io::ErrorKind::NotFound => ServiceError::not_found("no such content"),
                _ => error.into(),
            }
        }
        error => ServiceError::object(format!("not a picture that can be decoded: {error}")),
    }
}

fn open(source: &Path) -> Result<(impl ImageDecoder, Option<Format>)> {
    let io = |error| not_a_picture(image::ImageError::IoError(error));
    let mut reader = ImageReader::open(source).map_err(io)?.with_guessed_format().map_err(io)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let format = match reader.format() {
        Some(ImageFormat::Png) => Some(Format::Png),
        Some(ImageFormat::Jpeg) => Some(Format::Jpeg),
        Some(ImageFormat::Gif) => Some(Format::Gif),
        _ => None,
    };
    Ok((reader.into_decoder().map_err(not_a_picture)?, format))
}

/// Whether a picture is to be shown turned by a quarter.
fn turned(decoder: &mut impl ImageDecoder) -> bool {
    matches!(
        decoder.orientation(),
        Ok(Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH)
    )
}

fn render(source: &Path, target: &Path, wanted: Thumbnail, unique: &str) -> Result<()> {
    let (mut decoder, _) = open(source)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS
        || decoder.total_bytes() > MAX_DECODED_BYTES
    {
        return Err(ServiceError::object("the picture is too large for a thumbnail"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(not_a_picture)?;
    let (mut width, mut height) = (wanted.width, wanted.height);
    // Shrunk first: turning a small picture is cheap.
    if matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    ) {
        std::mem::swap(&mut width, &mut height);
    }
    picture = picture.thumbnail_exact(width, height);
    picture.apply_orientation(orientation);
    let (temp, file) = TempFile::create(target, unique)?;
    let mut out = BufWriter::new(file);
    let written = match wanted.format {
        Format::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY);
            picture.to_rgb8().write_with_encoder(encoder)
        }
        Format::Gif => picture.to_rgba8().write_to(&mut out, ImageFormat::Gif),
        Format::Png if picture.color().has_alpha() => {
            picture.to_rgba8().write_to(&mut out, ImageFormat::Png)
        }
        Format::Png => picture.to_rgb8().write_to(&mut out, ImageFormat::Png),
    };
    written.map_err(|error| match error {
        image::ImageError::IoError(error) => error.into(),
        error => ServiceError::Internal(format!("thumbnail: {error}")),
    })?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(temp.keep(target)?)
}

/// Removes the oldest thumbnails of a picture when there are many; they can be made again.
fn keep_few(folder: &Path, newest: &Path) -> Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Another renderer may have removed it just now.
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if entry.path() != newest {
            kept.push((modified, entry.path()));
        }
    }
    kept.sort();
    let surplus = (kept.len() + 1).saturating_sub(MAX_KEPT);
    for (_, path) in kept.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_fit_and_are_never_larger_than_the_picture() {
        for (asked, source, fits) in [
            ((640, 640), (4_000, 3_000), (640, 480)),
            ((640, 640), (3_000, 4_000), (480, 640)),
            ((640, 640), (64, 64), (64, 64)),
            ((0, 0), (64, 32), (64, 32)),
            ((-5, 16), (64, 32), (32, 16)),
            ((20, 20), (10_000, 1), (20, 1)),
            ((7, 7), (1_000, 333), (7, 2)),
        ] {
            let shape = Shape { width: asked.0, height: asked.1, format: None };
            assert_eq!(shape.fit(source.0, source.1), fits, "{asked:?} of {source:?}");
        }
    }

    #[test]
    fn what_clients_ask_for_is_read_leniently() {
        let png = Shape { width: 640, height: 0, format: Some(Format::Png) };
        assert_eq!(Shape::read("640", "many", "PNG"), png);
        assert_eq!(Shape::read("", "", "jpg").format, Some(Format::Jpeg));
        assert_eq!(Shape::read("", "", "svg").format, None);
        assert!(Shape::read("1025", "1", "png").is_original());
        assert!(Shape::read("-1", "-1", "").is_original());
        assert!(!Shape::read("-1", "-1", "gif").is_original());
        assert!(!Shape::read("1024", "1024", "").is_original());
    }

    #[test]
    fn only_file_names_of_thumbnails_are_read() {
        let small = Thumbnail { width: 640, height: 480, format: Format::Png };
        assert_eq!(Thumbnail::parse("640x480.png"), Some(small));
        for bad in
            ["", "640x480", "0x1.png", "1x1025.png", "+1x1.png", "1x1.svg", "../1x1.png", "1x1.PNG"]
        {
            assert_eq!(Thumbnail::parse(bad), None, "{bad}");
        }
    }
}
