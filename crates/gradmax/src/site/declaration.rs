//! Sites: the places of a network where neurons can be added.

use std::ops::Range;
use std::sync::Arc;

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};

use crate::error::Error;
use crate::site::between::{Between, BetweenLayer, Gained, IntoBetween, OutputChange, Positions};
use crate::site::companion::{Companion, Companions};
use crate::site::extension::Extension;
use crate::site::front_norm::{Front, FrontNorm, shift_to};
use crate::site::layer::{Consumer, EntriesOf, Layer, Producer};
use crate::site::signal::Signal;

/// A place where neurons live: the layers that compute them, what lies between, and the layers that read them.
///
/// To add a neuron is to add *incoming* weights (and a bias) to every writer, an entry to each layer between, and
/// *outgoing* weights to every reader.
///
/// Most sites have one writer, the *producer*. A residual stream has several, whose outputs are summed; each of its
/// readers reads the sum of the writers that were declared before it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The name by which plans, policies, receipts and the probe know the site; unique in a network.
    pub name: String,
    /// The layers whose outputs are summed to the neurons; usually one.
    pub writers: Vec<Arc<dyn Producer>>,
    /// The ways from the neurons to the layers that read them; usually one.
    pub paths: Vec<Path>,
    /// Further layers that read the neurons, if there are any, but that growth does not look at: new neurons start with
    /// zero weights to them.
    pub unseen: Vec<Arc<dyn Consumer>>,
    /// What is chosen of new neurons first, if anything is.
    pub companions: Option<Companions>,
    /// The sites of one series are the same layers again and again, block after block, in the order of the forward pass.
    pub series: Option<String>,
    /// The norm in front of the writer, if there is one that nothing else reads.
    pub front: Option<Front>,
    /// The site of the same series whose neurons new ones are copies of, while a growth method chooses.
    pub(crate) template: Option<Arc<Site>>,
}

/// A way from a site's neurons to one of the layers that read them.
#[derive(Debug, Clone)]
pub struct Path {
    /// It reads the sum of so many writers, the first ones.
    pub writers: usize,
    /// What is applied to the neurons before they are read, in order.
    pub between: Vec<BetweenLayer>,
    /// The layer that reads the neurons.
    pub consumer: Arc<dyn Consumer>,
}

/// The norm of a neuron's incoming weights in a fresh layer: `fan_in` of them with He's variance, `2 / fan_in`.
pub(crate) const FRESH_INCOMING_NORM: f64 = std::f64::consts::SQRT_2;

impl Site {
    /// A site with one writer and one reader, from its layers.
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
    pub fn new<P, C>(name: impl Into<String>, producer: &P, between: impl IntoBetween, consumer: &C) -> Self
    where
        P: Producer + Clone + 'static,
        C: Consumer + Clone + 'static,
    {
        Self::written_by(name, producer).and(between, consumer)
    }

