//! Widths of sites, by name.

use serde::{Deserialize, Serialize};

/// How wide a site is, and how wide it was in the seed network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteWidth {
    /// The site's name.
    pub site: String,
    /// Its width in the seed network.
    pub seed: usize,
    /// Its width now.
    pub width: usize,
    /// Neurons come in multiples of this: the width of a head.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub unit: usize,
    /// The [series](crate::site::Site::in_series) that the site is one of, if it is of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
}

fn one() -> usize {
    1
}

fn is_one(unit: &usize) -> bool {
    *unit == 1
}
