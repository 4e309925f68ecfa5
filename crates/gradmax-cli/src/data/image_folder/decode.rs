//! From a file to the pixels of a square image.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Result, bail};
use fast_image_resize as resize;
use fast_image_resize::images::{Image, ImageRef};
use gradmax::Seed;
use image::ImageReader;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// A square image: an Inception crop, half of them mirrored, or without a seed the centre.
pub fn decode(path: &Path, size: usize, seed: Option<Seed>) -> Result<Vec<u8>> {
    let file = std::fs::read(path)?;
    if is_jpeg_cut_short(&file) {
        bail!("the file is cut short");
    }
    let image = ImageReader::new(Cursor::new(&file)).with_guessed_format()?.decode()?;
    // Grey images get three equal channels; transparency is dropped.
    let image = image.into_rgb8();
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

/// Whether a JPEG ends before its end marker; decoders fill what is missing with grey, and say nothing.
///
/// Inside a scan, 0xff is always followed by 0 or a restart marker, so that these markers do not come up by chance.
fn is_jpeg_cut_short(file: &[u8]) -> bool {
    let last = |marker: [u8; 2]| file.windows(2).rposition(|bytes| bytes == marker);
    file.starts_with(&[0xff, 0xd8]) && last([0xff, 0xd9]) < last([0xff, 0xda]).or(Some(0))
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
