//! The image experiments: which network on which data, in the paper's size or one for two cores, and what stands in for
//! data that is not at hand.

use std::path::Path;

use anyhow::Result;

use super::Setting;
use super::study::Study;
use gradmax_experiments::data;
use gradmax_experiments::failure::misuse;

/// A network and the images that it learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    WideResNet,
    WideResNetInverse,
    WideResNetNorm,
    WideResNetNormInverse,
    Vgg,
    WideResNet100,
    MobileNet,
}

/// A data set of the paper.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Cifar10,
    Cifar100,
    ImageNet,
}

/// Steps of a run in the quick preset.
const QUICK_STEPS: usize = 320;
/// Steps of a run on ImageNet in the paper: 90 epochs in batches of 512.
const IMAGENET_STEPS: usize = 90 * 1_281_167_usize.div_ceil(512);

/// Where ImageNet is looked for.
const IMAGENET: &str = "data/imagenet";

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
            Self::ImageNet => "ImageNet",
        }
    }

    fn is_at_hand(self) -> bool {
        match self {
            Self::Cifar10 => data::path("cifar10", None).is_ok(),
            Self::Cifar100 => data::path("cifar100", None).is_ok(),
            Self::ImageNet => Path::new(IMAGENET).join("train").is_dir(),
        }
    }

    /// The data of the quick preset, what it is called, and what it stands for.
    fn quick(self) -> (&'static str, &'static str) {
        match (self, self.is_at_hand()) {
            (Self::Cifar10, true) => ("{ name = \"cifar10\", examples = 10000", "CIFAR-10"),
            (Self::Cifar100, true) => ("{ name = \"cifar100\", examples = 10000", "CIFAR-100"),
            (Self::Cifar10 | Self::ImageNet, _) => {
                ("{ name = \"fashion_mnist\", as = \"cifar\", examples = 10000", "Fashion-MNIST")
            }
            (Self::Cifar100, false) => ("{ name = \"digits\", as = \"cifar\"", "digits"),
        }
    }
}

impl Images {
    /// The rows of table 1.
    pub const TASKS: [Self; 4] = [Self::WideResNet, Self::Vgg, Self::WideResNet100, Self::MobileNet];

    fn wanted(self) -> Wanted {
        match self {
            Self::WideResNet100 => Wanted::Cifar100,
            Self::MobileNet => Wanted::ImageNet,
            _ => Wanted::Cifar10,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::WideResNet => "wrn",
            Self::WideResNetInverse => "wrn-inverse",
            Self::WideResNetNorm => "wrn-norm",
            Self::WideResNetNormInverse => "wrn-norm-inverse",
            Self::Vgg => "vgg",
            Self::WideResNet100 => "wrn-100",
            Self::MobileNet => "mobilenet",
        }
    }

