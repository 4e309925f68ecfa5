//! Networks that come with the library.

mod conv_net;
mod draw;
mod gpt;
pub(crate) mod graph;
mod mlp;
mod mobilenet;
pub(crate) mod summary;
mod transformer;
mod vgg;
mod vit;
mod wide_resnet;

pub use self::conv_net::{ConvNet, ConvNetConfig, Stage};
pub use self::gpt::{Gpt, GptConfig};
pub use self::graph::{Array, GraphNode, NetworkGraph, Operation, Value};
pub use self::mlp::{HiddenPath, Mlp, MlpConfig};
pub use self::mobilenet::{MobileNetV1Config, Strides};
pub use self::summary::{Described, LayerSummary};
pub use self::transformer::{Positions, TransformerBlock, TransformerNorm};
pub use self::vgg::{Downsampling, VggConfig};
pub use self::vit::{Vit, VitConfig};
pub use self::wide_resnet::{WideResNet, WideResNetConfig};
use crate::error::Error;
use crate::seed::Seed;
use crate::site::growable::Growable;
use crate::site::width::SiteWidth;
use burn::tensor::Device;

/// The shape of a network: everything but its weights.
pub trait Architecture: Clone + PartialEq {
    /// The network.
    type Network: Growable;

    /// A network of this shape, its weights drawn on the host from the seed, so that they do not depend on the device.
    ///
    /// # Errors
    /// [`Error::BadOption`], [`Error::BadStage`] and [`Error::UnevenGroups`], if no network has this shape.
    fn init(&self, seed: Seed, device: &Device) -> Result<Self::Network, Error>;

    /// The sites of a seed network of this shape, in order.
    fn site_widths(&self) -> Vec<SiteWidth>;

    /// The same shape with other widths of the sites, in order.
    #[must_use]
    fn with_site_widths(&self, widths: &[usize]) -> Self;
}

/// A part of a width, as seed networks have it: rounded down, but at least one neuron.
fn part_of(width: usize, fraction: f64) -> usize {
    ((width as f64 * fraction).floor() as usize).max(1)
}

pub(crate) fn seed_width(site: impl Into<String>, width: usize) -> SiteWidth {
    SiteWidth { site: site.into(), seed: width, width, unit: 1, series: None }
}
