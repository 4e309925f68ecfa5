//! Whether growing paid: as good as the big network for less, and better than what else could be had for as much.

use super::comparison::{Measure, interval, measure};
use crate::config::CompareConfig;
use crate::folder::RunSummary;
use crate::method::{Baseline, MethodOptions};
use crate::statistics::{Mean, paired_difference};

/// A grown network may be so much worse than the big one: points of the score.
const POINTS: f64 = 0.2;
/// The same where there is only a loss: a share of it.
const SHARE_OF_LOSS: f64 = 0.005;
/// The share of the big network's operations, and of its seconds, that it may take at most.
const SHARE_OF_COST: f64 = 0.7;

/// What is known of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Holds,
    Open,
    Fails,
}

impl Known {
    /// Whether the numbers of an interval are above a bound.
    fn above(bound: f64, mean: &Mean, confidence: f64) -> Self {
        let Some(half) = mean.half_width(confidence) else {
            return Self::Open;
        };
        match (mean.mean - half > bound, mean.mean + half <= bound) {
            (true, _) => Self::Holds,
            (_, true) => Self::Fails,
            _ => Self::Open,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Holds => "yes",
            Self::Open => "not shown",
            Self::Fails => "no",
        }
    }
}

/// The runs of a comparison, seen from its reference.
struct Seen<'a> {
    all: &'a [RunSummary],
    compare: &'a CompareConfig,
    measure: Measure,
}

impl Seen<'_> {
    fn runs<'s>(&'s self, method: &'s str) -> impl Iterator<Item = &'s RunSummary> {
        self.all.iter().filter(move |run| run.method == method)
    }

    /// A number of the reference and of another method, seed by seed.
    fn pairs(&self, method: &str, of: impl Fn(&RunSummary) -> f64) -> Vec<(f64, f64)> {
        let pair = |run: &RunSummary| {
            let other = self.runs(method).find(|other| other.seed == run.seed)?;
            Some((of(run), of(other)))
        };
        self.runs(&self.compare.reference).filter_map(pair).collect()
    }

    /// By how much the reference is better than another method.
    fn advantage(&self, method: &str) -> Option<Mean> {
        let sign = if self.measure.is_score { 1.0 } else { -1.0 };
        Some(paired_difference(&self.pairs(method, self.measure.of))?.times(sign))
    }

    /// How many times as much as another method the reference takes.
    fn ratio(&self, method: &str, of: impl Fn(&RunSummary) -> f64) -> Option<f64> {
        let ratios = self.pairs(method, of).into_iter().map(|(own, other)| own / other).collect::<Vec<_>>();
        Some(Mean::of(&ratios)?.mean)
    }

    fn mean(&self, method: &str, of: impl Fn(&RunSummary) -> Option<f64>) -> Option<f64> {
        let values = self.runs(method).map(of).collect::<Option<Vec<_>>>()?;
        Some(Mean::of(&values)?.mean)
    }

    /// The best of some methods, and by what it was chosen: validation examples, or, without these, what is reported,
    /// which is in its favour.
    fn best<'m>(&self, methods: &[&'m str]) -> Option<(&'m str, &'static str)> {
        let by_score = |method: &str| self.mean(method, |run| run.final_validation_score.filter(|_| !run.of_text));
        let by_loss = |method: &str| Some(-self.mean(method, |run| run.final_validation_loss)?);
        let reported = |method: &str| {
            let sign = if self.measure.is_score { 1.0 } else { -1.0 };
            Some(sign * self.mean(method, |run| Some((self.measure.of)(run)))?)
        };
        let with = |of: &dyn Fn(&str) -> Option<f64>| {
            let merits = methods.iter().map(|method| Some((*method, of(method)?))).collect::<Option<Vec<_>>>()?;
            merits.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(method, _)| method)
        };
        with(&by_score)
            .map(|best| (best, "by the validation score"))
            .or_else(|| with(&by_loss).map(|best| (best, "by the validation loss")))
            .or_else(|| with(&reported).map(|best| (best, "by what is reported, in its favour")))
    }
}

