//! Taking growth back: which neurons go, what stays, and that runs resume to the same bits.

mod common;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use common::{Seen, device, normal, state, values, weights, widths_of};
use gradmax::event::Grower;
use gradmax::methods::GradMax;
use gradmax::networks::{Architecture, Mlp, MlpConfig};
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, EntriesOf, Growable, SiteWidth};
use gradmax::surgery::SecondMoments;
use gradmax::training::{
    CohortRates, GrowthBatch, GrowthSettings, InMemory, NewWeights, OnFailure, Run, Settings, Supervised, Trainer,
    Undo, checkpoint,
};
use gradmax::{Error, Seed};

fn data() -> InMemory {
    let inputs = values(normal([60, 6], 4));
    let classes = inputs.chunks(6).map(|x| u8::from(x[0] * x[1] > 0.0) + 2 * u8::from(x[2] > 0.2)).collect::<Vec<_>>();
    InMemory::classes(inputs, &classes, &Device::flex())
}

fn sgd() -> ModuleOptimizer {
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
    SgdConfig::new().with_momentum(Some(momentum)).init()
}

fn adam() -> ModuleOptimizer {
    AdamConfig::new().init()
}

/// Two neurons more at each site before steps 10 and 20.
fn growth() -> GrowthSettings {
    let schedule =
        Periodic { start: 10, every: 10, times: 2, order: Order::AllAtOnce, amount: Amount::Count(2), stretch: 1.0 };
    let grower = Grower::new(GradMax::default()).with_seed(Seed::new(8)).with_second_moments(SecondMoments::Own);
    GrowthSettings { policy: Box::new(schedule), grower, batch: GrowthBatch::Training, on_failure: OnFailure::Stop }
}

fn settings(steps: usize, undo: Option<Undo>) -> Settings {
    let rates = CohortRates::Boost { factor: 2.0, steps: 12 };
    Settings {
        undo,
        batch_size: Some(16),
        log_every: 1,
        average: Some(0.9),
        new_weights: NewWeights { rates, own_steps: Some([0.9, 0.999]) },
        seed: Seed::new(5),
        ..Settings::new(steps, 0.02)
    }
}

fn network(sites: &[SiteWidth]) -> Result<Mlp, Error> {
    MlpConfig::new(6, &widths_of(sites), 4, Activation::Relu).init(Seed::new(99), &device())
}

fn fresh(optimizer: fn() -> ModuleOptimizer) -> Run<Mlp> {
    Run::new(MlpConfig::new(6, &[3, 4], 4, Activation::Relu).init(Seed::new(1), &device()).unwrap(), optimizer())
}

fn train(
    settings: Settings,
    run: Run<Mlp>,
    seen: &mut Seen,
    (folder, stop): (Option<PathBuf>, Option<usize>),
) -> Run<Mlp> {
    let (examples, flag) = (data(), AtomicBool::new(false));
    let trainer = Trainer::new(settings, Supervised::Classification, &examples)
        .with_growth(growth())
        .with_observer(common::Keep { seen, folder, stop: stop.map(|step| (step, &flag)) })
        .with_stop(&flag);
    trainer.train(run).unwrap().run
}

fn widths(run: &Run<Mlp>) -> Vec<usize> {
    run.network.sites().iter().map(|site| site.width()).collect()
}

/// Whether a network has a parameter of this shape.
fn weights_of_shape(network: &Mlp, shape: &[usize]) -> bool {
    struct Shapes<'a>(&'a [usize], bool);
    impl ModuleVisitor for Shapes<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1 |= param.val().dims() == self.0;
        }
    }
    let mut shapes = Shapes(shape, false);
    network.visit(&mut shapes);
    shapes.1
}

