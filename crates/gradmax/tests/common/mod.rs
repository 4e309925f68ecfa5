//! What the tests share: small networks and batches.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use gradmax::event::{Grower, Growth, Pass, Planned, Receipt};
use gradmax::methods::{GradMax, Placement, SidePolicy};
use gradmax::networks::{Architecture, Mlp, MlpConfig};
use gradmax::site::{Activation, Growable, Probe, SiteWidth};
use gradmax::training::{Observer, ObserverError, Row, Run, Supervised, Target, Task, Undone, checkpoint};
use gradmax::{Error, Seed};
use rand_distr::{Distribution, StandardNormal};

pub fn device() -> Device {
    Device::flex().autodiff()
}

pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize, activation: Activation, bias: bool) -> Mlp {
    let config = MlpConfig { bias, ..MlpConfig::new(inputs, hidden, outputs, activation) };
    config.init(Seed::new(3), &device()).unwrap()
}

pub fn normal(shape: [usize; 2], seed: u64) -> Tensor<2> {
    let mut rng = Seed::new(seed).rng();
    let values = (0..shape[0] * shape[1]).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A regression batch: inputs and values.
#[derive(Clone)]
pub struct Batch {
    pub input: Tensor<2>,
    pub target: Target,
}

impl Batch {
    pub fn new(examples: usize, inputs: usize, outputs: usize) -> Self {
        Self { input: normal([examples, inputs], 1), target: Target::Values(normal([examples, outputs], 2)) }
    }

    pub fn pass<N: Growable<Input = Tensor<2>, Output = Tensor<2>>>(&self, network: &N, probe: &mut dyn Probe) -> Pass {
        let output = network.forward_probed(self.input.clone(), probe);
        Pass { loss: Supervised::Regression.loss(&output, &self.target), output }
    }

    pub fn step<N: Growable<Input = Tensor<2>, Output = Tensor<2>>>(
        &self,
        network: N,
        optimizer: &mut ModuleOptimizer,
        rate: f64,
    ) -> N {
        let pass = self.pass(&network, &mut ());
        stepped(network, pass, optimizer, rate)
    }
}

/// A plan that grows every site of a network by the same number of neurons.
pub fn everywhere<N: Growable>(network: &N, count: usize) -> Vec<Planned> {
    network.sites().into_iter().map(|site| Planned { site: site.name, count }).collect()
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

/// A batch of images, and values to come near.
pub struct Images {
    pub input: Tensor<4>,
    pub target: Target,
}

impl Images {
    pub fn new(examples: usize, [channels, height, width]: [usize; 3], outputs: usize, seed: Seed) -> Self {
        let mut rng = seed.rng();
        let mut normal = |count: usize| (0..count).map(|_| StandardNormal.sample(&mut rng)).collect::<Vec<f32>>();
        let input = TensorData::new(normal(examples * channels * height * width), [examples, channels, height, width]);
        let target = TensorData::new(normal(examples * outputs), [examples, outputs]);
        let device = device().inner();
        Self { input: Tensor::from_data(input, &device), target: Target::Values(Tensor::from_data(target, &device)) }
    }

    pub fn pass<N: Growable<Input = Tensor<4>, Output = Tensor<2>>>(&self, network: &N, probe: &mut dyn Probe) -> Pass {
        let output = network.forward_probed(self.input.clone(), probe);
        Pass { loss: Supervised::Regression.loss(&output, &self.target), output }
    }

    pub fn step<N: Growable<Input = Tensor<4>, Output = Tensor<2>>>(
        &self,
        network: N,
        optimizer: &mut ModuleOptimizer,
        rate: f64,
    ) -> N {
        let pass = self.pass(&network, &mut ());
        stepped(network, pass, optimizer, rate)
    }

    pub fn grow<N: Growable<Input = Tensor<4>, Output = Tensor<2>>>(
        &self,
        grower: &Grower,
        network: &N,
        plan: &[Planned],
    ) -> Result<Growth<N>, Error> {
        grower.grow(network, &SgdConfig::new().init(), plan, |network, probe| self.pass(network, probe))
    }

    /// Largest change of an evaluation-mode output, relative to the largest output.
    pub fn change_in_evaluation<N: Growable<Input = Tensor<4>, Output = Tensor<2>>>(
        &self,
        before: &N,
        after: &N,
    ) -> f64 {
        let [before, after] = [before, after].map(|network| network.valid().forward(self.input.clone()));
        let largest = |tensor: Tensor<2>| tensor.abs().max().into_scalar::<f64>();
        largest(after - before.clone()) / largest(before).max(f64::MIN_POSITIVE)
    }
}

/// The optimizer's state tensors: parameter, field, data.
pub fn state(optimizer: &ModuleOptimizer) -> Vec<(u64, String, TensorData)> {
    let reader = burn_pack::Reader::from_bytes(optimizer.into_bytes().unwrap()).unwrap();
    let tensors = reader.into_tensors().unwrap().into_iter().map(|tensor| {
        let (name, dtype, shape, id, bytes) = tensor.into_parts().unwrap();
        let field = name.rsplit('.').next().unwrap().to_string();
        (id.unwrap(), field, TensorData::from_bytes(bytes, shape, dtype))
    });
    let mut tensors = tensors.collect::<Vec<_>>();
    tensors.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    tensors
}

/// The network after a step down the gradient of a pass.
fn stepped<N: Growable>(network: N, pass: Pass, optimizer: &mut ModuleOptimizer, rate: f64) -> N {
    let gradients = GradientsParams::from_grads(pass.loss.backward(), &network);
    optimizer.step(rate, network, gradients)
}

/// Keeps everything that a run shows, without what differs from run to run.
#[derive(Default)]
pub struct Seen {
    pub rows: Vec<Row>,
    pub receipts: Vec<Receipt>,
    pub undone: Vec<Undone>,
}

/// Writes what is shown where it is kept; saves checkpoints, and stops a run at a step.
pub struct Keep<'a> {
    pub seen: &'a mut Seen,
    pub folder: Option<PathBuf>,
    pub stop: Option<(usize, &'a AtomicBool)>,
}

impl<N: Growable> Observer<N> for Keep<'_> {
    fn stepped(&mut self, step: usize) -> Result<(), ObserverError> {
        if let Some((at, stop)) = self.stop {
            stop.store(step >= at, Ordering::Relaxed);
        }
        Ok(())
    }
    fn logged(&mut self, row: &Row) -> Result<(), ObserverError> {
        self.seen.rows.push(Row { seconds: 0.0, ..row.clone() });
        Ok(())
    }
    fn grown(&mut self, receipt: &Receipt) -> Result<(), ObserverError> {
        self.seen.receipts.push(Receipt { timing: Default::default(), ..receipt.clone() });
        Ok(())
    }
    fn undone(&mut self, undone: &Undone) -> Result<(), ObserverError> {
        self.seen.undone.push(undone.clone());
        Ok(())
    }
    fn checkpoint(&mut self, run: &Run<N>) -> Result<(), ObserverError> {
        match &self.folder {
            Some(folder) => Ok(checkpoint::save(run, folder)?),
            None => Ok(()),
        }
    }
}

/// Every parameter and running statistic, byte by byte.
pub fn weights<N: Growable>(network: &N) -> Vec<u8> {
    struct Bytes(Vec<u8>);
    impl ModuleVisitor for Bytes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend_from_slice(param.val().into_data().as_bytes());
        }
    }
    let mut bytes = Bytes(Vec::new());
    network.valid().visit(&mut bytes);
    bytes.0
}