    fn base(self) -> &'static str {
        match self {
            Self::WideResNet | Self::WideResNetInverse => "cifar10_wrn28",
            Self::WideResNetNorm | Self::WideResNetNormInverse => "cifar10_wrn28_bn",
            Self::Vgg => "cifar10_vgg11",
            Self::WideResNet100 => "cifar100_wrn28",
            Self::MobileNet => "imagenet_mobilenet_v1",
        }
    }

    fn network(self, setting: &Setting) -> &'static str {
        match self {
            Self::Vgg => "VGG11",
            Self::MobileNet => "MobileNet-v1",
            _ if setting.is_paper() => "WRN-28-1",
            _ => "WRN-10-1",
        }
    }

    /// Its plain runs: the study, what it is called, and what must be known about it.
    pub fn study(self, setting: &Setting, methods: &[&str]) -> Result<(Study, String, String)> {
        self.changed(setting, self.name(), &[], methods)
    }

    /// Its runs with further changes, under a name of their own.
    pub fn changed(
        self,
        setting: &Setting,
        name: &str,
        changes: &[String],
        methods: &[&str],
    ) -> Result<(Study, String, String)> {
        let changes = [&self.changes(setting)?, changes].concat();
        let study = Study::new(setting, name, self.base(), &changes, methods, setting.seeds(3, 3))?;
        let (data, note) = match setting.is_paper() {
            true => (self.wanted().name(), String::new()),
            false => (self.wanted().quick().1, self.quick_note(setting, methods)),
        };
        Ok((study, format!("{data}, {}", self.network(setting)), note))
    }

    /// What makes it of its configuration.
    fn changes(self, setting: &Setting) -> Result<Vec<String>> {
        let mut changes = Vec::new();
        if matches!(self, Self::WideResNetInverse | Self::WideResNetNormInverse) {
            changes.push("growth.zero_side=\"outgoing\"".to_string());
        }
        // The paper's text has small weights on the zero side, which Firefly needs; its configurations have none.
        if !setting.authors {
            changes.push("growth.epsilon=0.0001".into());
        }
        match setting.is_paper() {
            true => {
                self.needs_data()?;
                if self.wanted() == Wanted::ImageNet {
                    // A configuration that comes with the program lies in no folder that a path could be relative to.
                    changes.push(format!("data.dir=\"{IMAGENET}\""));
                }
            }
            false => changes.extend(self.quick_changes()),
        }
        Ok(changes)
    }

    fn needs_data(self) -> Result<()> {
        let wanted = self.wanted();
        match wanted.is_at_hand() {
            true => Ok(()),
            false => Err(misuse(format!(
                "the paper's setting needs {}, which is not there; see `gradmax data path`, or use --preset quick",
                wanted.name()
            ))),
        }
    }

    /// Images a step in the quick preset. The last maps of MobileNet are single pixels here, too few for the statistics
    /// of batch norm in a smaller batch.
    fn quick_batch(self) -> usize {
        match self {
            Self::MobileNet => 64,
            _ => 32,
        }
    }

    fn quick_changes(self) -> Vec<String> {
        let (data, _) = self.wanted().quick();
        let crop = if self.wanted().quick().1 == "digits" { "" } else { ", flip = true" };
        let mut changes = vec![
            format!("data={data}, augment = {{ crop = 2{crop} }} }}"),
            format!(
                "training={{ steps = {QUICK_STEPS}, batch_size = {}, warm_up_steps = 20, decay = \"cosine\", log_every = 4, \
                 evaluate_every = {QUICK_STEPS} }}",
                self.quick_batch()
            ),
            format!("growth.start={}", QUICK_STEPS / 5),
            format!("growth.every={}", QUICK_STEPS / 10),
            "growth.times=3".into(),
            "growth.fraction=1.0".into(),
            // A hundred steps at a rate of 0.001 would take several times as long as all the training.
            "methods.firefly_opt={ steps = 20, learning_rate = 0.005 }".into(),
        ];
        changes.extend(match self {
            // The paper's rates, in proportion to the batch; MobileNet's is lower, since it diverges here.
            Self::MobileNet => vec!["optimizer.learning_rate=0.01".to_string(), "training.evaluation_batch=100".into()],
            Self::Vgg => vec!["optimizer.learning_rate=0.0125".into()],
            _ => vec!["network.depth=10".into(), "optimizer.learning_rate=0.025".into()],
        });
        changes
    }

    fn quick_note(self, setting: &Setting, methods: &[&str]) -> String {
        let seeds = setting.seeds(3, 3);
        let wanted = self.wanted();
        let stand_in = match wanted.is_at_hand() {
            true => format!("10 000 images of {}", wanted.quick().1),
            false => match wanted {
                Wanted::Cifar100 => format!("UCI digits in CIFAR's form in place of {}", wanted.name()),
                _ => format!("10 000 Fashion-MNIST images in CIFAR's form in place of {}", wanted.name()),
            },
        };
        let firefly = match methods.contains(&"firefly_opt") {
            true => "; firefly_opt with 20 steps of its optimizer",
            false => "",
        };
        format!(
            "Quick preset: {stand_in}; {QUICK_STEPS} steps of {} images, growth from a quarter of the channels to all in three events; \
             {seeds} seeds{firefly}.",
            self.quick_batch()
        )
    }
}

/// Random growing as it is compared with: signed, or as the paper's code draws it.
pub fn random(setting: &Setting) -> &'static str {
    if setting.authors { "random_positive" } else { "random" }
}

/// A number of the paper's steps on ImageNet, as a share of the steps that are run.
pub fn scaled(setting: &Setting, steps: usize) -> usize {
    match setting.is_paper() {
        true => steps,
        // Twice as dense: growth would otherwise be over in the first few steps.
        false => (steps * QUICK_STEPS * 2 / IMAGENET_STEPS).max(1),
    }
}

/// Notes, each once.
pub fn joined(notes: Vec<String>) -> String {
    let mut kept: Vec<String> = Vec::new();
    for note in notes {
        if !kept.contains(&note) {
            kept.push(note);
        }
    }
    kept.join(" ")
}

/// The run along which alignments are measured: the seed network of the wide residual network, without augmentation.
pub fn for_alignment(setting: &Setting) -> Result<(Study, String)> {
    let images = Images::WideResNet;
    let mut changes = images.changes(setting)?;
    let (data, name) = images.wanted().quick();
    changes.push(match setting.is_paper() {
        true => "data={ name = \"cifar10\" }".to_string(),
        false => format!("data={data} }}").replace("10000", "4000"),
    });
    // Directions on all data are summed up over so many examples at a time.
    changes.push("training.evaluation_batch=250".into());
    let study = Study::new(setting, "alignment", images.base(), &changes, &["small"], setting.seeds(3, 10))?;
    let note = match setting.is_paper() {
        true => "The seed network of WRN-28-1 on CIFAR-10, without crops or flips.".into(),
        false => {
            format!("Quick preset: the seed network of WRN-10-1 on 4000 images of {name}, without crops or flips.")
        }
    };
    Ok((study, note))
}
