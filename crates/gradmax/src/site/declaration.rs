//! Sites: the places of a network where neurons can be added.

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::error::Error;
use crate::site::between::{Between, FreshLeaves, IntoBetween, OutputChange};
use crate::site::layer::Layer;
use crate::site::signal::Signal;

/// A place where neurons live: the layer that computes them, what lies between, and the layers that read them.
///
/// To add a neuron is to add *incoming* weights (and a bias) to the producer, an entry to each layer between,
/// and *outgoing* weights to every consumer.
#[derive(Debug, Clone)]
pub struct Site {
    /// The name by which plans, schedules, receipts and the probe know the site; unique in a network.
    pub name: String,
    /// The layer whose outputs are the neurons.
    pub producer: Layer,
    /// Layers whose outputs are added to the producer's, if there are any. New neurons start with zero weights from
    /// them, and growth does not look at what they read.
    pub added: Vec<Layer>,
    /// The ways from the neurons to the layers that read them; usually one.
    pub paths: Vec<Path>,
    /// Further layers that read the neurons, if there are any, but that growth does not look at: new neurons start with
    /// zero weights to them.
    pub unseen: Vec<Layer>,
}

/// A way from a site's neurons to one of the layers that read them.
#[derive(Debug, Clone)]
pub struct Path {
    /// What is applied to the neurons before they are read, in order.
    pub between: Vec<Between>,
    /// The layer that reads the neurons.
    pub consumer: Layer,
}

