//! What cannot grow is refused before anything changes, and what is declared wrongly is caught.

mod common;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Tensor, activation};
use common::{Batch, device, everywhere, mlp};
use gradmax::Error;
use gradmax::event::{Grower, Planned};
use gradmax::methods::SidePolicy;
use gradmax::methods::{GradMax, GrowthMethod, Need, Placement, Random, Request, Scale};
use gradmax::networks::Mlp;
use gradmax::site::{Activation, BetweenLayer, Elementwise, Growable, Probe, Site};
use gradmax::surgery::{Changes, NewNeurons};

fn grow<N: Growable<Input = Tensor<2>, Output = Tensor<2>>>(
    grower: &Grower,
    network: &N,
    batch: &Batch,
) -> Result<(), Error> {
    let plan = everywhere(network, 2);
    grower.grow(network, &SgdConfig::new().init(), &plan, |n, probe| batch.pass(n, probe)).map(|_| ())
}

#[test]
fn activations_that_are_not_zero_at_zero_are_refused() {
    for activation in [Activation::Sigmoid, Activation::Softplus] {
        let network = mlp(5, &[4], 2, activation, true);
        let refused = Grower::new(GradMax::default()).check(&network).unwrap_err();
        assert!(matches!(refused, Error::ActivationNotZeroAtZero { .. }));
        let message = refused.to_string();
        assert!(message.contains("`hidden1`") && message.contains(activation.name()) && message.contains("use"));
        assert!(grow(&Grower::new(GradMax::default()), &network, &Batch::new(9, 5, 2)).is_err());
    }
}

#[test]
fn with_zero_outgoing_weights_any_activation_can_grow() {
    let inverse = Placement { zero_side: SidePolicy::Outgoing, ..Placement::default() };
    let network = mlp(5, &[4, 3], 2, Activation::Sigmoid, true);
    let batch = Batch::new(30, 5, 2);
    for grower in [Grower::new(Random {}), Grower::new(GradMax::default())].map(|grower| grower.with_placement(inverse))
    {
        let growth = grower
            .grow(&network, &SgdConfig::new().init(), &everywhere(&network, 2), |n, probe| batch.pass(n, probe))
            .unwrap();
        for site in &growth.receipt.sites {
            assert_eq!(site.gradient_norm, Some(0.0));
            assert!(site.outgoing_gradient_norm.unwrap() > 0.0);
        }
    }
}

/// One hidden layer whose site declares one activation and whose forward pass applies another.
#[derive(Module, Debug)]
struct Mistaken {
    hidden: Linear,
    output: Linear,
    #[module(skip)]
    mistake: Mistake,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistake {
    BurnsRelu,
    Sigmoid,
    HalfSlope,
    WrongInput,
    NotShown,
    DeclaresBurnsRelu,
}

impl Mistaken {
    fn new(mistake: Mistake) -> Self {
        let device = device();
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
        Self { hidden: layer(5, 4), output: layer(4, 2), mistake }
    }
}

impl Growable for Mistaken {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let declared = match self.mistake {
            Mistake::DeclaresBurnsRelu => Elementwise { name: "relu", function: activation::relu }.into(),
            _ => BetweenLayer::from(Activation::Relu),
        };
        vec![Site::new("hidden", &self.hidden, [declared], &self.output)]
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let produced = self.hidden.forward(input.clone());
        let neurons = match self.mistake {
            Mistake::BurnsRelu | Mistake::DeclaresBurnsRelu => activation::relu(produced),
            Mistake::Sigmoid => activation::sigmoid(produced),
            Mistake::HalfSlope => activation::gelu(produced),
            Mistake::WrongInput | Mistake::NotShown => Activation::Relu.apply(produced),
        };
        let output = self.output.forward(neurons.clone());
        match self.mistake {
            Mistake::WrongInput => probe.site("hidden", &neurons, output),
            Mistake::NotShown => output,
            _ => probe.site("hidden", &input, output),
        }
    }
}

