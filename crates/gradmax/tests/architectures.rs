//! The networks of the paper, grown from a quarter of their width to all of it.

mod common;

use burn::module::Module;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, TensorData};
use common::{Images, device, state};
use gradmax::Seed;
use gradmax::event::{Grower, Planned};
use gradmax::methods::GradMax;
use gradmax::modules::NormKind;
use gradmax::networks::{
    Architecture, ConvNetConfig, Described, Downsampling, MobileNetV1Config, Strides, VggConfig, WideResNetConfig,
};
use gradmax::policies::{Amount, Order, Periodic, Policy};
use gradmax::site::{Growable, SiteWidth};

fn momentum() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

fn wide_resnet(fraction: f64, norm: NormKind) -> WideResNetConfig {
    WideResNetConfig { norm, ..WideResNetConfig::new(28, 1, fraction) }
}

fn vgg(depth: usize, fraction: f64, downsampling: Downsampling) -> ConvNetConfig {
    let (norm, input, classes) = (NormKind::None, [3, 32, 32], 10);
    VggConfig { depth, fraction, norm, downsampling, input, classes }.stack().unwrap()
}

fn mobilenet(fraction: f64, norm: NormKind, strides: Strides) -> ConvNetConfig {
    MobileNetV1Config { fraction, norm, strides, input: [3, 32, 32], classes: 1000 }.stack()
}

fn parameters<A: Architecture>(shape: &A) -> usize {
    shape.init(Seed::new(0), &Device::flex()).unwrap().num_params()
}

#[test]
fn parameters_are_as_many_as_in_the_paper_s_code() {
    let none = NormKind::None;
    assert_eq!([0.25, 1.0].map(|fraction| parameters(&wide_resnet(fraction, none))), [96_506, 369_530]);
    let stride = Downsampling::Stride;
    assert_eq!([0.25, 1.0].map(|fraction| parameters(&vgg(11, fraction, stride))), [587_952, 9_263_808]);
    // Sums of 9 x inputs x outputs over the layers.
    assert_eq!([16, 19].map(|depth| parameters(&vgg(depth, 1.0, stride))), [14_756_544, 20_064_960]);
    // Howard et al. 2017, table 8: 4.2 million.
    let depthwise = Strides::Depthwise;
    assert_eq!(parameters(&mobilenet(1.0, none, depthwise)) / 100_000, 42);
    // A layer's numbers are those of the whole network.
    for network in [wide_resnet(0.5, NormKind::Batch)].map(|shape| shape.init(Seed::new(0), &Device::flex()).unwrap()) {
        let layers = network.layers();
        assert_eq!(
            layers.iter().map(|layer| layer.parameters + layer.running_statistics).sum::<usize>(),
            network.num_params()
        );
        assert_eq!(layers.iter().map(|layer| layer.flops).sum::<u64>(), network.flops());
        assert_eq!(layers.iter().filter(|layer| layer.site.is_some()).count(), 12);
    }
}

/// Grows a network in twelve events, with a training step after each, and compares it with the large one.
fn grows_to<A: Architecture>(small: &A, large: &A, examples: usize, what: &str)
where
    A::Network: Described + Growable<Input = burn::tensor::Tensor<4>, Output = burn::tensor::Tensor<2>>,
{
    let mut network = small.init(Seed::new(1), &device()).unwrap();
    let outputs = network.layers().last().unwrap().output[0];
    let images = Images::new(examples, [3, 32, 32], outputs, Seed::new(2));
    let mut optimizer = momentum();
    network = images.step(network, &mut optimizer, 1e-3);
    let schedule = Periodic {
        start: 1,
        every: 1,
        times: 12,
        order: Order::AllAtOnce,
        amount: Amount::Fraction(0.25),
        stretch: 1.0,
    };
    let mut sites: Vec<SiteWidth> = small.site_widths();
    for event in 0..12 {
        let next = schedule.target(&small.site_widths(), event + 2).unwrap();
        let gained = next.iter().zip(&sites).map(|(next, now)| (&now.site, next.width - now.width));
        let plan = gained.map(|(site, count)| Planned { site: site.clone(), count }).collect::<Vec<_>>();
        let before = state(&optimizer);
        let growth = Grower::new(GradMax::default())
            .grow(&network, &optimizer, &plan, |network, probe| images.pass(network, probe))
            .unwrap_or_else(|error| panic!("{what}, event {event}: {error}"));
        // A few images fix the statistics of batch norm badly, which enlarges rounding.
        assert!(growth.receipt.output_change.unwrap() <= 1e-3, "{what}");
        assert!(growth.receipt.optimizer_reset.is_empty(), "{what}");
        check_kept(&before, &state(&growth.optimizer), what);
        for planned in plan {
            sites.iter_mut().filter(|at| at.site == planned.site).for_each(|at| at.width += planned.count);
        }
        (network, optimizer) = (growth.network, growth.optimizer);
        network = images.step(network, &mut optimizer, 1e-3);
    }
    assert_eq!(network.num_params(), parameters(large), "{what}");
    let widths = |sites: &[SiteWidth]| sites.iter().map(|site| site.width).collect::<Vec<_>>();
    assert_eq!(widths(&sites), widths(&large.site_widths()), "{what}");
}

/// Every old entry is where it was, bit for bit.
fn check_kept(before: &[(u64, String, TensorData)], after: &[(u64, String, TensorData)], what: &str) {
    assert_eq!(before.len(), after.len(), "{what}");
    for ((id, field, old), (new_id, new_field, new)) in before.iter().zip(after) {
        assert_eq!((id, field), (new_id, new_field), "{what}");
        let (shape, grown) = (old.shape().to_vec(), new.shape().to_vec());
        let (old, new) = (old.as_slice::<f32>().unwrap(), new.as_slice::<f32>().unwrap());
        for (index, entry) in old.iter().enumerate() {
            let (mut rest, mut at, mut stride) = (index, 0, 1);
            for axis in (0..shape.len()).rev() {
                at += rest % shape[axis] * stride;
                rest /= shape[axis];
                stride *= grown[axis];
            }
            assert_eq!(entry.to_bits(), new[at].to_bits(), "{what} {field}");
        }
    }
}

#[test]
fn wide_residual_networks_grow_to_their_full_width() {
    for norm in [NormKind::None, NormKind::Batch] {
        grows_to(&wide_resnet(0.25, norm), &wide_resnet(1.0, norm), 2, &format!("WRN-28-1, {norm:?}"));
    }
}

#[test]
fn vgg_networks_grow_to_their_full_width() {
    for (depth, downsampling) in [(11, Downsampling::Stride), (13, Downsampling::MaxPool)] {
        grows_to(
            &vgg(depth, 0.25, downsampling),
            &vgg(depth, 1.0, downsampling),
            2,
            &format!("VGG{depth}, {downsampling:?}"),
        );
    }
}

#[test]
fn mobilenets_grow_to_their_full_width() {
    for (norm, strides) in [(NormKind::None, Strides::Depthwise), (NormKind::Batch, Strides::Pointwise)] {
        grows_to(
            &mobilenet(0.25, norm, strides),
            &mobilenet(1.0, norm, strides),
            8,
            &format!("MobileNet-v1, {norm:?}"),
        );
    }
}