impl Site {
    /// A site with one consumer, from its layers.
    ///
    /// # Example
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::Device};
    /// use gradmax::site::{Activation, Site};
    /// # let device = Device::default();
    /// # let (hidden, output) = (LinearConfig::new(4, 3).init(&device), LinearConfig::new(3, 2).init(&device));
    /// let site = Site::new("hidden", &hidden, [Activation::Relu], &output);
    /// assert_eq!((site.fan_in(), site.width(), site.fan_out()), (4, 3, 2));
    /// ```
    pub fn new(
        name: impl Into<String>,
        producer: impl Into<Layer>,
        between: impl IntoBetween,
        consumer: impl Into<Layer>,
    ) -> Self {
        Self { name: name.into(), producer: producer.into(), added: Vec::new(), paths: Vec::new(), unseen: Vec::new() }
            .and(between, consumer)
    }

    /// Adds a further consumer of the same neurons. A layer between that several consumers share is named in each path.
    ///
    /// # Example
    /// Neurons that are read twice: by one layer alone, and by another together with five neurons of others that come first.
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::Device};
    /// use gradmax::site::{Activation, Between, Site};
    /// # let device = Device::default();
    /// # let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
    /// let (hidden, alone, together) = (dense(4, 3), dense(3, 2), dense(8, 6));
    /// let beside = Between::Beside { before: 5, after: 0 };
    /// let site = Site::new("hidden", &hidden, [Activation::Relu], &alone).and((Activation::Relu, beside), &together);
    /// assert_eq!(site.fan_out(), 2 + 6);
    /// assert!(site.check().is_ok());
    /// ```
    /// In the forward pass, the first consumer is shown with `probe.site("hidden", &input, output)` and the second with
    /// `probe.consumer("hidden", 1, &input, output)`.
    #[must_use]
    pub fn and(mut self, between: impl IntoBetween, consumer: impl Into<Layer>) -> Self {
        self.paths.push(Path { between: between.into_between(), consumer: consumer.into() });
        self
    }

    /// Names a layer whose outputs are added to the producer's.
    #[must_use]
    pub fn plus(mut self, layer: impl Into<Layer>) -> Self {
        self.added.push(layer.into());
        self
    }

    /// Names a layer that reads the neurons, but that growth is not to look at.
    #[must_use]
    pub fn unseen_by(mut self, layer: impl Into<Layer>) -> Self {
        self.unseen.push(layer.into());
        self
    }

    /// Number of neurons at the site.
    pub fn width(&self) -> usize {
        self.producer.outputs()
    }

    /// Incoming weights of one neuron.
    pub fn fan_in(&self) -> usize {
        self.producer.fan_in()
    }

    /// Outgoing weights of one neuron, to all consumers.
    pub fn fan_out(&self) -> usize {
        self.paths.iter().map(|path| path.fan_out(self.width())).sum()
    }

    /// The site falls into so many blocks of equal width, each between one group of the producer and one of every
    /// consumer; they grow by the same number of neurons. 1 where no layer is grouped.
    pub fn blocks(&self) -> usize {
        let consumers = self.paths.iter().map(|path| path.consumer.groups());
        let others = self.added.iter().chain(&self.unseen).map(Layer::groups);
        consumers.chain(others).fold(self.producer.groups(), least_common_multiple)
    }

    /// Checks that so many new neurons fall evenly into the groups of the site's layers.
    ///
    /// # Errors
    /// [`Error::UnevenGroups`].
    pub fn check_growth(&self, count: usize) -> Result<(), Error> {
        let unit = self.growth_unit();
        match count.is_multiple_of(unit) {
            true => Ok(()),
            false => Err(Error::UnevenGroups { site: self.name.clone(), width: count, unit }),
        }
    }

    /// New neurons come in multiples of this, so that groups stay even.
    pub(crate) fn growth_unit(&self) -> usize {
        let between = self.paths.iter().flat_map(|path| &path.between);
        let in_block = between.fold(1, |unit, between| match between {
            Between::GroupNorm(norm) => least_common_multiple(unit, norm.group_size),
            _ => unit,
        });
        self.blocks() * in_block
    }

    /// Whether a norm follows the producer.
    pub fn has_norm(&self) -> bool {
        self.paths.iter().flat_map(|path| &path.between).any(Between::is_norm)
    }

    /// Whether what lies between is random in training, so that the growth operator tells the mean gradient of new neurons
    /// rather than that of the pass at hand.
    pub(crate) fn is_random(&self) -> bool {
        self.paths.iter().flat_map(|path| &path.between).any(|between| matches!(between, Between::Dropout))
    }

    /// Whether every layer of the site is shown to the probe.
    pub(crate) fn is_seen_whole(&self) -> bool {
        self.added.is_empty() && self.unseen.is_empty()
    }

    /// Whether the growth operator tells the gradient of several new neurons exactly: they do not share a norm's group.
    pub(crate) fn neurons_are_independent(&self) -> bool {
        let shares = |between: &Between| match between {
            Between::GroupNorm(norm) => norm.group_size > 1,
            Between::LayerNorm(..) => true,
            _ => false,
        };
        !self.paths.iter().flat_map(|path| &path.between).any(shares)
    }

    /// Whether a new neuron that is zero leaves the output as it is.
    pub(crate) fn preserves_function(&self) -> bool {
        !self.paths.iter().flat_map(|path| &path.between).any(|between| matches!(between, Between::LayerNorm(..)))
    }

    /// Checks that the layers fit together: ranks, widths and groups.
    ///
    /// # Errors
    /// [`Error::SiteMismatch`], [`Error::SiteRank`], [`Error::UnevenGroups`] and [`Error::LayerNormAcrossNeurons`].
    pub fn check(&self) -> Result<(), Error> {
        for layer in &self.added {
            let (site, offered) = (self.name.clone(), self.width());
            if layer.outputs() != offered {
                return Err(Error::SiteMismatch { site, layer: "added layer".into(), reads: layer.outputs(), offered });
            }
        }
        for layer in &self.unseen {
            let (site, offered) = (self.name.clone(), self.width());
            if layer.inputs() != offered {
                return Err(Error::SiteMismatch { site, layer: "unseen layer".into(), reads: layer.inputs(), offered });
            }
        }
        self.paths.iter().try_for_each(|path| self.check_path(path))
    }

    fn check_path(&self, path: &Path) -> Result<(), Error> {
        let mismatch = |layer: &str, reads: usize, offered: usize| {
            Err(Error::SiteMismatch { site: self.name.clone(), layer: layer.into(), reads, offered })
        };
        let wrong_rank = |layer: &str, reads: &'static str| {
            Err(Error::SiteRank { site: self.name.clone(), layer: layer.into(), reads })
        };
        let (width, blocks) = (self.width(), self.blocks());
        let uneven = |unit: usize| Error::UnevenGroups { site: self.name.clone(), width, unit };
        if !width.is_multiple_of(blocks) {
            return Err(uneven(blocks));
        }
        let mut maps = matches!(self.producer, Layer::Conv2d(_));
        let (mut neighbours, mut before) = (0_usize, 0_usize);
        let positions = path.positions(width);
        for between in &path.between {
            let name = between.name();
            match between {
                Between::LayerNorm(_, OutputChange::Refused) => {
                    return Err(Error::LayerNormAcrossNeurons { site: self.name.clone() });
                }
                Between::GroupNorm(norm)
                    if !(width / blocks).is_multiple_of(norm.group_size) || !before.is_multiple_of(norm.group_size) =>
                {
                    return Err(uneven(norm.group_size));
                }
                Between::Beside { .. } if blocks > 1 => return Err(uneven(blocks)),
                Between::Beside { before: first, after } => {
                    (before, neighbours) = (before + first, neighbours + first + after)
                }
                Between::Depthwise(_)
                | Between::AvgPool2d(_)
                | Between::AdaptiveAvgPool2d(_)
                | Between::MaxPool2d(_)
                    if !maps =>
                {
                    return wrong_rank(name, "maps");
                }
                Between::GlobalAverage | Between::Flatten if !maps => return wrong_rank(name, "maps"),
                Between::GlobalAverage | Between::Flatten => maps = false,
                _ => {}
            }
            let offered = (neighbours + width) * if maps { 1 } else { positions };
            if let Some(features) = between.features()
                && features != offered
            {
                return mismatch(name, features, offered);
            }
        }
        if maps != matches!(path.consumer, Layer::Conv2d(_)) {
            return wrong_rank("consumer", if maps { "vectors" } else { "maps" });
        }
        match (neighbours + width) * positions == path.consumer.inputs() {
            true => Ok(()),
            false => mismatch("consumer", path.consumer.inputs(), neighbours + width),
        }
    }

    /// The slopes at zero of what lies between, path by path, measured on the given device.
    ///
    /// # Errors
    /// [`Error::ActivationNotZeroAtZero`] and [`Error::ActivationFlatAtZero`], for activations under which a neuron with
    /// zero incoming weights would change the output or receive no gradient.
    pub fn slopes_at_zero(&self, device: &Device) -> Result<Vec<Vec<f64>>, Error> {
        self.paths.iter().map(|path| path.between.iter().map(|between| self.slope(between, device)).collect()).collect()
    }

    /// The slopes by which incoming directions are chosen where outgoing weights are zero: such neurons change nothing
    /// under any activation, so nothing is refused, and one that is flat at zero counts as the identity.
    pub(crate) fn slopes_for_directions(&self, device: &Device) -> Vec<Vec<f64>> {
        let slope = |between: &Between| between.at_zero(device).map_or(1.0, |at_zero| at_zero.slope);
        let or_one = |slope: f64| if slope == 0.0 { 1.0 } else { slope };
        self.paths.iter().map(|path| path.between.iter().map(|between| or_one(slope(between))).collect()).collect()
    }

    fn slope(&self, between: &Between, device: &Device) -> Result<f64, Error> {
        let Some(at_zero) = between.at_zero(device) else {
            return Ok(1.0);
        };
        let (site, activation) = (self.name.clone(), between.name().to_string());
        match at_zero {
            _ if at_zero.value != 0.0 => Err(Error::ActivationNotZeroAtZero { site, activation, value: at_zero.value }),
            _ if at_zero.slope == 0.0 => Err(Error::ActivationFlatAtZero { site, activation }),
            _ => Ok(at_zero.slope),
        }
    }

    /// The parameters that growth widens.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = ParamId> {
        let producers = std::iter::once(&self.producer).chain(&self.added);
        let producers = producers.flat_map(|layer| std::iter::once(layer.weight()).chain(layer.bias()));
        let consumers = self.paths.iter().map(|path| &path.consumer).chain(&self.unseen).map(Layer::weight);
        let between = self.paths.iter().flat_map(|path| &path.between).flat_map(Between::fresh);
        producers.chain(consumers).chain(between.map(|fresh| fresh.parameter))
    }

    /// Mean L2 norm of the incoming weights of the existing neurons; for a site without neurons, the norm that a layer
    /// with `count` neurons would start with (He et al. 2015).
    pub fn mean_incoming_norm(&self) -> f64 {
        match self.width() {
            0 => 2.0_f64.sqrt(),
            _ => mean_norm(self.producer.incoming_weights()),
        }
    }

    /// As [`mean_incoming_norm`](Self::mean_incoming_norm), of the outgoing weights to all consumers.
    pub fn mean_outgoing_norm(&self, count: usize) -> f64 {
        if self.width() == 0 {
            let taps = |path: &Path| path.fan_out(0) as f64 / path.consumer.outputs() as f64;
            let squared = |path: &Path| 2.0 * path.fan_out(0) as f64 / (count as f64 * taps(path));
            return self.paths.iter().map(squared).sum::<f64>().sqrt();
        }
        mean_norm(self.outgoing_weights())
    }

    /// The existing neurons' outgoing weights, `[width, fan_out]`.
    pub(crate) fn outgoing_weights(&self) -> Tensor<2> {
        self.by_neuron(|path| Some(path.consumer.outgoing_weights())).expect("consumers have weights")
    }

    /// The gradients of the existing neurons' outgoing weights, `[width, fan_out]`; none if a consumer is not trained.
    pub(crate) fn outgoing_gradients(&self, gradients: &GradientsParams) -> Option<Tensor<2>> {
        self.by_neuron(|path| path.consumer.outgoing_gradients(gradients))
    }

    /// What each consumer has for its inputs, `[inputs, fan_out]`, by neuron: `[width, fan_out]` of the site.
    fn by_neuron(&self, of_inputs: impl Fn(&Path) -> Option<Tensor<2>>) -> Option<Tensor<2>> {
        let of_path = |path: &Path| {
            let (before, positions) = (path.before(), path.positions(self.width()));
            let entries = of_inputs(path)?;
            let fan = entries.dims()[1];
            let own = entries.narrow(0, before * positions, self.width() * positions);
            Some(own.reshape([self.width(), positions * fan]))
        };
        Some(Tensor::cat(self.paths.iter().map(of_path).collect::<Option<Vec<_>>>()?, 1))
    }
}

