//! The UCI optical recognition of handwritten digits, embedded (see assets/README.md for its creators and licence).

use std::io::Read;

use flate2::read::GzDecoder;
use gradmax::Seed;
use rand::seq::SliceRandom;

use super::images::{Images, Size};

/// Channels, height and width of an image.
pub const SIZE: Size = [1, 8, 8];
const PIXELS: usize = 64;
/// The brightest pixel.
pub const WHITE: u8 = 16;
/// Images, and how many of them are for training.
const IMAGES: usize = 1797;
pub const TRAINING: usize = IMAGES - IMAGES / 5;

static DIGITS: &[u8] = include_bytes!("../../assets/digits.csv.gz");

/// Training and test images; the test images are a fixed fifth that is held out.
pub fn read() -> [Images; 2] {
    let rows = rows();
    let mut order = (0..rows.len()).collect::<Vec<_>>();
    order.shuffle(&mut Seed::new(0).fold("digits split").rng());
    let images = |indices: &[usize]| {
        let pixels = indices.iter().flat_map(|index| rows[*index][..PIXELS].to_vec()).collect();
        let classes = indices.iter().map(|index| rows[*index][PIXELS]).collect();
        Images { pixels, classes, size: SIZE }
    };
    let (train, test) = order.split_at(TRAINING);
    [images(train), images(test)]
}

pub fn describe() -> String {
    let rows = rows();
    let of_class = |class: u8| rows.iter().filter(|row| row[PIXELS] == class).count().to_string();
    let classes = (0..10).map(of_class).collect::<Vec<_>>().join(" ");
    format!(
        "digits: {} images of 8x8, embedded; {TRAINING} for training, {} held out; images of each class: {classes}",
        rows.len(),
        rows.len() - TRAINING
    )
}

fn rows() -> Vec<Vec<u8>> {
    let mut text = String::new();
    GzDecoder::new(DIGITS).read_to_string(&mut text).expect("the embedded file is intact");
    let number = |field: &str| field.parse::<u8>().expect("the embedded file holds small integers");
    text.lines().map(|line| line.split(',').map(number).collect()).collect()
}