    /// A site with one writer, whose readers are still to be named by [`and`](Self::and).
    ///
    /// # Example
    /// A residual stream: a stem writes it, a block reads it and adds to it, and the output layer reads the sum of
    /// both.
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::Device};
    /// use gradmax::site::{Activation, Site};
    /// # let device = Device::default();
    /// # let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
    /// let (stem, inner, last, output) = (dense(4, 3), dense(3, 5), dense(5, 3), dense(3, 2));
    /// let stream = Site::written_by("stream", &stem)
    ///     .and([Activation::Relu], &inner)
    ///     .plus(&last)
    ///     .and([Activation::Relu], &output);
    /// assert_eq!((stream.fan_in(), stream.width(), stream.fan_out()), (4 + 5, 3, 5 + 2));
    /// assert!(stream.check().is_ok());
    /// ```
    /// In the forward pass, `probe.write("stream", 0, &input)` shows what the stem reads, `probe.write("stream", 1,
    /// &neurons)` what the block's last layer reads, and `probe.read("stream", 0, output)` what the first reader
    /// computes.
    pub fn written_by<P: Producer + Clone + 'static>(name: impl Into<String>, producer: &P) -> Self {
        let writers: Vec<Arc<dyn Producer>> = vec![Arc::new(producer.clone())];
        Self {
            name: name.into(),
            writers,
            paths: Vec::new(),
            unseen: Vec::new(),
            companions: None,
            series: None,
            front: None,
            template: None,
        }
    }

    /// Adds a further reader of the same neurons, which reads the sum of the writers named so far. A layer between that
    /// several readers share is named in each path.
    ///
    /// # Example
    /// Neurons that are read twice: by one layer alone, and by another together with five neurons of others that come
    /// first.
    /// ```
    /// # use burn::{nn::LinearConfig, tensor::Device};
    /// use gradmax::site::{Activation, Beside, Site};
    /// # let device = Device::default();
    /// # let dense = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
    /// let (hidden, alone, together) = (dense(4, 3), dense(3, 2), dense(8, 6));
    /// let beside = Beside { before: 5, after: 0 };
    /// let site = Site::new("hidden", &hidden, [Activation::Relu], &alone).and((Activation::Relu, beside), &together);
    /// assert_eq!(site.fan_out(), 2 + 6);
    /// assert!(site.check().is_ok());
    /// ```
    /// In the forward pass, the first consumer is shown with `probe.site("hidden", &input, output)` and the second with
    /// `probe.consumer("hidden", 1, &input, output)`.
    #[must_use]
    pub fn and<C: Consumer + Clone + 'static>(mut self, between: impl IntoBetween, consumer: &C) -> Self {
        let (between, consumer) = (between.into_between(), Arc::new(consumer.clone()));
        self.paths.push(Path { writers: self.writers.len(), between, consumer });
        self
    }

    /// Adds a further writer, whose output is added to the neurons: readers that are named from here on read it too.
    #[must_use]
    pub fn plus<P: Producer + Clone + 'static>(mut self, producer: &P) -> Self {
        self.writers.push(Arc::new(producer.clone()));
        self
    }

    /// Names a layer that reads the neurons, but that growth is not to look at.
    #[must_use]
    pub fn unseen_by<C: Consumer + Clone + 'static>(mut self, layer: &C) -> Self {
        self.unseen.push(Arc::new(layer.clone()));
        self
    }

    /// Names what decides what the incoming weights of the site's neurons see of what its writer reads: a gate, or queries and
    /// keys.
    #[must_use]
    pub fn seeing_through(mut self, companion: impl Companion + 'static) -> Self {
        self.companions = Some(Companions::new(Arc::new(companion)));
        self
    }

    /// Names the series of sites that this one belongs to: the same layers again and again, block after block. Whole blocks
    /// are copied within a series.
    #[must_use]
    pub fn in_series(mut self, series: impl Into<String>) -> Self {
        self.series = Some(series.into());
        self
    }

    /// Names the norm in front of the writer, if nothing else reads it: a copy of a block has that block's norm too.
    #[must_use]
    pub fn behind(mut self, norm: &impl FrontNorm) -> Self {
        self.front = Some(Front::of(norm));
        self
    }

    /// The site as it is to be where its new neurons are copies of another site's.
    pub(crate) fn copied_from(self, template: &Self) -> Self {
        let companions = match (self.companions, &template.companions) {
            (Some(own), Some(others)) => Some(own.choosing_each(others.all_units())),
            (own, _) => own,
        };
        Self { companions, template: Some(Arc::new(template.clone())), ..self }
    }

    /// The site with the companions of these units that are there, one after another; the same where there are none.
    pub(crate) fn seen_by_units(&self, units: impl Iterator<Item = usize>) -> Self {
        let of_units =
            |companions: &Companions| companions.choosing_each(units.map(|unit| companions.of_unit(unit)).collect());
        Self { companions: self.companions.as_ref().map(of_units), ..self.clone() }
    }

    /// What is added to what lies around the neurons where these are copies of another site's: to the norm in front, and to
    /// the readers' biases if their weights are copied.
    pub(crate) fn copied_shifts(&self, with_readers: bool) -> Vec<Extension> {
        let Some(template) = &self.template else {
            return Vec::new();
        };
        let front = self.front.iter().zip(&template.front).flat_map(|(own, other)| own.shifts_to(other));
        let readers = self.paths.iter().zip(&template.paths).filter(|_| with_readers);
        let biases = readers.filter_map(|(own, other)| own.consumer.bias().zip(other.consumer.bias()));
        front.chain(biases.map(|(own, other)| shift_to(own, other))).collect()
    }

    /// What the writer reads, with the norm in front as it is to be.
    pub(crate) fn behind_front(&self, read: Signal) -> Signal {
        let template = self.template.as_ref().and_then(|template| template.front.as_ref());
        match self.front.as_ref().zip(template) {
            Some((own, other)) => own.read_as(other, read),
            None => read,
        }
    }

    /// The first writer, which is the only one but for residual streams.
    pub fn producer(&self) -> &dyn Producer {
        &*self.writers[0]
    }

    /// Number of neurons at the site.
    pub fn width(&self) -> usize {
        self.producer().outputs()
    }

    /// Incoming weights of one neuron, into all writers.
    pub fn fan_in(&self) -> usize {
        self.writers.iter().map(|writer| writer.fan_in()).sum()
    }

    /// The incoming weights of a neuron that lead into a writer.
    pub(crate) fn columns(&self, writer: usize) -> Range<usize> {
        let first = self.writers[..writer].iter().map(|writer| writer.fan_in()).sum();
        first..first + self.writers[writer].fan_in()
    }

    /// The first writer with a bias, which is the one that new neurons have.
    pub(crate) fn biased_writer(&self) -> Option<usize> {
        self.writers.iter().position(|writer| writer.bias().is_some())
    }

    /// The neurons' bias, if a writer has any.
    pub(crate) fn bias(&self) -> Option<&Param<Tensor<1>>> {
        self.writers.iter().find_map(|writer| writer.bias())
    }

    /// Outgoing weights of one neuron, to all consumers.
    pub fn fan_out(&self) -> usize {
        self.paths.iter().map(|path| path.fan_out(self.width())).sum()
    }

    /// The site falls into so many blocks of equal width, each between one group of the writers and one of every
    /// reader; they grow by the same number of neurons. 1 where no layer is grouped.
    pub fn blocks(&self) -> usize {
        self.layers().map(Layer::groups).fold(1, least_common_multiple)
    }

    /// Every layer that writes or reads the neurons.
    fn layers(&self) -> impl Iterator<Item = &dyn Layer> {
        let readers = self.paths.iter().map(|path| &path.consumer).chain(&self.unseen);
        let writers = self.writers.iter().map(|writer| &**writer as &dyn Layer);
        writers.chain(readers.map(|reader| &**reader as &dyn Layer))
    }

    /// Everything that lies on the ways to the readers.
    fn between(&self) -> impl Iterator<Item = &BetweenLayer> {
        self.paths.iter().flat_map(|path| &path.between)
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

    /// Neurons that belong together: the width of a head, or 1.
    pub(crate) fn unit(&self) -> usize {
        self.companions.as_ref().map_or(1, |companions| companions.companion.unit())
    }

    /// New neurons come in multiples of this, so that groups stay even.
    pub(crate) fn growth_unit(&self) -> usize {
        let sizes = self.between().map(|between| between.traits().group_size);
        self.blocks() * sizes.fold(self.unit(), least_common_multiple)
    }

    /// Whether a norm follows the producer.
    pub fn has_norm(&self) -> bool {
        self.between().any(|between| is_norm(&**between))
    }

    /// Whether what lies between is random in training, so that the growth operator tells the mean gradient of new
    /// neurons rather than that of the pass at hand.
    pub(crate) fn is_random(&self) -> bool {
        self.between().any(|between| between.traits().is_random)
    }

    /// Whether every layer of the site is shown to the probe.
    pub(crate) fn is_seen_whole(&self) -> bool {
        self.unseen.is_empty()
    }

    /// Whether the growth operator tells the gradient of several new neurons exactly: they do not share a norm's group.
    pub(crate) fn neurons_are_independent(&self) -> bool {
        self.between().all(|between| between.traits().group_size == 1) && self.preserves_function()
    }

    /// Whether a new neuron that is zero leaves the output as it is.
    pub(crate) fn preserves_function(&self) -> bool {
        self.between().all(|between| between.traits().output_change.is_none())
    }

    /// Checks that the layers fit together: widths, groups and axes of positions.
    ///
    /// # Errors
    /// [`Error::SiteMismatch`], [`Error::SiteRank`], [`Error::UnevenGroups`] and [`Error::LayerNormAcrossNeurons`].
    pub fn check(&self) -> Result<(), Error> {
        let width = self.width();
        let axes = self.producer().layout().position_axes();
        for writer in &self.writers {
            self.check_features("writer", writer.outputs(), width)?;
            self.check_axes("writer", axes, writer.layout().position_axes())?;
        }
        if let Some(companions) = &self.companions
            && (self.blocks() > 1 || self.writers.len() > 1)
        {
            let (site, companion) = (self.name.clone(), companions.companion.name().to_string());
            return Err(Error::CompanionsOfSeveral { site, companion });
        }
        for layer in self.companions.iter().flat_map(|companions| companions.companion.layers()) {
            self.check_features("companion", layer.outputs(), width)?;
        }
        for reader in &self.unseen {
            self.check_features("unseen layer", reader.inputs(), width)?;
        }
        self.paths.iter().try_for_each(|path| self.check_path(path, axes))
    }

    fn check_features(&self, layer: &str, reads: usize, offered: usize) -> Result<(), Error> {
        match reads == offered {
            true => Ok(()),
            false => Err(Error::SiteMismatch { site: self.name.clone(), layer: layer.into(), reads, offered }),
        }
    }

    /// Checks that a layer takes so many axes of positions, if both are known.
    fn check_axes(&self, layer: &str, offered: Option<usize>, takes: Option<usize>) -> Result<(), Error> {
        match (offered, takes) {
            (Some(offered), Some(takes)) if offered != takes => {
                Err(Error::SiteRank { site: self.name.clone(), layer: layer.into(), takes, offered })
            }
            _ => Ok(()),
        }
    }

    /// Checks what neurons with so many axes of positions, if that is known, go through.
    pub(crate) fn check_path(&self, path: &Path, mut axes: Option<usize>) -> Result<(), Error> {
        let width = self.width();
        self.check_groups(path)?;
        let (mut neighbours, mut positions) = (0_usize, 1);
        for between in &path.between {
            let (name, traits) = (between.name(), between.traits());
            if traits.output_change == Some(OutputChange::Refused) {
                return Err(Error::LayerNormAcrossNeurons { site: self.name.clone() });
            }
            neighbours += traits.beside.iter().sum::<usize>();
            match traits.positions {
                Positions::Any => {}
                Positions::Axes(takes) => {
                    self.check_axes(name, axes, Some(takes))?;
                    axes = Some(takes);
                }
                Positions::Averaged | Positions::Flattened if axes == Some(0) => {
                    return Err(Error::NoPositions { site: self.name.clone(), layer: name.into() });
                }
                Positions::Averaged => axes = Some(0),
                Positions::Flattened => (axes, positions) = (Some(0), path.positions(width)),
            }
            if let Some(features) = traits.features {
                self.check_features(name, features, (neighbours + width) * positions)?;
            }
        }
        self.check_axes("consumer", axes, path.consumer.layout().position_axes())?;
        match (neighbours + width) * positions == path.consumer.inputs() {
            true => Ok(()),
            false => self.check_features("consumer", path.consumer.inputs(), neighbours + width),
        }
    }

    /// Checks that the neurons of a path fall into the groups of every layer.
    fn check_groups(&self, path: &Path) -> Result<(), Error> {
        let (width, blocks, mut before) = (self.width(), self.blocks(), 0_usize);
        let uneven = |unit: usize| Error::UnevenGroups { site: self.name.clone(), width, unit };
        if !width.is_multiple_of(blocks) {
            return Err(uneven(blocks));
        }
        for traits in path.between.iter().map(|between| between.traits()) {
            let ([first, after], unit) = (traits.beside, traits.group_size);
            if first + after > 0 && blocks > 1 {
                return Err(uneven(blocks));
            }
            before += first;
            if !(width / blocks).is_multiple_of(unit) || !before.is_multiple_of(unit) {
                return Err(uneven(unit));
            }
        }
        Ok(())
    }

    /// The slopes at zero of what lies between, path by path, measured on the given device.
    ///
    /// # Errors
    /// [`Error::ActivationNotZeroAtZero`] and [`Error::ActivationFlatAtZero`], for activations under which a neuron
    /// with zero incoming weights would change the output or receive no gradient.
    pub fn slopes_at_zero(&self, device: &Device) -> Result<Vec<Vec<f64>>, Error> {
        self.paths.iter().map(|path| path.between.iter().map(|between| self.slope(between, device)).collect()).collect()
    }

    /// The slopes by which incoming directions are chosen where outgoing weights are zero: such neurons change nothing
    /// under any activation, so nothing is refused, and one that is flat at zero counts as the identity.
    pub(crate) fn slopes_for_directions(&self, device: &Device) -> Vec<Vec<f64>> {
        let slope = |between: &BetweenLayer| between.at_zero(device).map_or(1.0, |at_zero| at_zero.slope);
        let or_one = |slope: f64| if slope == 0.0 { 1.0 } else { slope };
        self.paths.iter().map(|path| path.between.iter().map(|between| or_one(slope(between))).collect()).collect()
    }

    fn slope(&self, between: &BetweenLayer, device: &Device) -> Result<f64, Error> {
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
        let biases = self.writers.iter().flat_map(|writer| writer.bias()).map(|bias| bias.id);
        let between = self.between().flat_map(|between| between.gains()).map(|gain| gain.parameter);
        let companions = self.companions.iter().flat_map(|companions| companions.companion.layers());
        let companions = companions.flat_map(|layer| std::iter::once(layer.weight()).chain(layer.bias().map(|b| b.id)));
        self.layers().map(Layer::weight).chain(biases).chain(between).chain(companions.collect::<Vec<_>>())
    }

    /// Mean L2 norm of the incoming weights of the existing neurons; for a site without neurons, the norm that a layer
    /// with `count` neurons would start with (He et al. 2015).
    pub fn mean_incoming_norm(&self) -> f64 {
        match self.width() {
            0 => FRESH_INCOMING_NORM,
            _ => mean_norm(self.incoming(EntriesOf::Values).expect("layers have weights")),
        }
    }

    /// As [`mean_incoming_norm`](Self::mean_incoming_norm), of the outgoing weights to all consumers.
    pub fn mean_outgoing_norm(&self, count: usize) -> f64 {
        match self.width() {
            0 => self.fresh_outgoing_norm(count),
            _ => mean_norm(self.outgoing(EntriesOf::Values).expect("layers have weights")),
        }
    }

    /// The norm of a neuron's outgoing weights if all readers were initialised anew, with `count` more neurons of each
    /// block.
    pub(crate) fn fresh_outgoing_norm(&self, count: usize) -> f64 {
        let squared = |path: &Path| {
            // A neuron's share of He's variance at the reader, `2 / (neurons * taps)` for each of its `fan_out` weights
            // there.
            let rows = path.fan_out(self.width()) as f64;
            let taps = rows * path.consumer.groups() as f64 / path.consumer.outputs() as f64;
            let others = path.consumer.inputs() / path.consumer.groups() / path.positions(self.width()).max(1);
            let in_group = self.blocks() / path.consumer.groups();
            2.0 * rows / ((others + count * in_group) as f64 * taps)
        };
        self.paths.iter().map(squared).sum::<f64>().sqrt()
    }

    /// Entries of the existing neurons' incoming weights, `[width, fan_in]`; none if no writer has any.
    pub(crate) fn incoming(&self, of: EntriesOf<'_>) -> Option<Tensor<2>> {
        let of_writers = self.writers.iter().map(|writer| writer.incoming(of)).collect::<Vec<_>>();
        let known = of_writers.iter().flatten().next()?.clone();
        // A frozen writer has no gradient, where another one has.
        let zeros = |fan_in: usize| Tensor::zeros([self.width(), fan_in], (&known.device(), known.dtype()));
        let all = self.writers.iter().zip(of_writers).map(|(writer, of)| of.unwrap_or_else(|| zeros(writer.fan_in())));
        Some(beside(all.collect()))
    }

    /// Entries of the existing neurons' outgoing weights, `[width, fan_out]`; none if a consumer has none.
    pub(crate) fn outgoing(&self, of: EntriesOf<'_>) -> Option<Tensor<2>> {
        self.by_neuron(|path| path.consumer.outgoing(of))
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
        // Burn takes a length of 0 in `reshape` for the one that is there, so layers without outputs are passed over.
        let paths = self.paths.iter().filter(|path| path.consumer.outputs() > 0);
        let of_paths = paths.map(of_path).collect::<Option<Vec<_>>>()?;
        match of_paths.is_empty() {
            true => Some(self.incoming(EntriesOf::Values)?.narrow(1, 0, 0)),
            false => Some(beside(of_paths)),
        }
    }
}

