//! The experiments that come with the program, by name.

/// A configuration that comes with the program.
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Configurations of the repository, by the names of their files.
macro_rules! shipped {
    ($($name:literal)+) => {
        /// Every configuration that comes with the program.
        pub const SHIPPED: &[Shipped] =
            &[$(Shipped { name: $name, text: include_str!(concat!("../../../configs/", $name, ".toml")) }),+];
    };
}

shipped! {
    "teacher_student"
    "teacher_student_large"
    "teacher_student_marginal"
    "teacher_student_conv"
    "teacher_student_conv_bn"
    "digits_mlp"
    "digits_cnn"
    "fashion_mlp"
    "fashion_wrn10"
    "growing_fashion_mlp"
    "growing_digits_cnn"
    "growing_fashion_wrn10"
    "gpt_bytes"
    "gpt_bytes_depth"
    "vit_fashion"
    "cifar10_wrn28"
    "cifar10_wrn28_inverse"
    "cifar10_wrn28_bn"
    "cifar10_wrn28_bn_inverse"
    "cifar10_vgg11"
    "cifar10_vgg11_bn"
    "cifar100_wrn28"
    "imagenet_mobilenet_v1"
    "imagenet_mobilenet_v1_bn_inverse"
}

/// The configuration of that name.
pub fn named(name: &str) -> Option<&'static Shipped> {
    SHIPPED.iter().find(|shipped| shipped.name == name)
}

impl Shipped {
    /// What it is, in the words of its first sentence.
    pub fn about(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect::<Vec<_>>();
        let comment = comment.join(" ");
        // A full stop after an abbreviation is followed by no capital.
        let ends = |(at, _): &(usize, &str)| comment[at + 2..].starts_with(char::is_uppercase);
        let end = comment.match_indices(". ").find(ends).map_or(comment.len(), |(at, _)| at);
        comment[..end].trim_end_matches('.').to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Experiment;

    #[test]
    fn every_configuration_of_the_repository_is_shipped_and_says_what_it_is() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
        let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
        assert_eq!(files.len(), SHIPPED.len());
        for shipped in SHIPPED {
            Experiment::parse(shipped.text, shipped.name, &[]).unwrap();
            assert!(shipped.about().len() > 20 && !shipped.about().contains('\n'), "{}", shipped.about());
        }
    }
}
