//! Every figure and table of the paper: what it claims, and how it is made.

use anyhow::Result;

use super::growth_figure::GrowthPart;
use super::image_figures::{figure_4, figure_5_centre, figure_5_left, figure_5_right, figure_6, table_1, table_2};
use super::teacher_figures::{
    figure_1, figure_2b, figure_2c, figure_3, figure_3c, figure_7, figure_8, figure_13a, figure_13b, figure_13c,
    figure_13d, growth_norms, growth_panels, small_and_large,
};
use super::teachers::Student;
use super::{Reproduction, Setting};
use gradmax_experiments::failure::misuse;

/// A figure or table of the paper.
pub struct Artefact {
    pub id: &'static str,
    pub title: &'static str,
    /// What the paper says, in a sentence.
    pub claim: &'static str,
    /// Data that it needs, beside what it makes itself.
    pub needs: &'static str,
    /// Wall time on two processor cores, in the quick preset and in the paper's.
    pub takes: [&'static str; 2],
    /// Sets it up.
    pub make: fn(&Setting) -> Result<Box<dyn Reproduction>>,
}

const NOTHING: &str = "nothing";
const CIFAR: &str = "CIFAR-10 (quick: or Fashion-MNIST)";
const IMAGENET: &str = "ImageNet (quick: or Fashion-MNIST)";
const ALL_IMAGES: &str = "CIFAR-10, CIFAR-100, ImageNet (quick: or Fashion-MNIST and digits)";

/// All of them, in the paper's order.
pub const ALL: [Artefact; 25] = [
    Artefact {
        id: "1",
        title: "Figure 1",
        claim: "New neurons get zero incoming weights, so that nothing changes, and outgoing weights from the singular value \
                decomposition, so that their gradient is as large as it can be.",
        needs: NOTHING,
        takes: ["1 s", "1 s"],
        make: figure_1,
    },
    Artefact {
        id: "2a",
        title: "Figure 2a",
        claim: "Grown from the same checkpoints, new neurons receive much larger gradients with GradMax than with random growing, and \
                GradMaxOpt does not find that optimum.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: |setting| growth_norms(setting, Student::Dense),
    },
    Artefact {
        id: "2b",
        title: "Figure 2b",
        claim: "The larger gradient norm after growing persists through training.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_2b,
    },
    Artefact {
        id: "2c",
        title: "Figure 2c",
        claim: "From the same checkpoints, the loss stays lower with GradMax than with random growing for over 500 steps.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_2c,
    },
    Artefact {
        id: "3a",
        title: "Figure 3a",
        claim: "20:10:10 teacher: GradMax reaches a lower training loss than random growing and GradMaxOpt; all growing methods fall \
                short of Baseline-Big.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: |setting| figure_3(setting, Student::Dense),
    },
    Artefact {
        id: "3b",
        title: "Figure 3b",
        claim: "100:50:10 teacher: GradMax reaches a lower training loss than random growing and GradMaxOpt, and matches Baseline-Big.",
        needs: NOTHING,
        takes: ["1 min", "1 min"],
        make: |setting| figure_3(setting, Student::LargeDense),
    },
    Artefact {
        id: "3c",
        title: "Figure 3c",
        claim: "What GradMax adds to a growth step takes less time than a training step.",
        needs: NOTHING,
        takes: ["1 min", "1 min"],
        make: figure_3c,
    },
    Artefact {
        id: "4",
        title: "Figure 4",
        claim: "On image classification, training losses with GradMax fall faster after growing than with random growing and Firefly.",
        needs: ALL_IMAGES,
        takes: ["1 h", "weeks"],
        make: figure_4,
    },
    Artefact {
        id: "5-left",
        title: "Figure 5, left",
        claim: "MobileNet-v1: growing early, and every 5000 steps, gives the best accuracy.",
        needs: IMAGENET,
        takes: ["15 min", "months"],
        make: figure_5_left,
    },
    Artefact {
        id: "5-centre",
        title: "Figure 5, centre",
        claim: "MobileNet-v1: a larger epsilon, which does not preserve the function, harms the accuracy.",
        needs: IMAGENET,
        takes: ["10 min", "months"],
        make: figure_5_centre,
    },
    Artefact {
        id: "5-right",
        title: "Figure 5, right",
        claim: "MobileNet-v1: scales of 0.5 and more do equally well, whether relative to the existing neurons' mean norm or fixed.",
        needs: IMAGENET,
        takes: ["20 min", "months"],
        make: figure_5_right,
    },
    Artefact {
        id: "6",
        title: "Figure 6",
        claim: "The directions of a large minibatch agree with those of all data: strongly at the beginning of training, less at its end.",
        needs: CIFAR,
        takes: ["10 min", "days"],
        make: figure_6,
    },
    Artefact {
        id: "7",
        title: "Figure 7",
        claim: "Higher learning rates bring faster convergence, and the second highest, 0.1, the best results.",
        needs: NOTHING,
        takes: ["1 min", "1 min"],
        make: figure_7,
    },
    Artefact {
        id: "8-top",
        title: "Figure 8, top",
        claim: "Growing along directions of larger singular values leads to lower losses in the long run.",
        needs: NOTHING,
        takes: ["1 min", "1 min"],
        make: |setting| figure_8(setting, GrowthPart::Losses),
    },
    Artefact {
        id: "8-bottom",
        title: "Figure 8, bottom",
        claim: "Singular values and losses after growing are negatively correlated, for longer if the network grew late.",
        needs: NOTHING,
        takes: ["1 min", "1 min"],
        make: |setting| figure_8(setting, GrowthPart::Correlations),
    },
    Artefact {
        id: "9",
        title: "Figure 9",
        claim: "Convolutions: GradMax gives the largest gradient norm after growing, and lower losses for 500 steps.",
        needs: NOTHING,
        takes: ["1 min", "10 min"],
        make: |setting| growth_panels(setting, Student::Conv),
    },
    Artefact {
        id: "10",
        title: "Figure 10",
        claim: "Convolutions: in a small and a large setting GradMax reaches lower training losses than random growing and splitting.",
        needs: NOTHING,
        takes: ["2 min", "10 min"],
        make: |setting| small_and_large(setting, [Student::Conv, Student::LargeConv]),
    },
    Artefact {
        id: "11",
        title: "Figure 11",
        claim: "Convolutions with batch norm: GradMax gives the largest gradient norm after growing, and lower losses for 500 steps.",
        needs: NOTHING,
        takes: ["1 min", "10 min"],
        make: |setting| growth_panels(setting, Student::ConvNorm),
    },
    Artefact {
        id: "12",
        title: "Figure 12",
        claim: "Convolutions with batch norm: in a small and a large setting GradMax reaches lower training losses than random growing \
                and splitting.",
        needs: NOTHING,
        takes: ["2 min", "10 min"],
        make: |setting| small_and_large(setting, [Student::ConvNorm, Student::LargeConvNorm]),
    },
    Artefact {
        id: "13a",
        title: "Figure 13a",
        claim: "Setting both sides to zero, with unit biases, does worse than GradMax.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_13a,
    },
    Artefact {
        id: "13b",
        title: "Figure 13b",
        claim: "At equal FLOPs, growing early in training works best.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_13b,
    },
    Artefact {
        id: "13c",
        title: "Figure 13c",
        claim: "At equal FLOPs, larger seed networks reach lower losses, and GradMax does better than random growing from each.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_13c,
    },
    Artefact {
        id: "13d",
        title: "Figure 13d",
        claim: "Grown to 1.5 times the teacher's width, the student does better than Baseline-Big.",
        needs: NOTHING,
        takes: ["10 s", "10 s"],
        make: figure_13d,
    },
    Artefact {
        id: "table-1",
        title: "Table 1",
        claim: "On every task GradMax reaches a higher test accuracy than random growing and Firefly; Baseline-Big is above all.",
        needs: ALL_IMAGES,
        takes: ["1 h", "weeks"],
        make: table_1,
    },
    Artefact {
        id: "table-2",
        title: "Table 2",
        claim: "Zero outgoing weights raise the accuracy of growing without batch norm, with batch norm it hardly matters, and \
                GradMax(Opt) is best in every row.",
        needs: CIFAR,
        takes: ["30 min", "weeks"],
        make: table_2,
    },
];

/// The figures and tables that these names stand for: an identifier, or a number that several share.
pub fn find(names: &[String]) -> Result<Vec<&'static Artefact>> {
    let mut found: Vec<&Artefact> = Vec::new();
    for name in names {
        let plain = plain(name);
        let mut matching = ALL.iter().filter(|artefact| plain == "all" || stands_for(&plain, artefact.id)).peekable();
        if matching.peek().is_none() {
            let known = ALL.iter().map(|artefact| artefact.id).collect::<Vec<_>>().join(", ");
            return Err(misuse(format!("the paper has no figure or table `{name}`; there are: {known}, and all")));
        }
        for artefact in matching {
            if !found.iter().any(|known| known.id == artefact.id) {
                found.push(artefact);
            }
        }
    }
    Ok(found)
}

