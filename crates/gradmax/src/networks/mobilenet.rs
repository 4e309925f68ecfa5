//! MobileNet-v1 (Howard et al. 2017), as Evci et al. 2022 grow it.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::conv_net::{ConvNet, ConvNetConfig, Stage};
use super::{Architecture, part_of};
use crate::error::Error;
use crate::modules::NormKind;
use crate::site::activation::Activation;

/// Which layers of a block halve the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strides {
    /// The depthwise convolutions, as in Howard et al. 2017.
    #[default]
    Depthwise,
    /// The 1x1 convolutions, as in the published code of Evci et al. 2022.
    Pointwise,
}

/// The shape of a MobileNet-v1: a 3x3 convolution of stride 2, 13 blocks of depthwise and 1x1 convolution, and a dense
/// layer.
///
/// Every block is: depthwise 3x3, ReLU, norm (optional), 1x1 convolution, ReLU, norm (always). The neurons of a 1x1
/// convolution are read by that of the next block, with norm and depthwise convolution between.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV1Config {
    /// The part of the usual widths 32, 64, 128, ..., 1024.
    pub fraction: f64,
    /// The norm after each depthwise convolution. The one after each 1x1 convolution is always there: group norm if
    /// this is, else batch norm.
    pub norm: NormKind,
    /// Which layers halve the maps.
    pub strides: Strides,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

/// Width and stride of each block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

impl MobileNetV1Config {
    /// The network as a stack of stages.
    pub fn stack(&self) -> ConvNetConfig {
        let relu = || Stage::Activation { function: Activation::Relu };
        // Without any norm a network of 27 layers does not train, so the paper's networks "without norm" have these.
        let always = match self.norm {
            NormKind::None => NormKind::Batch,
            norm => norm,
        };
        let mut stages = vec![Stage::conv3x3(part_of(32, self.fraction), 2), relu(), Stage::Norm { norm: always }];
        for (width, stride) in BLOCKS {
            let [depthwise, pointwise] = match self.strides {
                Strides::Depthwise => [stride, 1],
                Strides::Pointwise => [1, stride],
            };
            stages.extend([Stage::Depthwise { kernel: 3, stride: depthwise }, relu()]);
            stages.extend((self.norm != NormKind::None).then_some(Stage::Norm { norm: self.norm }));
            let pointwise = Stage::conv1x1(part_of(width, self.fraction), pointwise);
            stages.extend([pointwise, relu(), Stage::Norm { norm: always }]);
        }
        stages.extend([Stage::GlobalAverage, Stage::Dense { units: self.classes, bias: true }]);
        ConvNetConfig { input: self.input, stages }
    }

    /// A network of this shape.
    ///
    /// # Errors
    /// Those of [`Architecture::init`].
    pub fn init(&self, seed: crate::Seed, device: &Device) -> Result<ConvNet, Error> {
        self.stack().init(seed, device)
    }
}
