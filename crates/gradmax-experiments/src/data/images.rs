//! Images in memory, one byte a pixel, and what is done to them for training.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use gradmax::training::{Batch, Examples, Target};
use gradmax::{Error, Seed};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{AnyExamples, SharedExamples};
use crate::reading::Reading;

/// Channels, height and width.
pub type Size = [usize; 3];

/// Images of one size and their classes.
pub struct Images {
    /// Pixels, image by image, channel by channel, row by row.
    pub pixels: Vec<u8>,
    pub classes: Vec<u8>,
    pub size: Size,
}

impl Images {
    /// The pixels of one image.
    fn image(&self, index: usize) -> &[u8] {
        let pixels = self.size.iter().product::<usize>();
        &self.pixels[index * pixels..][..pixels]
    }

    /// Images so many times smaller, each pixel the mean of so many times so many; what is left over at the edges is cut
    /// off.
    pub fn reduced(self, times: usize) -> Self {
        if times == 1 {
            return self;
        }
        let [channels, height, width] = self.size;
        let size = [channels, height / times, width / times];
        let count = times * times;
        let mut pixels = Vec::with_capacity(self.pixels.len() / count);
        for map in self.pixels.chunks_exact(height * width) {
            for row in 0..size[1] {
                for column in 0..size[2] {
                    let line = |line: usize| &map[(row * times + line) * width + column * times..][..times];
                    let sum = (0..times).flat_map(line).map(|pixel| usize::from(*pixel)).sum::<usize>();
                    // Rounded; the mean of bytes is one.
                    pixels.push(u8::try_from((sum + count / 2) / count).unwrap_or(u8::MAX));
                }
            }
        }
        Self { pixels, size, ..self }
    }

    /// Only the first so many.
    pub fn truncate(&mut self, examples: usize) {
        self.classes.truncate(examples);
        self.pixels.truncate(examples * self.size.iter().product::<usize>());
    }
}

/// Images as examples with pixels in [0, 1], on a device.
#[derive(Clone)]
pub struct ImageExamples {
    images: Arc<Images>,
    /// What a byte is divided by.
    white: f32,
    /// The size that networks read: grey images are repeated in every channel, and zeros put around small ones.
    size: Size,
    augmentation: Augmentation,
    device: Device,
}

/// What is done to training images at random.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Zeros put around an image before a crop of its old size is taken.
    pub crop: usize,
    /// Whether every other image is mirrored.
    pub flip: bool,
}

impl ImageExamples {
    pub fn new(images: Images, white: u8, size: Size, augmentation: Augmentation, device: &Device) -> Self {
        Self { images: Arc::new(images), white: f32::from(white), size, augmentation, device: device.clone() }
    }

    fn assembled(&self, indices: &[usize], shift: impl Fn(usize) -> Shift) -> Batch<Reading> {
        let [channels, height, width] = self.size;
        let mut pixels = vec![0.0; indices.len() * channels * height * width];
        for (target, index) in pixels.chunks_exact_mut(channels * height * width).zip(indices) {
            self.place(self.images.image(*index), shift(*index), target);
        }
        let data = TensorData::new(pixels, [indices.len(), channels, height, width]);
        let classes = indices.iter().map(|index| u32::from(self.images.classes[*index]));
        Batch {
            input: Reading::Maps(Tensor::from_data(data, &self.device)),
            target: Target::classes(classes, &self.device),
        }
    }

    /// Puts an image into the middle of a larger one of zeros, moved and mirrored.
    fn place(&self, image: &[u8], shift: Shift, target: &mut [f32]) {
        let ([_, height, width], [_, own_height, own_width]) = (self.size, self.images.size);
        let (top, left) = ((height - own_height) / 2, (width - own_width) / 2);
        for (channel, target) in target.chunks_exact_mut(height * width).enumerate() {
            let source = &image[channel % self.images.size[0] * own_height * own_width..];
            for (row, line) in target.chunks_exact_mut(width).enumerate() {
                let source_row = (row + shift.down).wrapping_sub(shift.margin + top);
                if source_row >= own_height {
                    continue;
                }
                for (column, pixel) in line.iter_mut().enumerate() {
                    let column = if shift.mirrored { width - 1 - column } else { column };
                    let source_column = (column + shift.right).wrapping_sub(shift.margin + left);
                    if source_column < own_width {
                        *pixel = f32::from(source[source_row * own_width + source_column]) / self.white;
                    }
                }
            }
        }
    }
}

/// Where a crop lies in an image with zeros around, and whether it is mirrored.
#[derive(Clone, Copy, Default)]
struct Shift {
    margin: usize,
    down: usize,
    right: usize,
    mirrored: bool,
}

impl Shift {
    fn drawn(augmentation: Augmentation, seed: Seed) -> Self {
        let (mut rng, margin) = (seed.rng(), augmentation.crop);
        let (down, right) = (rng.random_range(0..=2 * margin), rng.random_range(0..=2 * margin));
        Self { margin, down, right, mirrored: augmentation.flip && rng.random::<bool>() }
    }
}

