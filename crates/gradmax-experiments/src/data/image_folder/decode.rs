//! From a file to the pixels of a square image.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fast_image_resize as resize;
use fast_image_resize::images::{Image, ImageRef};
use gradmax::Seed;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// A square image: an Inception crop, half of them mirrored, or without a seed the centre.
pub fn decode(path: &Path, size: usize, seed: Option<Seed>) -> Result<Vec<u8>> {
    let file = std::fs::read(path)?;
    let format = path.extension().and_then(ImageFormat::from_extension);
    let image = whole_image(&file, format)?;
    let (width, height) = image.dimensions();
    let (crop, mirrored) = match seed {
        Some(seed) => {
            let mut rng = seed.rng();
            (inception_crop(width, height, &mut rng), rng.random::<bool>())
        }
        None => (centre_crop(width, height), false),
    };
    let side = u32::try_from(size)?;
    let mut target = Image::new(side, side, resize::PixelType::U8x3);
    let options = resize::ResizeOptions::new()
        .resize_alg(resize::ResizeAlg::Convolution(resize::FilterType::CatmullRom))
        .crop(crop.left, crop.top, crop.width, crop.height);
    let source = ImageRef::new(width, height, image.as_raw(), resize::PixelType::U8x3)?;
    resize::Resizer::new().resize(&source, &mut target, &options)?;
    let mut bytes = target.into_vec();
    if mirrored {
        bytes.chunks_exact_mut(3 * size).for_each(mirror);
    }
    Ok(bytes)
}

/// The image in a file, upright, in three channels: grey images get three equal ones; transparency is dropped. The
/// format is that of the contents, or else the given one.
fn whole_image(file: &[u8], format: Option<ImageFormat>) -> Result<RgbImage> {
    let decoded = |file: &[u8]| {
        let mut reader = ImageReader::new(Cursor::new(file));
        format.into_iter().for_each(|format| reader.set_format(format));
        let mut decoder = reader.with_guessed_format()?.into_decoder()?;
        // Cameras keep the sensor's pixels, and say in the file how they were held.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let (width, height) = decoder.dimensions();
        if decoder.total_bytes() > LARGEST {
            bail!("it says that it is {width}x{height}, which is more than is read");
        }
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok::<_, anyhow::Error>(image.into_rgb8())
    };
    if !file.starts_with(&[0xff, 0xd8]) {
        return decoded(file);
    }
    if let Some(end) = end_of_jpeg(file) {
        // What is behind the end, as the film of a motion photo, is no part of the image.
        return decoded(&file[..end]);
    }
    // Decoders fill what is missing with grey, and say nothing. If only the end marker is, it does not matter what
    // comes in its place: the pixels are those that the file has.
    let continued = |filler: &[u8]| decoded(&[file, filler, &END_OF_JPEG].concat());
    let image = continued(&[]).context("the file is cut short")?;
    for byte in [0x55, 0xaa] {
        if continued(&[byte; 4096]).is_ok_and(|other| other != image) {
            bail!("the file is cut short");
        }
    }
    Ok(image)
}

/// Bytes of a decoded image at most: a damaged header can promise any size.
const LARGEST: u64 = 1 << 30;
const END_OF_JPEG: [u8; 2] = [0xff, 0xd9];

/// Where a JPEG ends, behind its end marker; none if it has none. Segments are passed over by their lengths, since
/// thumbnails inside of them have end markers of their own.
fn end_of_jpeg(file: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // A marker is 0xff and a byte that is neither 0 nor 0xff; inside of a scan, 0xff is followed by 0, or by the
        // number of a restart.
        at += file.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        let marker = *file.get(at + 1)?;
        at += match marker {
            0xff => 1,
            0x00 | 0x01 | 0xd0..=0xd8 => 2,
            0xd9 => return Some(at + 2),
            _ => 2 + usize::from(u16::from_be_bytes([*file.get(at + 2)?, *file.get(at + 3)?])),
        };
    }
}

fn mirror(row: &mut [u8]) {
    let pixels = row.len() / 3;
    for pixel in 0..pixels / 2 {
        (0..3).for_each(|channel| row.swap(3 * pixel + channel, 3 * (pixels - 1 - pixel) + channel));
    }
}

/// A rectangle in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Crop {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// The part of the shorter side that the centre crop for evaluation keeps.
const CENTRE: f64 = 0.875;
/// Tries to fit a drawn rectangle into an image, before its centre is taken.
const TRIES: usize = 10;

/// A rectangle of 8 to 100 % of the area with a ratio of sides of 3/4 to 4/3 (Szegedy et al. 2015).
fn inception_crop(width: u32, height: u32, rng: &mut ChaCha8Rng) -> Crop {
    let (full_width, full_height) = (f64::from(width), f64::from(height));
    for _ in 0..TRIES {
        let area = full_width * full_height * rng.random_range(0.08..=1.0);
        let ratio = rng.random_range((0.75_f64).ln()..=(4.0_f64 / 3.0).ln()).exp();
        let (width, height) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if (1.0..=full_width).contains(&width) && (1.0..=full_height).contains(&height) {
            let left = rng.random_range(0.0..=full_width - width).floor();
            let top = rng.random_range(0.0..=full_height - height).floor();
            return Crop { left, top, width, height };
        }
    }
    square(full_width, full_height, 1.0)
}

/// The middle of an image, 87.5 % of its shorter side long.
fn centre_crop(width: u32, height: u32) -> Crop {
    square(f64::from(width), f64::from(height), CENTRE)
}

fn square(width: f64, height: f64, part: f64) -> Crop {
    let side = (width.min(height) * part).max(1.0);
    Crop { left: (width - side) / 2.0, top: (height - side) / 2.0, width: side, height: side }
}

#[cfg(test)]
pub mod fuzzed {
    use super::*;

    pub(crate) fn images() -> Vec<Vec<u8>> {
        let image = RgbImage::from_fn(12, 9, |x, y| image::Rgb([(20 * x) as u8, (25 * y) as u8, (x * y) as u8]));
        let formats = [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::WebP,
            ImageFormat::Tiff,
            ImageFormat::Pnm,
            ImageFormat::Qoi,
        ];
        let encoded = formats.map(|format| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        });
        encoded.to_vec()
    }

    pub(crate) fn read_image(input: &[u8]) {
        let _ = end_of_jpeg(input);
        // Panics of decoders become errors of the image, as they do in training.
        let _ = crate::failure::caught(|| whole_image(input, None));
    }
}