fn plain(name: &str) -> String {
    let kept = name.to_lowercase().replace("figure", "").replace("fig", "").replace("center", "centre");
    kept.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Whether a name is an identifier's, or the number that it begins with.
fn stands_for(plain_name: &str, id: &str) -> bool {
    let id = plain(id);
    let rest = id.strip_prefix(plain_name).filter(|_| !plain_name.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || !rest.starts_with(|c: char| c.is_ascii_digit()) || plain_name == "table")
}

#[cfg(test)]
mod tests {
    use super::super::{Preset, jobs};
    use super::*;

    fn ids(names: &[&str]) -> Vec<&'static str> {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        find(&names).unwrap().into_iter().map(|artefact| artefact.id).collect()
    }

    #[test]
    fn names_are_understood_as_people_write_them() {
        assert_eq!(ids(&["2a"]), ["2a"]);
        assert_eq!(ids(&["Figure 2A", "fig2a"]), ["2a"]);
        assert_eq!(ids(&["2"]), ["2a", "2b", "2c"]);
        assert_eq!(ids(&["1"]), ["1"]);
        assert_eq!(ids(&["13"]), ["13a", "13b", "13c", "13d"]);
        assert_eq!(ids(&["5-center", "8 top", "table 1"]), ["5-centre", "8-top", "table-1"]);
        assert_eq!(ids(&["table"]), ["table-1", "table-2"]);
        assert_eq!(ids(&["all"]).len(), ALL.len());
    }

    #[test]
    fn everything_can_be_set_up_in_both_presets() {
        for (preset, authors) in [(Preset::Quick, false), (Preset::Quick, true), (Preset::Paper, false)] {
            let root = std::env::temp_dir().join("gradmax-catalog");
            let setting = Setting { preset, authors, seeds: None, device: None, root };
            // The paper's own image data need not be at hand.
            for artefact in ALL.iter().filter(|artefact| preset == Preset::Quick || artefact.needs == NOTHING) {
                let made = (artefact.make)(&setting).map_err(|error| format!("{}: {error:#}", artefact.id)).unwrap();
                assert!(!jobs(made.as_ref()).unwrap().is_empty(), "{}", artefact.id);
            }
        }
    }

    #[test]
    fn every_growth_lies_within_its_run() {
        let root = std::env::temp_dir().join("gradmax-catalog");
        let setting = Setting { preset: Preset::Quick, authors: false, seeds: None, device: None, root };
        for artefact in &ALL {
            let made = (artefact.make)(&setting).unwrap();
            for study in made.configurations() {
                let growth = study.experiment.growth.as_ref().unwrap().periodic().unwrap();
                let last = growth.start.next_multiple_of(growth.every) + (growth.times - 1) * growth.every;
                let steps = study.experiment.training.steps(|| study.experiment.data.examples());
                assert!(last < steps, "{}: {} grows at step {last} of {steps}", artefact.id, study.name);
            }
        }
    }
}
