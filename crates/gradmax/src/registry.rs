//! Registries: what configurations, help and conformance tests know by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Options by name, as a configuration gives them.
pub type Options = serde_json::Map<String, serde_json::Value>;

/// What makes something with some of its options changed; all its options come back.
pub(crate) type Make<T> = fn(&Options) -> Result<(Box<T>, Options), serde_json::Error>;

/// Something that configurations can name.
pub struct Named<T: ?Sized + 'static> {
    name: &'static str,
    about: &'static str,
    make: Make<T>,
}

impl<T: ?Sized> Named<T> {
    pub(crate) const fn new(name: &'static str, about: &'static str, make: Make<T>) -> Self {
        Self { name, about, make }
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is, in a line.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Makes it with some of its options changed; all its options come back.
    ///
    /// # Errors
    /// [`Error::Options`], if there is no option of a name, or it cannot have a value.
    pub fn with(&self, options: &Options) -> Result<(Box<T>, Options), Error> {
        (self.make)(options).map_err(|error| Error::Options { name: self.name, reason: error.to_string() })
    }
}

/// The same with some of its options changed, and all its options.
pub(crate) fn changed<T: Serialize + DeserializeOwned>(
    default: &T,
    options: &Options,
) -> Result<(T, Options), serde_json::Error> {
    let mut all = match serde_json::to_value(default)? {
        serde_json::Value::Object(all) => all,
        _ => Options::new(),
    };
    all.extend(options.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok((serde_json::from_value(serde_json::Value::Object(all.clone()))?, all))
}

/// Files of a room, what they give, and what of it configurations can name, with a line of help: a line each.
macro_rules! registry {
    (
        $(#[$doc:meta])*
        $registry:ident: dyn $role:ident
        $(; $file:ident { $($item:ident),+ } $($name:literal = $value:expr => $about:literal),*)+ $(;)?
    ) => {
        $(
            pub(crate) mod $file;
            pub use self::$file::{$($item),+};
        )+

        $(#[$doc])*
        pub static $registry: &[$crate::registry::Named<dyn $role>] = &[$($(
            $crate::registry::Named::new($name, $about, |options| {
                let (value, options) = $crate::registry::changed(&$value, options)?;
                Ok((Box::new(value), options))
            }),
        )*)+];
    };
}

pub(crate) use registry;
