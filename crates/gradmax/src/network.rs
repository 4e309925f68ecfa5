//! Networks that come with the library.

mod mlp;

pub use self::mlp::{Mlp, MlpConfig};