impl Examples for ImageExamples {
    type Input = Reading;
    type Target = Target;

    fn count(&self) -> usize {
        self.images.classes.len()
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch<Reading>, Error> {
        Ok(self.assembled(indices, |_| Shift::default()))
    }

    fn augmented(&self, indices: &[usize], seed: Seed) -> Result<Batch<Reading>, Error> {
        Ok(self.assembled(indices, |index| Shift::drawn(self.augmentation, seed.at(index as u64))))
    }

    fn augments(&self) -> bool {
        self.augmentation != Augmentation::default()
    }

    fn largest_class(&self) -> Option<usize> {
        self.images.classes.iter().copied().max().map(usize::from)
    }
}

impl SharedExamples for ImageExamples {
    fn for_one_run(&self) -> AnyExamples {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(size: Size, augmentation: Augmentation) -> ImageExamples {
        let pixels = (1..=9_u8).collect::<Vec<_>>();
        let images = Images { pixels, classes: vec![4], size: [1, 3, 3] };
        ImageExamples::new(images, 1, size, augmentation, &Device::flex())
    }

    #[test]
    fn reduced_pixels_are_means_of_squares() {
        let pixels = [vec![0, 2, 10, 10, 4, 6, 10, 255], vec![255; 8], (0..16).collect()].concat();
        let images = Images { pixels, classes: vec![0], size: [2, 4, 4] }.reduced(2);
        // Rounded: (10 + 10 + 10 + 255) / 4 = 71.25; 2.5 and so on of the second channel go up.
        assert_eq!((images.size, images.pixels), ([2, 2, 2], vec![3, 71, 255, 255, 3, 5, 11, 13]));
        let images = Images { pixels: (1..=9).collect(), classes: vec![0], size: [1, 3, 3] };
        assert_eq!(images.reduced(3).pixels, [5]);
    }

    fn pixels(batch: Batch<Reading>) -> Vec<f32> {
        batch.input.maps().into_data().try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn small_grey_images_lie_in_the_middle_of_every_channel() {
        let channel = [
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 2.0, 3.0, 0.0],
            [0.0, 4.0, 5.0, 6.0, 0.0],
            [0.0, 7.0, 8.0, 9.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ]
        .concat();
        let batch = examples([3, 5, 5], Augmentation::default()).batch(&[0]).unwrap();
        assert_eq!(pixels(batch), [channel.clone(), channel.clone(), channel].concat());
    }

    #[test]
    fn crops_and_flips_are_those_of_the_padded_image_and_depend_on_the_seed_alone() {
        let examples = examples([1, 3, 3], Augmentation { crop: 1, flip: true });
        let padded = |row: usize, column: usize| match (1..4).contains(&row) && (1..4).contains(&column) {
            true => ((row - 1) * 3 + column) as f32,
            false => 0.0,
        };
        let crop = |down: usize, right: usize, mirrored: bool| {
            let column = |column: usize| if mirrored { 2 - column } else { column };
            (0..9).map(|at| padded(at / 3 + down, column(at % 3) + right)).collect::<Vec<_>>()
        };
        let possible = (0..18).map(|which| crop(which / 2 % 3, which / 6, which % 2 == 1)).collect::<Vec<_>>();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let drawn = pixels(examples.augmented(&[0], Seed::new(seed)).unwrap());
            assert_eq!(drawn, pixels(examples.augmented(&[0], Seed::new(seed)).unwrap()));
            seen.insert(possible.iter().position(|crop| *crop == drawn).expect("it is a crop"));
        }
        assert_eq!(seen.len(), 18);
    }

    #[test]
    fn steps_that_take_all_images_are_augmented_too() {
        use gradmax::networks::{Architecture, MlpConfig};
        use gradmax::site::Activation;
        use gradmax::training::{Run, Settings, Supervised, Trainer};
        let flat = |augmentation: Augmentation, batch_size: Option<usize>| {
            let images = Images { pixels: (0..36).collect(), classes: vec![0, 1, 0, 1], size: [1, 3, 3] };
            let examples = ImageExamples::new(images, 36, [1, 3, 3], augmentation, &Device::flex());
            assert_eq!(examples.augments(), augmentation != Augmentation::default());
            let network = crate::network::Shape::Mlp(MlpConfig::new(9, &[4], 2, Activation::Relu));
            let network = network.init(Seed::new(1), &Device::flex().autodiff()).unwrap();
            let settings = Settings { batch_size, ..Settings::new(10, 0.1) };
            let trainer = Trainer::new(settings, Supervised::Classification, &examples);
            let run = Run::new(network, burn::optim::SgdConfig::new().init());
            trainer.train(run).unwrap().finished.unwrap().train.loss
        };
        let augmentation = Augmentation { crop: 1, flip: true };
        let plain = flat(Augmentation::default(), None);
        for batch_size in [None, Some(4), Some(5)] {
            assert_eq!(flat(Augmentation::default(), batch_size), plain);
            assert_ne!(flat(augmentation, batch_size), plain, "{batch_size:?}");
            assert_eq!(flat(augmentation, batch_size), flat(augmentation, None));
        }
    }
}