/// Whatever the loss becomes, only what came with the event that is judged goes; what was there before is as it was.
#[test]
fn the_neurons_of_the_judged_event_go_and_no_others() {
    let anything = Some(Undo { rise: 1e9, ..Undo::new(4) });
    let mut seen = Seen::default();
    // The event before step 10 is judged before step 14, and the learning rate is next to nothing from there on.
    let stopping = |undo| {
        let decay = gradmax::training::Decay::Step { at: vec![14.0 / 15.0], factor: 1e-30 };
        let learning_rate = gradmax::training::LearningRate { decay, ..0.02.into() };
        Settings { learning_rate, average: None, ..settings(15, undo) }
    };
    let [kept, undone] = [None, anything].map(|undo| train(stopping(undo), fresh(sgd), &mut seen, (None, None)));
    assert_eq!((widths(&kept), widths(&undone)), (vec![5, 6], vec![3, 4]));
    for (site, width) in [(0, 3), (1, 4)] {
        let incoming = |run: &Run<Mlp>, inputs: usize| {
            let writer = &run.network.sites()[site].writers[0];
            let all = writer.incoming(EntriesOf::Values).unwrap();
            values(all.narrow(0, 0, width).narrow(1, 0, inputs))
        };
        let inputs = [6, 3][site];
        assert_eq!(incoming(&kept, inputs), incoming(&undone, inputs), "site {site}");
    }
    // Both events are judged in the end, and what they brought is gone.
    let all = train(settings(40, anything), fresh(sgd), &mut seen, (None, None));
    assert_eq!((widths(&all), all.progress.judged), (vec![3, 4], 2));
    assert_eq!(all.progress.sites.iter().map(|site| site.width).collect::<Vec<_>>(), [3, 4]);
    let told = seen.undone.iter().map(|undone| (undone.step, undone.grown)).collect::<Vec<_>>();
    assert_eq!(told, [(14, 10), (14, 10), (24, 20)]);
    let last = &seen.undone[2].shrinkage;
    assert_eq!(last.sites.iter().map(|site| (site.before, site.after)).collect::<Vec<_>>(), [(5, 3), (6, 4)]);
    let parameters = |hidden: [usize; 2]| 7 * hidden[0] + (hidden[0] + 1) * hidden[1] + (hidden[1] + 1) * 4;
    assert_eq!(last.parameters, [parameters([5, 6]), parameters([3, 4])]);
}

#[test]
fn what_the_network_needs_stays() {
    let mut seen = Seen::default();
    let strict = Some(Undo { rise: 0.0, ..Undo::new(10) });
    let run = train(settings(60, strict), fresh(adam), &mut seen, (None, None));
    for undone in &seen.undone {
        assert!(undone.shrinkage.loss_after <= undone.shrinkage.loss_before, "{undone:?}");
    }
    assert!(run.progress.judged == 2 && widths(&run).iter().sum::<usize>() > 3 + 4, "{:?}", widths(&run));
}

/// The state of what stays is carried, and has the network's shapes.
#[test]
fn optimizers_and_averages_keep_up_and_runs_resume_bit_for_bit() {
    // Some neurons go and some stay.
    for (name, optimizer, rise) in [("sgd", sgd as fn() -> ModuleOptimizer, 0.001), ("adam", adam, 0.02)] {
        let undo = Some(Undo { rise, ..Undo::new(6) });
        let mut whole = Seen::default();
        let run = train(settings(40, undo), fresh(optimizer), &mut whole, (None, None));
        assert_eq!(whole.undone.len(), 2);
        assert!(whole.undone.iter().any(|undone| !undone.shrinkage.sites.is_empty()), "{name}: something goes");
        let left = widths(&run);
        assert!(left.iter().sum::<usize>() > 3 + 4 && left.iter().sum::<usize>() < 7 + 8, "{name}: {left:?}");
        let fitting = |data: &TensorData| weights_of_shape(&run.network, &data.shape().to_vec());
        assert!(
            state(&run.optimizer).iter().all(|(_, _, data)| fitting(data)),
            "{name}: state of the network's shapes"
        );
        let average = run.average.as_ref().unwrap();
        assert_eq!(
            average.sites().iter().map(|site| site.width()).collect::<Vec<_>>(),
            widths(&run),
            "{name}: the average has the network's widths"
        );
        for stop in [9, 15, 16, 17, 26, 33] {
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("undo").join(format!("{name}{stop}"));
            let mut seen = Seen::default();
            train(settings(40, undo), fresh(optimizer), &mut seen, (Some(folder.clone()), Some(stop)));
            let resumed = checkpoint::load(&folder, network, optimizer()).unwrap();
            let resumed = train(settings(40, undo), resumed, &mut seen, (None, None));
            assert!(weights(&resumed.network) == weights(&run.network), "{name} stopped at {stop}");
            assert!(weights(resumed.average.as_ref().unwrap()) == weights(average), "{name} stopped at {stop}");
            assert_eq!(seen.undone, whole.undone, "{name} stopped at {stop}");
        }
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let examples = data();
    for (undo, option) in [
        (Undo::new(0), "undo_after"),
        (Undo { rise: -0.1, ..Undo::new(5) }, "undo_rise"),
        (Undo { examples: 0, ..Undo::new(5) }, "undo_examples"),
    ] {
        let trainer = Trainer::new(settings(5, Some(undo)), Supervised::Classification, &examples);
        let error = trainer.train(fresh(sgd)).map(|_| ());
        assert!(matches!(error, Err(Error::BadOption { option: of, .. }) if of == option), "{option}");
    }
}