/// Whether growing paid, in a line: the reference is within 0.2 points of the score (0.5 % of the loss) of `big` for at
/// most 70 % of its operations and seconds, and better than `big_short` and the best of the fixed widths, by paired
/// intervals. None if the comparison has none of the arms that this takes.
pub fn verdict(summaries: &[RunSummary], compare: &CompareConfig, methods: &MethodOptions) -> Option<String> {
    let seen = Seen { all: summaries, compare, measure: measure(summaries) };
    let arms = |wanted: fn(Baseline) -> bool| {
        let of = compare.methods.iter().filter(|method| Baseline::of(method, methods).is_some_and(wanted));
        of.map(String::as_str).filter(|method| seen.runs(method).next().is_some()).collect::<Vec<_>>()
    };
    let big = arms(|baseline| baseline == Baseline::Big);
    let short = arms(|baseline| baseline == Baseline::BigShort);
    let fixed = arms(|baseline| matches!(baseline, Baseline::Static(_)));
    if short.is_empty() && fixed.is_empty() || seen.runs(&compare.reference).next().is_none() {
        return None;
    }
    let (mut claims, mut missing) = (Vec::new(), Vec::new());
    match big.first() {
        Some(big) => claims.push(against_big(&seen, big)?),
        None => missing.push("`big`"),
    }
    match short.first() {
        Some(short) => claims.push(better(&seen, short, "")?),
        None => missing.push("`big_short`"),
    }
    match seen.best(&fixed) {
        Some((best, how)) => {
            let widths =
                if fixed.len() == 1 { String::new() } else { format!(", the best of {} widths {how},", fixed.len()) };
            claims.push(better(&seen, best, &widths)?);
        }
        None => missing.push("fixed widths (`--widths`)"),
    }
    let worst = |known: Known| claims.iter().any(|(claim, _)| *claim == known);
    let all = match (worst(Known::Fails), worst(Known::Open) || !missing.is_empty()) {
        (true, _) => Known::Fails,
        (false, true) => Known::Open,
        (false, false) => Known::Holds,
    };
    let sentences = claims.into_iter().map(|(_, sentence)| sentence).collect::<Vec<_>>().join("; ");
    let missing = match missing.is_empty() {
        true => String::new(),
        false => format!(" Not compared with {}.", missing.join(", ")),
    };
    let word = match all {
        Known::Holds => "Yes",
        Known::Open => "Not shown",
        Known::Fails => "No",
    };
    let by = seen.measure.unit;
    let reference = &compare.reference;
    Some(format!("Did growing pay? {word}. `{reference}` is better by, in {by}: {sentences}.{missing}"))
}

/// As good as the big network, for less.
fn against_big(seen: &Seen<'_>, big: &str) -> Option<(Known, String)> {
    let advantage = seen.advantage(big)?;
    let (margin, stated) = match seen.measure.is_score {
        true => (POINTS, format!("{POINTS} points")),
        false => {
            let loss = seen.mean(big, |run| Some((seen.measure.of)(run)))?;
            (SHARE_OF_LOSS * loss.abs(), format!("{} % of its loss", 100.0 * SHARE_OF_LOSS))
        }
    };
    let [flops, seconds] = [seen.ratio(big, |run| run.train_flops as f64)?, seen.ratio(big, |run| run.seconds)?];
    let quality = Known::above(-margin, &advantage, seen.compare.confidence);
    let known = if flops.max(seconds) > SHARE_OF_COST { Known::Fails } else { quality };
    let (by, word) = (interval(&advantage, seen.compare.confidence), quality.word());
    let cheap = if flops.max(seconds) > SHARE_OF_COST { "no" } else { "yes" };
    let [flops, seconds, most] = [flops, seconds, SHARE_OF_COST].map(|share| 100.0 * share);
    Some((
        known,
        format!(
            "than `{big}` {by} (at most {stated} worse: {word}), for {flops:.0} % of its operations and {seconds:.0} % of its \
             seconds (at most {most:.0} %: {cheap})"
        ),
    ))
}

/// Better than a network that took as much.
fn better(seen: &Seen<'_>, method: &str, remark: &str) -> Option<(Known, String)> {
    let advantage = seen.advantage(method)?;
    let known = Known::above(0.0, &advantage, seen.compare.confidence);
    let by = interval(&advantage, seen.compare.confidence);
    Some((known, format!("than `{method}`{remark} {by} ({})", known.word())))
}
