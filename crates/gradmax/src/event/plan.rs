//! What is to grow, and by how much.

use serde::{Deserialize, Serialize};

/// A number of new neurons for one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The site's name.
    pub site: String,
    /// Number of new neurons.
    pub count: usize,
}

impl Planned {
    /// So many new neurons for a site; nothing to plan if there are none.
    pub(crate) fn some(site: &str, count: usize) -> Option<Self> {
        (count > 0).then(|| Self { site: site.to_string(), count })
    }
}
