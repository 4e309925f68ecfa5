//! Where randomness inside of forward passes (dropout) comes from: the run's seed, and nothing else.

use std::cell::Cell;

use crate::seed::Seed;

thread_local! {
    /// The seed that passes on this thread draw from, and how many layers have drawn from it.
    static DRAWS: Cell<(Seed, u64)> = Cell::new((Seed::new(0).fold("draws"), 0));
}

/// Runs something whose forward passes draw from this seed, on this thread: the first layer that draws, the second one,
/// and so on, each from its own. What was drawn from before is gone on with afterwards.
///
/// [`Trainer`](crate::training::Trainer) does so for every training step. In a training loop of your own, give each
/// step a seed of its own; without one, passes draw from seed 0, one after another.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use gradmax::modules::Dropout;
/// use gradmax::Seed;
/// use gradmax::training::with_draws;
/// let neurons = Tensor::<2>::ones([8, 4], &Device::flex().autodiff());
/// let dropped = |seed: u64| with_draws(Seed::new(seed), || Dropout::new(0.5).forward(neurons.clone()).into_data());
/// assert_eq!(dropped(1), dropped(1));
/// assert_ne!(dropped(1), dropped(2));
/// ```
pub fn with_draws<T>(seed: Seed, run: impl FnOnce() -> T) -> T {
    // Put back by a guard rather than afterwards: a pass that panics is caught further up, and training goes on.
    let _back = Back(DRAWS.replace((seed, 0)));
    run()
}

/// Runs something after which the same is drawn again.
pub(crate) fn with_same_draws<T>(run: impl FnOnce() -> T) -> T {
    let _back = Back(DRAWS.get());
    run()
}

/// The seed of the next layer that draws.
pub(crate) fn next_draw() -> Seed {
    let (seed, drawn) = DRAWS.get();
    DRAWS.set((seed, drawn + 1));
    seed.at(drawn)
}

/// Restores what is drawn from, even if a pass panics.
struct Back((Seed, u64));

impl Drop for Back {
    fn drop(&mut self) {
        DRAWS.set(self.0);
    }
}