/// Every gradient of a network, by parameter.
pub fn all_gradients<N: Growable>(network: &N, gradients: &GradientsParams) -> Vec<(ParamId, Vec<f32>)> {
    struct Collect<'a>(&'a GradientsParams, Vec<(ParamId, Vec<f32>)>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.push((param.id, gradient.into_data().try_into_vec_as::<f32>().unwrap()));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    network.visit(&mut collect);
    collect.1
}

/// Zero incoming weights.
pub fn incoming() -> Placement {
    Placement { zero_side: SidePolicy::Incoming, ..Placement::default() }
}

/// Gradients below this are what cancellation leaves where the true one is 0, as where a kernel of 1 reads nothing but
/// padding.
pub const SILENT: f64 = 1e-3;

/// Grows every site with GradMax and zero incoming weights, and checks all that growth promises; counts sites that
/// receive a gradient.
pub fn check_growth<N: Growable<Input = Tensor<4>, Output = Tensor<2>>>(
    network: &N,
    images: &Images,
    plan: &[Planned],
    case: &str,
) -> usize {
    // A pass in training mode, so that running statistics are not what they start with.
    images.pass(network, &mut ());
    let grower = Grower::new(GradMax::default()).with_placement(incoming());
    let growth = images.grow(&grower, network, plan).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(growth.receipt.output_change.unwrap() <= 1e-6, "{case}: {:?}", growth.receipt);
    assert!(images.change_in_evaluation(network, &growth.network) <= 1e-6, "{case}");
    for site in &growth.receipt.sites {
        let (predicted, measured) = (site.predicted_gradient_norm, site.gradient_norm.unwrap());
        let near = (predicted - measured).abs() <= 1e-4 * predicted.max(measured);
        assert!(near || predicted.max(measured) < SILENT, "{case}: {site:?}");
        assert_eq!(site.outgoing_gradient_norm, Some(0.0), "{case}: {site:?}");
    }
    for (site, planned) in network.sites().iter().zip(plan) {
        let grown = growth.network.sites().into_iter().find(|grown| grown.name == site.name).unwrap();
        assert_eq!(grown.width(), site.width() + planned.count, "{case}");
        assert_eq!(grown.producer().weight(), site.producer().weight(), "{case}");
    }
    growth.receipt.sites.iter().filter(|site| site.predicted_gradient_norm >= SILENT).count()
}

/// The widths of sites.
pub fn widths_of(sites: &[SiteWidth]) -> Vec<usize> {
    sites.iter().map(|site| site.width).collect()
}
