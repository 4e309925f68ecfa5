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
