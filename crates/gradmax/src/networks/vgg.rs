//! VGG networks (Simonyan and Zisserman 2015), in the convolutional form of Evci et al. 2022 and with max pooling.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::conv_net::{ConvNet, ConvNetConfig, Stage};
use super::{Architecture, part_of};
use crate::error::Error;
use crate::modules::NormKind;
use crate::site::activation::Activation;

/// How maps get smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downsampling {
    /// The first convolution of blocks 2 to 5, and the last layer, have a stride of 2, as in Evci et al. 2022.
    #[default]
    Stride,
    /// Max pooling after each block.
    MaxPool,
}

/// The shape of a VGG network: 3x3 convolutions without biases, each followed by ReLU and an optional norm; the last
/// layer is a 3x3 convolution to the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct VggConfig {
    /// 11, 13, 16 or 19.
    pub depth: usize,
    /// The part of the usual widths 64, 128, 256, 512, 512.
    pub fraction: f64,
    /// The norm after each ReLU.
    pub norm: NormKind,
    /// How maps get smaller.
    pub downsampling: Downsampling,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

impl VggConfig {
    /// The network as a stack of stages.
    ///
    /// # Errors
    /// [`Error::BadOption`], if there is no VGG of that depth.
    pub fn stack(&self) -> Result<ConvNetConfig, Error> {
        let repeats = match self.depth {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            other => {
                let remedy = "a VGG has depth 11, 13, 16 or 19";
                return Err(Error::BadOption { option: "depth", value: other.to_string(), remedy });
            }
        };
        let pools = self.downsampling == Downsampling::MaxPool;
        let mut stages = Vec::new();
        for (block, (width, repeats)) in [64, 128, 256, 512, 512].into_iter().zip(repeats).enumerate() {
            for layer in 0..repeats {
                let stride = if !pools && block > 0 && layer == 0 { 2 } else { 1 };
                stages.push(Stage::conv3x3(part_of(width, self.fraction), stride));
                stages.push(Stage::Activation { function: Activation::Relu });
                stages.extend((self.norm != NormKind::None).then_some(Stage::Norm { norm: self.norm }));
            }
            stages.extend(pools.then_some(Stage::MaxPool { size: 2 }));
        }
        stages.push(Stage::conv3x3(self.classes, if pools { 1 } else { 2 }));
        Ok(ConvNetConfig { input: self.input, stages })
    }

    /// A network of this shape.
    ///
    /// # Errors
    /// Those of [`stack`](Self::stack) and of [`Architecture::init`].
    pub fn init(&self, seed: crate::Seed, device: &Device) -> Result<ConvNet, Error> {
        self.stack()?.init(seed, device)
    }
}