impl Path {
    /// Channels of others before the neurons, where they are read.
    pub(crate) fn before(&self) -> usize {
        self.beside().0
    }

    fn beside(&self) -> (usize, usize) {
        self.between.iter().fold((0, 0), |(before, all), between| match between {
            Between::Beside { before: first, after } => (before + first, all + first + after),
            _ => (before, all),
        })
    }

    /// Features that a neuron has where it is read: more than one where maps were flattened.
    pub(crate) fn positions(&self, width: usize) -> usize {
        let flattened = self.between.iter().any(|between| matches!(between, Between::Flatten));
        match (flattened, width + self.beside().1) {
            (false, _) | (_, 0) => 1,
            (true, channels) => (self.consumer.inputs() / channels).max(1),
        }
    }

    /// Outgoing weights of a neuron on this path, at a site of the given width.
    pub(crate) fn fan_out(&self, width: usize) -> usize {
        self.consumer.fan_out() * self.positions(width)
    }

    /// The factor that what lies between is at zero, if it is one and the same for all entries.
    pub(crate) fn factor(&self, slopes: &[f64]) -> Option<f64> {
        self.between.iter().all(Between::is_factor).then(|| slopes.iter().product())
    }

    /// What lies between as it really is, with its new entries.
    pub(crate) fn applied(&self, neurons: Signal, fresh: &FreshLeaves) -> Signal {
        self.between.iter().fold(neurons, |neurons, between| between.applied(neurons, fresh))
    }

    /// What lies between as it is at zero, with the slopes there.
    pub(crate) fn linearised(&self, neurons: Signal, slopes: &[f64]) -> Signal {
        let between = self.between.iter().zip(slopes);
        between.fold(neurons, |neurons, (between, slope)| between.linearised(neurons, *slope))
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let mut divisors = (a, b);
    while divisors.1 != 0 {
        divisors = (divisors.1, divisors.0 % divisors.1);
    }
    a / divisors.0 * b
}

/// Mean L2 norm of rows.
fn mean_norm(rows: Tensor<2>) -> f64 {
    rows.square().sum_dim(1).sqrt().mean().into_scalar::<f64>()
}

/// The error that there is no site of this name.
pub(crate) fn unknown_site(site: &str, sites: &[Site]) -> Error {
    let known = sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
    Error::UnknownSite { site: site.to_string(), known }
}
