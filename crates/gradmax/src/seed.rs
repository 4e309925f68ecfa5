//! One seed for a whole run: every use folds it with a purpose and a counter, so that there is no generator state to
//! save.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A seed that is folded with what it is used for, instead of being advanced.
///
/// Two runs that differ only in the growth method fold the same words, and so see the same data in
/// the same order; a resumed run needs nothing but its step to draw what it would have drawn.
///
/// Purposes and counters are told apart: no two different sequences of [`fold`](Self::fold) and [`at`](Self::at) are
/// the same one in other words, whatever names and numbers are in them.
///
/// # Example
/// ```
/// use gradmax::Seed;
/// let order = Seed::new(7).fold("order");
/// assert_eq!(order.at(3), Seed::new(7).fold("order").at(3));
/// assert_ne!(order.at(3), order.at(4));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// The seed of a run, as the user gave it.
    pub fn new(value: u64) -> Self {
        Self(value)
    }

    /// The seed for one purpose, for example `"init"` or `"order"`.
    #[must_use]
    pub fn fold(self, purpose: &str) -> Self {
        purpose.bytes().fold(self.absorbing(PURPOSE), |seed, byte| seed.absorbing(u64::from(byte)))
    }

    /// The seed for one count of that purpose, for example an epoch or a step.
    #[must_use]
    pub fn at(self, counter: u64) -> Self {
        // A domain of its own: else a counter of 49 would be the byte `1` at the end of the purpose before it.
        Self(mix(mix(self.0 ^ COUNTER) ^ counter))
    }

    /// The seed that results from one letter of a purpose, or from what stands before its letters.
    fn absorbing(self, symbol: u64) -> Self {
        Self(mix(mix(self.0) ^ symbol))
    }

    /// The seed as a number, whose bits are as good as drawn.
    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// A portable generator: the same values on every platform and in every version.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

/// Stands before the bytes of a purpose; no byte is that large.
const PURPOSE: u64 = 0x0070_7572;
/// Tells seeds of counters from those of purposes.
const COUNTER: u64 = 0x636f_756e_7465_7221;

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014), a bijection whose output bits all depend on all input
/// bits.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn purposes_and_counters_give_different_streams() {
        let seed = Seed::new(1);
        let draws = [
            seed.fold("init"),
            seed.fold("order"),
            seed.fold("order").at(0),
            seed.fold("order").at(1),
            Seed::new(2).fold("order").at(1),
        ]
        .map(|seed| seed.rng().random::<u64>());
        for (i, a) in draws.iter().enumerate() {
            assert!(draws[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn no_counter_is_the_continuation_of_a_name() {
        let seed = Seed::new(0).at(3);
        for counter in 0..=255_u8 {
            let byte = [b'n', counter.min(127)];
            let name = std::str::from_utf8(&byte).unwrap();
            assert_ne!(seed.fold("n").at(u64::from(counter)), seed.fold(name), "{counter}");
        }
        // Block 49 of the site `hidden`, and the site `hidden1`.
        assert_ne!(seed.fold("hidden").at(49), seed.fold("hidden1"));
        assert_ne!(seed.fold("a").fold("b"), seed.fold("ab"));
        assert_ne!(seed.fold("a").at(PURPOSE).at(98), seed.fold("a").fold("b"));
        assert_ne!(seed.fold("").at(0), seed.fold("\0"));
        assert_ne!(seed.at(PURPOSE), seed.fold(""));
    }

    #[test]
    fn streams_do_not_change_between_versions() {
        // Written down once from this code: old runs must stay reproducible.
        assert_eq!(Seed::new(0).fold("init"), Seed(INIT));
        assert_eq!(Seed::new(0).fold("init").at(0), Seed(INIT_AT_0));
    }

    const INIT: u64 = 1291121438026434681;
    const INIT_AT_0: u64 = 4741819528699777265;
}