#[test]
fn what_a_network_declares_wrongly_is_caught() {
    let refused =
        |mistake| grow(&Grower::new(GradMax::default()), &Mistaken::new(mistake), &Batch::new(30, 5, 2)).unwrap_err();
    assert!(matches!(refused(Mistake::BurnsRelu), Error::GradientMismatch { measured: 0.0, .. }));
    assert!(matches!(refused(Mistake::HalfSlope), Error::GradientMismatch { .. }));
    assert!(matches!(refused(Mistake::Sigmoid), Error::OutputChanged { .. }));
    assert!(matches!(refused(Mistake::WrongInput), Error::ShownWrongTensors { .. }));
    assert!(matches!(refused(Mistake::NotShown), Error::SiteNotShown { .. }));
    assert!(matches!(refused(Mistake::DeclaresBurnsRelu), Error::ActivationFlatAtZero { .. }));
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let network = mlp(5, &[4], 2, Activation::Relu, true);
    let batch = Batch::new(9, 5, 2);
    let grow = |site: &str, count| {
        let plan = [Planned { site: site.into(), count }];
        Grower::new(GradMax::default())
            .grow(&network, &SgdConfig::new().init(), &plan, |n: &Mlp, probe: &mut dyn Probe| batch.pass(n, probe))
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(grow("hidden1", 0), Error::NothingToGrow { .. }));
    assert!(grow("hidden7", 1).to_string().contains("hidden1"));
    let twice = [1, 2].map(|count| Planned { site: "hidden1".into(), count });
    let optimizer = SgdConfig::new().init();
    let refused = Grower::new(GradMax::default()).grow(&network, &optimizer, &twice, |n, probe| batch.pass(n, probe));
    assert!(matches!(refused.map(|_| ()), Err(Error::RepeatedSite { .. })));
}

#[test]
fn a_mean_scale_needs_neurons_with_weights() {
    let mut network = mlp(5, &[4], 2, Activation::Relu, true);
    network = network.map(&mut Zeroed);
    let batch = Batch::new(9, 5, 2);
    assert!(matches!(grow(&Grower::new(Random {}), &network, &batch), Err(Error::Method { .. })));
    let fixed = Placement { scale: Scale::Fixed, ..Placement::default() };
    grow(&Grower::new(Random {}).with_placement(fixed), &network, &batch).unwrap();
}

struct Zeroed;

impl burn::module::ModuleMapper for Zeroed {
    fn map_float<const D: usize>(&mut self, param: burn::module::Param<Tensor<D>>) -> burn::module::Param<Tensor<D>> {
        param.map(|tensor| tensor.zeros_like().detach().require_grad())
    }
}

/// Returns something of the wrong shape, or not finite, or asks for what it did not say it needs.
struct Broken(&'static str);

impl GrowthMethod for Broken {
    fn name(&self) -> &str {
        "broken"
    }
    fn needs(&self) -> &'static [Need] {
        &[]
    }
    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let drawn = request.draw(|_| 1.0);
        let mut neurons = request.place(drawn.as_ref())?;
        match self.0 {
            "shape" => neurons.bias.clear(),
            "finite" => neurons.outgoing[(0, 0)] = f64::NAN,
            "parent" => neurons.parents = vec![Some(request.width); request.count],
            "parents" => neurons.parents = vec![None; request.count + 1],
            "changes" => neurons.changes = Some(Changes::none(request.width + 1, request.fan_in, request.fan_out)),
            "change" => {
                let mut changes = Changes::none(request.width, request.fan_in, request.fan_out);
                changes.bias[0] = f64::INFINITY;
                neurons.changes = Some(changes);
            }
            "loss" => drop(request.loss()?),
            _ => drop(request.operator()?),
        }
        Ok(neurons)
    }
}

#[test]
fn broken_initializers_are_caught() {
    let network = mlp(5, &[4], 2, Activation::Relu, true);
    let refused = |how| grow(&Grower::new(Broken(how)), &network, &Batch::new(9, 5, 2)).unwrap_err();
    for how in ["shape", "finite", "parent", "parents", "changes", "change"] {
        assert!(matches!(refused(how), Error::UnusableNeurons { .. }), "{how}");
    }
    assert!(refused("loss").to_string().contains("Need::Loss"));
    assert!(refused("needs").to_string().contains("needs()"));
}

/// Networks whose declarations leave something out.
#[derive(Module, Debug)]
struct Careless {
    first: Linear,
    second: Linear,
    output: Linear,
    aside: Linear,
    #[module(skip)]
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Two sites with one producer.
    SharedProducer,
    /// A layer that reads the neurons, and that `sites()` does not name.
    UnnamedReader,
    /// Two fields that are clones of one layer.
    Clones,
    /// No example reaches the layers.
    NoExamples,
    None,
}

impl Careless {
    fn new(fault: Fault) -> Self {
        let layer = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device());
        let first = layer(5, 5);
        let second = if fault == Fault::Clones { first.clone() } else { layer(5, 5) };
        Self { first, second, output: layer(5, 2), aside: layer(5, 2), fault }
    }
}

impl Growable for Careless {
    type Input = Tensor<2>;
    type Output = Tensor<2>;

    fn sites(&self) -> Vec<Site> {
        let first = || Site::new("first", &self.first, [Activation::Relu], &self.second);
        match self.fault {
            Fault::SharedProducer => vec![first(), Site::new("again", &self.first, [Activation::Relu], &self.second)],
            _ => vec![first()],
        }
    }

    fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
        let neurons = Activation::Relu.apply(self.first.forward(input.clone()));
        let read = self.second.forward(neurons.clone());
        let read = match self.fault {
            Fault::NoExamples => {
                let none = input.clone().slice([0..0, 0..5]);
                let _ = probe.site("first", &none, read.clone().slice([0..0, 0..5]));
                read
            }
            _ => probe.site("first", &input, read),
        };
        let output = self.output.forward(Activation::Relu.apply(read));
        match self.fault {
            Fault::UnnamedReader => output + self.aside.forward(neurons),
            _ => output,
        }
    }
}

#[test]
fn what_a_network_leaves_out_is_a_typed_error_that_names_the_site() {
    let refused = |fault| grow(&Grower::new(GradMax::default()), &Careless::new(fault), &Batch::new(30, 5, 2));
    assert!(refused(Fault::None).is_ok());
    let table: [(Fault, &[&str]); 4] = [
        (Fault::SharedProducer, &["`first`", "`again`", "Site::and"]),
        (Fault::UnnamedReader, &["`first`", "every layer that reads the neurons"]),
        (Fault::Clones, &["`first`", "`first.weight` and `second.weight`", "initialize each layer by itself"]),
        (Fault::NoExamples, &["`first`", "no example of the growth batch", "larger growth batch"]),
    ];
    for (fault, says) in table {
        let error = refused(fault).unwrap_err();
        assert!(says.iter().all(|part| error.to_string().contains(part)), "{fault:?}: {error}");
    }
    // Before any training, where that can be told.
    for fault in [Fault::SharedProducer, Fault::Clones] {
        assert!(Grower::new(GradMax::default()).check(&Careless::new(fault)).is_err(), "{fault:?}");
    }
}

#[test]
fn networks_of_another_float_type_are_refused_with_the_parameter() {
    struct Double;
    impl burn::module::ModuleMapper for Double {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            param.map(|tensor| tensor.inner().cast(burn::tensor::DType::F64).autodiff().require_grad())
        }
    }
    let network = mlp(5, &[4], 2, Activation::Relu, true).map(&mut Double);
    let error = Grower::new(GradMax::default()).check(&network).unwrap_err();
    assert!(matches!(error, Error::FloatType { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("hidden1") && said.contains("F64") && said.contains("F32"), "{said}");
}

#[test]
fn labels_and_test_sets_that_cannot_be_are_refused_before_training() {
    use gradmax::training::{Examples, InMemory, Run, Settings, Supervised, Target, Trainer};
    let device = burn::tensor::Device::flex();
    let inputs = || common::normal([20, 5], 1);
    let data = |classes: u32| InMemory::new(inputs(), Target::classes((0..20).map(|at| at % classes), &device));
    let run = || Run::new(mlp(5, &[4], 2, Activation::Relu, true), SgdConfig::new().init());
    let train = |train: &dyn Examples<Input = Tensor<2>, Target = Target>,
                 test: Option<&dyn Examples<Input = Tensor<2>, Target = Target>>| {
        let mut trainer = Trainer::new(Settings::new(3, 0.1), Supervised::Classification, train);
        if let Some(test) = test {
            trainer = trainer.with_test(test);
        }
        trainer.train(run()).map(|_| ())
    };
    assert!(train(&data(2), Some(&data(2))).is_ok());
    let said = train(&data(3), None).unwrap_err().to_string();
    assert!(
        said.contains("training examples have the label 2") && said.contains("2 outputs, for labels 0 to 1"),
        "{said}"
    );
    let said = train(&data(2), Some(&data(4))).unwrap_err().to_string();
    assert!(said.contains("test examples have the label 3"), "{said}");
    let empty = InMemory::new(Tensor::<2>::zeros([0, 5], &device), Target::classes(std::iter::empty(), &device));
    let said = train(&data(2), Some(&empty)).unwrap_err().to_string();
    assert!(said.contains("test examples") && said.contains("leave the test set out"), "{said}");

    // Examples that do not say which classes they have are looked at batch by batch.
    struct Plain(InMemory);
    impl Examples for Plain {
        type Input = Tensor<2>;
        type Target = Target;
        fn count(&self) -> usize {
            self.0.count()
        }
        fn batch(&self, indices: &[usize]) -> Result<gradmax::training::Batch<Tensor<2>>, Error> {
            self.0.batch(indices)
        }
    }
    assert!(train(&Plain(data(2)), None).is_ok());
    assert!(matches!(train(&Plain(data(3)), None), Err(Error::LabelOutOfRange { label: 2, outputs: 2, .. })));
}
