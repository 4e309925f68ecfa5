//! Tasks: outputs and targets of their own, and tallies that add up.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{mlp, normal};
use gradmax::site::{Activation, Growable};
use gradmax::training::{Classification, Evaluation, Regression, Supervised, Tally, Target, Task};

#[test]
fn tallies_add_up() {
    let tally = |loss, correct| Tally { examples: 2, units: 3, loss, correct };
    assert_eq!(
        tally(1.0, Some(2.0)) + tally(0.5, Some(1.0)),
        Tally { examples: 4, units: 6, loss: 1.5, correct: Some(3.0) }
    );
    assert_eq!(Tally::default() + tally(1.0, None), tally(1.0, None));
    assert_eq!(Evaluation::of(Tally::default()), None);
}

#[test]
fn a_task_that_is_chosen_at_run_time_is_the_task() {
    let network = mlp(5, &[4], 3, Activation::Tanh, true);
    let (input, values) = (normal([12, 5], 1), normal([12, 3], 2));
    let classes = Tensor::<1, Int>::from_data(TensorData::from([0, 1, 2, 0, 1, 2, 2, 2, 1, 1, 0, 0]), &Device::flex());
    let output = network.valid().forward(input);
    let own = [Regression.tally(&output, &values), Classification::default().tally(&output, &classes)];
    let chosen = [
        Supervised::Regression.tally(&output, &Target::Values(values)),
        Supervised::Classification.tally(&output, &Target::Classes(classes.clone())),
    ];
    assert_eq!(own, chosen);
    let loss = |loss: Tensor<1>| loss.into_scalar::<f64>();
    let smoothed = Classification { label_smoothing: 0.1 };
    let target = Target::Classes(classes.clone());
    let (own, chosen) = (
        smoothed.training_loss(&output, &classes),
        Supervised::SmoothedClassification(0.1).training_loss(&output, &target),
    );
    assert_eq!(loss(own), loss(chosen));
}
