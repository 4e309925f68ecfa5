//! What can go wrong when a network grows or trains, with the facts and the remedy.

use std::path::PathBuf;

/// An error of growing, training or checkpointing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An activation between producer and consumer is not zero at zero.
    #[error(
        "site `{site}` cannot grow with zero incoming weights: its activation `{activation}` gives {value} at 0, \
         so new neurons would change the output; use an activation with f(0) = 0 (relu, tanh, gelu, silu, elu), \
         or shift this one by -{value}"
    )]
    ActivationNotZeroAtZero {
        /// The site's name.
        site: String,
        /// The activation's name.
        activation: String,
        /// Its value at 0.
        value: f64,
    },
    /// An activation between producer and consumer has no slope at zero.
    #[error(
        "site `{site}` cannot grow with zero incoming weights: its activation `{activation}` has slope 0 at 0, \
         so new neurons would never receive a gradient; use one with a slope there (`Activation::Relu` has slope 1 \
         at 0, Burn's own `relu` does not)"
    )]
    ActivationFlatAtZero {
        /// The site's name.
        site: String,
        /// The activation's name.
        activation: String,
    },
    /// A layer of a site does not read as many features as reach it.
    #[error(
        "site `{site}` does not fit together: its {layer} is made for {reads} features, but {offered} reach it; \
         check the layers that `sites()` names, and their order"
    )]
    SiteMismatch {
        /// The site's name.
        site: String,
        /// The layer.
        layer: String,
        /// Features that it reads.
        reads: usize,
        /// Features that the layers before it give.
        offered: usize,
    },
    /// Neurons of a grouped site, or of one with several writers, cannot have companions.
    #[error(
        "site `{site}`: its neurons have a {companion}, which is possible where one layer without groups computes them; name \
         one site for each layer, or leave the {companion} out"
    )]
    CompanionsOfSeveral {
        /// The site's name.
        site: String,
        /// What the neurons have.
        companion: String,
    },
    /// A layer of a site takes another number of axes of positions than reach it: maps have two, plain features none.
    #[error(
        "site `{site}` does not fit together: its {layer} reads {} but {} reach it; name the pooling or `Flatten` that makes \
         vectors of maps where the forward pass does so, and nowhere else",
        activations(*takes), activations(*offered)
    )]
    SiteRank {
        /// The site's name.
        site: String,
        /// The layer.
        layer: String,
        /// Axes of positions that it takes.
        takes: usize,
        /// Axes of positions that reach it.
        offered: usize,
    },
    /// A layer of a site does away with positions where there are none.
    #[error(
        "site `{site}` does not fit together: its {layer} reads maps or sequences, but vectors reach it; leave it out, or name \
         the layers in the forward pass's order"
    )]
    NoPositions {
        /// The site's name.
        site: String,
        /// The layer.
        layer: String,
    },
    /// A site's neurons, or those it should gain, do not fall evenly into groups.
    #[error(
        "site `{site}`: a number of {width} does not fall into groups evenly; its layers need multiples of {unit} neurons \
         (groups grow by the same number of neurons each, and a group norm's groups are whole)"
    )]
    UnevenGroups {
        /// The site's name.
        site: String,
        /// The neurons.
        width: usize,
        /// What their number must be a multiple of.
        unit: usize,
    },
    /// New neurons change the statistics of a layer norm, and so the output.
    #[error(
        "site `{site}` has a layer norm over its neurons: new ones change its statistics and so the output; use batch norm or \
         group norm, or accept the change with `ChangingLayerNorm`"
    )]
    LayerNormAcrossNeurons {
        /// The site's name.
        site: String,
    },
    /// What a site's layers compute has another shape than what its consumer showed.
    #[error(
        "site `{site}`: the layers that `sites()` names give outputs of shape {branch:?} an example where the forward pass showed \
         {consumer:?}; name everything between producer and consumer, in order"
    )]
    BranchMismatch {
        /// The site's name.
        site: String,
        /// The shape by the site's layers.
        branch: Vec<usize>,
        /// The shape that was shown.
        consumer: Vec<usize>,
    },
    /// The forward pass showed a consumer that the site does not have.
    #[error("site `{site}` was shown with consumer {consumer}, but it has {consumers}, counted from 0")]
    UnknownConsumer {
        /// The site's name.
        site: String,
        /// The consumer shown.
        consumer: usize,
        /// Consumers of the site.
        consumers: usize,
    },
    /// Two sites have one producer.
    #[error(
        "the sites `{site}` and `{other}` have the same producer: neurons belong to one site; name the layers that read them as \
         its consumers, with `Site::and`"
    )]
    SharedProducer {
        /// The first site's name.
        site: String,
        /// The other one's.
        other: String,
    },
    /// A parameter of a site is in the network more than once.
    #[error(
        "site `{site}`: {paths} are one parameter in several places of the network, as clones of a layer are, so that they \
         cannot grow apart; initialize each layer by itself"
    )]
    SharedParameter {
        /// The site's name.
        site: String,
        /// Where it is.
        paths: String,
    },
    /// A layer of a site is of another float type than the device's default.
    #[error(
        "site `{site}`: `{parameter}` is {found}, and growth computes in the device's default float type, {expected}; cast the \
         network back before it grows, or change the default"
    )]
    FloatType {
        /// The site's name.
        site: String,
        /// Where the parameter is.
        parameter: String,
        /// Its type.
        found: String,
        /// The device's default.
        expected: String,
    },
    /// No example of the growth batch reaches a site.
    #[error(
        "no example of the growth batch reaches the site `{site}`, so that nothing is known of it; use a larger growth batch, or \
         leave the site out of the plan"
    )]
    NoExamples {
        /// The site's name.
        site: String,
    },
    /// The forward pass of the grown network panics.
    #[error(
        "growing {sites}: the forward pass of the grown network fails ({reason}); the network was left as it was: check that \
         `sites()` names every layer that reads the neurons"
    )]
    GrownNetworkFails {
        /// The sites that were grown.
        sites: String,
        /// What the panic said.
        reason: String,
    },
    /// A plan or schedule names a site that the network does not have.
    #[error("the network has no site `{site}`; its sites are: {known}")]
    UnknownSite {
        /// The name that was asked for.
        site: String,
        /// The names that exist.
        known: String,
    },
    /// The forward pass never showed a site to the probe.
    #[error(
        "site `{site}` was not shown to the probe: call the probe for it (consumer {consumer}) in `forward_probed`, with the \
         producer's input and the consumer's output"
    )]
    SiteNotShown {
        /// The site's name.
        site: String,
        /// Which of its consumers, counted from 0.
        consumer: usize,
    },
    /// A site was shown with tensors that do not fit its layers.
    #[error(
        "site `{site}`: {what} was shown with shape {shape:?}, but has {features} features or channels by the layers that \
         `sites()` names; show the input of the writer and the output of the reader (channels second at convolutions, features \
         last at dense layers, indices at embeddings)"
    )]
    ShownWrongTensors {
        /// The site's name.
        site: String,
        /// What was shown.
        what: String,
        /// The shape that was shown.
        shape: Vec<usize>,
        /// Features that the layer has there.
        features: usize,
    },
    /// The forward pass showed a reader of a residual stream before one of the writers whose sum it reads.
    #[error(
        "site `{site}`: consumer {consumer} was shown before writer {writer}, counted from 0; call `probe.write` for each writer \
         that `sites()` names before the consumer"
    )]
    WriterNotShown {
        /// The site's name.
        site: String,
        /// The writer.
        writer: usize,
        /// The consumer shown.
        consumer: usize,
    },
    /// Growing by no neurons.
    #[error("site `{site}` was asked to grow by 0 neurons; ask for at least 1, or leave the site out of the plan")]
    NothingToGrow {
        /// The site's name.
        site: String,
    },
    /// The growth operator has entries that are not finite.
    #[error(
        "the gradients on the growth batch are not finite numbers, so there is nothing to grow along; lower the learning rate"
    )]
    OperatorNotFinite,
    /// A site is named twice.
    #[error(
        "site `{site}` is named twice; the sites of a network need names of their own, and a plan names each at most once"
    )]
    RepeatedSite {
        /// The name.
        site: String,
    },
    /// A growth method was given something that it cannot work with.
    #[error("`{method}` cannot initialize site `{site}`: {reason}")]
    Method {
        /// The growth method's name.
        method: String,
        /// The site's name.
        site: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A growth method returned matrices of the wrong shape, or with entries that are not finite.
    #[error("`{method}` returned unusable neurons for site `{site}`: {reason}")]
    UnusableNeurons {
        /// The growth method's name.
        method: String,
        /// The site's name.
        site: String,
        /// What is wrong.
        reason: String,
    },
    /// An extension does not fit the parameter it is for.
    #[error("cannot extend parameter `{parameter}` along axis {axis}: {reason}")]
    ExtensionMismatch {
        /// The parameter's id or path.
        parameter: String,
        /// The axis to extend.
        axis: usize,
        /// What does not fit.
        reason: String,
    },
    /// A growth event changed what the network computes.
    #[error(
        "growing {sites} changed the output by {change:.3e} relative, more than the tolerance of {tolerance:.1e}; the network \
         was left as it was: check that `sites()` names the activation that the forward pass applies"
    )]
    OutputChanged {
        /// The sites that were grown.
        sites: String,
        /// Largest change over largest output.
        change: f64,
        /// The tolerance.
        tolerance: f64,
    },
    /// Rescaling existing weights before growth changed what the network computes.
    #[error(
        "rescaling existing weights before step {step} changed the output by {change:.3e} relative, more than the tolerance of \
         {tolerance:.1e}; the network was left as it was: check that `sites()` names the batch norm that the forward pass \
         applies, or grow without rescaling"
    )]
    RescalingChanges {
        /// The gradient step that would have come next.
        step: usize,
        /// Largest change over largest output.
        change: f64,
        /// The tolerance.
        tolerance: f64,
    },
    /// A growth event changed the loss, and not the output.
    #[error(
        "growing {sites} changed the loss from {before:.6e} to {after:.6e}, but not the output: the loss reads the neurons \
         themselves, as a penalty on activations does, and its gradient cannot be told beforehand; the network was left as it \
         was: leave such terms out of the loss of the pass that growth looks at"
    )]
    LossChanged {
        /// The sites that were grown.
        sites: String,
        /// The loss on the growth batch before growth.
        before: f64,
        /// After it.
        after: f64,
    },
    /// The new neurons receive another gradient than the growth operator says.
    #[error(
        "new neurons at site `{site}` receive a gradient of norm {measured:.6e}, not the predicted one of norm {predicted:.6e} (the \
         norm of the difference is {difference:.6e}); the network was left as it was: check that `sites()` names the layers and \
         the activation that the forward pass applies"
    )]
    GradientMismatch {
        /// The site's name.
        site: String,
        /// Norm that the growth operator predicts.
        predicted: f64,
        /// Norm measured on the grown network.
        measured: f64,
        /// Norm of the difference, entry by entry.
        difference: f64,
    },
    /// The loss is not a finite number.
    #[error(
        "the loss became {loss} at step {step}; lower the learning rate, or check the data for values that are not finite"
    )]
    LossNotFinite {
        /// The step.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// Weights or optimizer state are not finite numbers.
    #[error(
        "{what} became infinite or not a number by step {step}; the checkpoint before is kept: lower the learning rate, or clip \
         gradients"
    )]
    WeightsNotFinite {
        /// What did.
        what: &'static str,
        /// The step.
        step: usize,
    },
    /// A label does not belong to any output.
    #[error(
        "the {set} examples have the label {label}, but the network has {outputs} outputs, for labels 0 to {last}; give it an \
         output for every class, or number classes from 0", last = .outputs.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// Which examples.
        set: &'static str,
        /// The largest label, or a negative one.
        label: i64,
        /// The network's outputs.
        outputs: usize,
    },
    /// An option has a value that makes no sense.
    #[error("`{option}` is {value}; {remedy}")]
    BadOption {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        remedy: &'static str,
    },
    /// Options of something that configurations can name do not exist, or cannot have their values.
    #[error("the options of `{name}`: {reason}")]
    Options {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A stage of a network cannot follow those before it.
    #[error("stage {stage} of the network: {reason}")]
    BadStage {
        /// Which one, counted from 1.
        stage: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An optimizer's state could not be read or written.
    #[error("the optimizer state cannot be carried across growth: {reason}")]
    OptimizerState {
        /// What the record format said.
        reason: String,
    },
    /// A checkpoint cannot be written or read.
    #[error("checkpoint `{path}`: {reason}")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Examples could not be read.
    #[error("{0}")]
    Examples(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An observer failed.
    #[error("{0}")]
    Observer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What activations with so many axes of positions are called.
fn activations(axes: usize) -> String {
    match axes {
        0 => "vectors".into(),
        1 => "sequences".into(),
        2 => "maps".into(),
        axes => format!("activations with {axes} axes of positions"),
    }
}