impl Path {
    /// Channels of others before the neurons, where they are read.
    pub(crate) fn before(&self) -> usize {
        self.beside().0
    }

    fn beside(&self) -> (usize, usize) {
        self.between.iter().fold((0, 0), |(before, all), between| {
            let [first, after] = between.traits().beside;
            (before + first, all + first + after)
        })
    }

    /// Features that a neuron has where it is read: more than one where positions were flattened.
    pub(crate) fn positions(&self, width: usize) -> usize {
        match (self.flattens(), width + self.beside().1) {
            (false, _) | (_, 0) => 1,
            (true, channels) => (self.consumer.inputs() / channels).max(1),
        }
    }

    /// Whether positions become features on the way.
    pub(crate) fn flattens(&self) -> bool {
        self.between.iter().any(|between| between.traits().positions == Positions::Flattened)
    }

    /// Outgoing weights of a neuron on this path, at a site of the given width.
    pub(crate) fn fan_out(&self, width: usize) -> usize {
        self.consumer.fan_out() * self.positions(width)
    }

    /// The factor that what lies between is at zero, if it is one and the same for all entries.
    pub(crate) fn factor(&self, slopes: &[f64]) -> Option<f64> {
        self.between.iter().all(|between| between.traits().is_factor).then(|| slopes.iter().product())
    }

