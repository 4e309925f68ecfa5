//! The UCI optical recognition of handwritten digits, embedded (see assets/README.md for its creators and licence).

use std::io::Read;

use burn::tensor::Device;
use flate2::read::GzDecoder;
use gradmax::{InMemory, Seed, Task};
use rand::seq::SliceRandom;

use super::DataSet;

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Images, and how many of them are for training.
const IMAGES: usize = 1797;
pub const TRAINING: usize = IMAGES - IMAGES / 5;

static DIGITS: &[u8] = include_bytes!("../../assets/digits.csv.gz");

/// The images with pixels in [0, 1]; a fixed fifth of them is held out.
pub fn load(device: &Device) -> DataSet {
    let rows = rows();
    let mut order = (0..rows.len()).collect::<Vec<_>>();
    order.shuffle(&mut Seed::new(0).fold("digits split").rng());
    let examples = |indices: &[usize]| {
        let pixels =
            indices.iter().flat_map(|index| rows[*index][..PIXELS].iter().map(|pixel| f32::from(*pixel) / 16.0));
        let classes = indices.iter().map(|index| rows[*index][PIXELS]).collect::<Vec<_>>();
        InMemory::classes(pixels.collect(), &classes, device)
    };
    let (train, test) = order.split_at(TRAINING);
    DataSet { train: examples(train), test: examples(test), task: Task::Classification }
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
