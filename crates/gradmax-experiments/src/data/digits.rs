//! The UCI optical recognition of handwritten digits, embedded (see assets/README.md for its creators and licence).

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::read::GzDecoder;
use gradmax::Seed;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::image_set::{ImageFiles, Set};
use super::images::{Images, Size};
use crate::failure::misuse;

/// Channels, height and width of an image.
const SIZE: Size = [1, 8, 8];
const PIXELS: usize = 64;
/// Images, and how many of them are for training.
const IMAGES: usize = 1797;
const TRAINING: usize = IMAGES - IMAGES / 5;

static DIGITS: &[u8] = include_bytes!("../../assets/digits.csv.gz");

/// The digits; the same fifth of them is held out for every seed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Digits {}

impl Set for Digits {
    fn files(&self) -> impl ImageFiles {
        *self
    }
}

impl ImageFiles for Digits {
    fn size(&self) -> Size {
        SIZE
    }

    fn classes(&self) -> usize {
        10
    }

    fn training(&self) -> usize {
        TRAINING
    }

    fn white(&self) -> u8 {
        16
    }

    fn check(&self, dir: Option<&Path>) -> Result<()> {
        match dir {
            None => Ok(()),
            Some(dir) => {
                Err(misuse(format!("digits are in this program; leave out `data.dir` ({})", dir.display())))
            }
        }
    }

    fn find(&self, _dir: Option<&Path>) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn read(&self, _dir: Option<&Path>) -> Result<[Images; 2]> {
        let rows = rows();
        let mut order = (0..rows.len()).collect::<Vec<_>>();
        order.shuffle(&mut Seed::new(0).fold("digits split").rng());
        let images = |indices: &[usize]| {
            let pixels = indices.iter().flat_map(|index| rows[*index][..PIXELS].to_vec()).collect();
            let classes = indices.iter().map(|index| rows[*index][PIXELS]).collect();
            Images { pixels, classes, size: SIZE }
        };
        let (train, test) = order.split_at(TRAINING);
        Ok([images(train), images(test)])
    }

    fn describe(&self, _dir: Option<&Path>) -> Result<String> {
        let rows = rows();
        let of_class = |class: u8| rows.iter().filter(|row| row[PIXELS] == class).count().to_string();
        let classes = (0..10).map(of_class).collect::<Vec<_>>().join(" ");
        Ok(format!(
            "digits: {} images of 8x8, embedded; {TRAINING} for training, {} held out; images of each class: {classes}",
            rows.len(),
            rows.len() - TRAINING
        ))
    }
}

fn rows() -> Vec<Vec<u8>> {
    let mut text = String::new();
    GzDecoder::new(DIGITS).read_to_string(&mut text).expect("the embedded file is intact");
    let number = |field: &str| field.parse::<u8>().expect("the embedded file holds small integers");
    text.lines().map(|line| line.split(',').map(number).collect()).collect()
}