    /// What lies between as it really is, with its new entries.
    pub(crate) fn applied(&self, neurons: Signal, gained: &Gained) -> Signal {
        self.between.iter().fold(neurons, |neurons, between| between.applied(neurons, gained))
    }

    /// What lies between as it is at zero, with the slopes there.
    pub(crate) fn linearised(&self, neurons: Signal, slopes: &[f64]) -> Signal {
        let between = self.between.iter().zip(slopes);
        between.fold(neurons, |neurons, (between, slope)| between.linearised(neurons, *slope))
    }
}

/// Whether a layer divides neurons by their own spread, which is 0 for neurons with zero incoming weights.
fn is_norm(between: &dyn Between) -> bool {
    let traits = between.traits();
    traits.norm_gain.is_some() || traits.output_change.is_some()
}

/// Matrices with as many rows, side by side.
fn beside(mut matrices: Vec<Tensor<2>>) -> Tensor<2> {
    match matrices.len() {
        1 => matrices.remove(0),
        _ => Tensor::cat(matrices, 1),
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

/// The site of this name.
pub(crate) fn site_named<'s>(name: &str, sites: &'s [Site]) -> Result<&'s Site, Error> {
    sites.iter().find(|site| site.name == name).ok_or_else(|| {
        let known = sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::UnknownSite { site: name.to_string(), known }
    })
}
