//! Tasks: outputs and targets of their own, and tallies that add up.

mod common;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{Keep, Seen, device, mlp, normal};
use gradmax::Error;
use gradmax::event::Grower;
use gradmax::methods::GradMax;
use gradmax::policies::{Amount, Order, Periodic};
use gradmax::site::{Activation, Growable, Probe, Site};
use gradmax::training::{
    Classification, Evaluation, GrowthBatch, GrowthSettings, InMemory, NextToken, OnFailure, Regression, Run, Settings,
    Supervised, Tally, Target, Task, Trainer, evaluate,
};

/// Each token by itself, through an embedding and a hidden layer, to the token that follows.
#[derive(Module, Debug)]
struct Bigram {
    embedding: Embedding,
    hidden: Linear,
    output: Linear,
}

impl Bigram {
    fn new(tokens: usize) -> Self {
        let (device, dense) = (device(), |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device()));
        Self { embedding: EmbeddingConfig::new(tokens, 3).init(&device), hidden: dense(3, 2), output: dense(2, tokens) }
    }
}

impl Growable for Bigram {
    type Input = Tensor<2, Int>;
    type Output = Tensor<3>;

    fn sites(&self) -> Vec<Site> {
        vec![
            Site::new("embedding", &self.embedding, (), &self.hidden),
            Site::new("hidden", &self.hidden, [Activation::Relu], &self.output),
        ]
    }

    fn forward_probed(&self, tokens: Tensor<2, Int>, probe: &mut dyn Probe) -> Tensor<3> {
        let embedded = self.embedding.forward(tokens.clone());
        let hidden = probe.site("embedding", &tokens, self.hidden.forward(embedded.clone()));
        probe.site("hidden", &embedded, self.output.forward(Activation::Relu.apply(hidden)))
    }
}

/// Sequences in which token `t` is followed by `2 t + 1`, modulo the number of tokens.
fn sequences(count: usize, time: usize, tokens: i32) -> InMemory<Tensor<2, Int>, Tensor<2, Int>> {
    let first = |sequence: usize| sequence as i32 * 5 % tokens;
    let next = |token: &i32| Some((2 * token + 1) % tokens);
    let rows = |skip: usize| {
        let row = |sequence| std::iter::successors(Some(first(sequence)), next).skip(skip).take(time);
        let entries = (0..count).flat_map(row).collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(entries, [count, time]), &Device::flex())
    };
    InMemory::new(rows(0), rows(1))
}

#[test]
fn a_network_grows_while_it_learns_to_foretell_tokens() {
    let data = sequences(40, 6, 11);
    for batch in [GrowthBatch::Training, GrowthBatch::All] {
        let policy = Periodic {
            start: 100,
            every: 100,
            times: 3,
            order: Order::AllAtOnce,
            amount: Amount::Count(3),
            stretch: 1.0,
        };
        let (policy, grower) = (Box::new(policy), Grower::new(GradMax::default()));
        let growth = GrowthSettings { policy, grower, batch, on_failure: OnFailure::Stop };
        let settings = Settings { batch_size: Some(10), evaluation_batch: 16, ..Settings::new(600, 0.5) };
        let mut seen = Seen::default();
        let outcome = Trainer::new(settings, NextToken, &data)
            .with_growth(growth)
            .with_test(&data)
            .with_observer(Keep { seen: &mut seen, folder: None, stop: None })
            .train(Run::new(Bigram::new(11), SgdConfig::new().init()))
            .unwrap();
        assert!(seen.receipts.iter().all(|receipt| receipt.output_change.unwrap() <= 1e-5), "{:?}", seen.receipts);
        let widths = outcome.run.network.sites().iter().map(Site::width).collect::<Vec<_>>();
        assert_eq!(widths, [3 + 9, 2 + 9]);
        let test = outcome.finished.unwrap().test.unwrap();
        assert!(test.score.unwrap() > 0.95, "{test:?}");
    }
}

#[test]
fn tokens_are_scored_and_sequences_are_counted() {
    let (data, network) = (sequences(10, 6, 11), Bigram::new(11));
    let whole = evaluate(&network, &NextToken, &data, 100).unwrap();
    // Parts of unequal size.
    let parts = evaluate(&network, &NextToken, &data, 3).unwrap();
    assert!((whole.loss - parts.loss).abs() < 1e-6 && whole.score == parts.score);
    let target = Tensor::<2, Int>::zeros([4, 6], &Device::flex());
    let tally = NextToken.tally(&Tensor::zeros([4, 6, 11], &Device::flex()), &target);
    assert_eq!((tally.examples, tally.units), (4, 24));
    assert!((Evaluation::of(tally).unwrap().loss - 11.0_f64.ln()).abs() < 1e-6);
}

#[test]
fn a_token_that_the_network_cannot_foretell_is_refused() {
    let tokens = |token: i32| Tensor::<2, Int>::full([10, 6], token, &Device::flex());
    let data = InMemory::new(tokens(0), tokens(19));
    let run = Run::new(Bigram::new(11), SgdConfig::new().init());
    let error = Trainer::new(Settings::new(3, 0.1), NextToken, &data).train(run).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::LabelOutOfRange { set: "training", label: 19, outputs: 11 }), "{error}");
}

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
