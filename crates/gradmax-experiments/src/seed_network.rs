//! The network that growth starts from: a kind of network, the widths of its sites, and weights of another program.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use gradmax::Seed;
use gradmax::networks::Architecture;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Table;

use crate::config::section;
use crate::data::{DataShape, absolute};
use crate::failure::misuse;
use crate::network::{Network, NetworkConfig, Shape};
use crate::weights::{Renames, Weights};

/// `[network]` of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedNetwork {
    /// What kind of network it is.
    kind: NetworkConfig,
    /// Options of every kind.
    start: Start,
}

/// What any network can start with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Start {
    /// A file of weights: safetensors, or what PyTorch saves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<PathBuf>,
    /// New names of the file's weights, or of all whose names begin so; an empty one leaves them out.
    #[serde(default, skip_serializing_if = "Renames::is_empty")]
    rename: Renames,
    /// The width of every site, in order; those that the kind of network says if this is left out, or that the file's
    /// weights have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    widths: Option<Vec<usize>>,
}

/// The options of every kind.
const OPTIONS: [&str; 3] = ["from", "rename", "widths"];

impl SeedNetwork {
    /// The network's shape, for these data.
    ///
    /// # Errors
    /// If options do not fit together.
    pub fn shape(&self, data: DataShape) -> Result<Shape> {
        let shape = self.kind.shape(data)?;
        let Some(widths) = &self.start.widths else {
            return Ok(shape);
        };
        let sites = shape.site_widths();
        match widths.len() == sites.len() {
            true => Ok(shape.with_site_widths(widths)),
            false => Err(misuse(format!(
                "`network.widths` has {} widths, and the network {} sites: {}",
                widths.len(),
                sites.len(),
                sites.iter().map(|site| site.site.as_str()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// The width of a head, of transformers.
    pub fn head(&self) -> Option<usize> {
        self.kind.head()
    }

    /// Makes the file of weights independent of the current folder: it is meant relative to `base`.
    ///
    /// # Errors
    /// If the current folder cannot be told.
    pub fn resolve(&mut self, base: &Path) -> Result<()> {
        if let Some(from) = &mut self.start.from {
            *from = absolute(&base.join(&*from))?;
        }
        Ok(())
    }

    /// Whether there is a file of weights whose widths are still to be taken.
    pub fn takes_widths(&self) -> bool {
        self.start.from.is_some() && self.start.widths.is_none()
    }

    /// Takes the widths of the file of weights, if there is one and widths are not given.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn take_widths(&mut self, ends: &DataShape, device: &Device) -> Result<()> {
        if let (Some(from), None) = (&self.start.from, &self.start.widths) {
            let shape = self.kind.shape(*ends)?;
            let network = shape.init(Seed::new(0), device)?;
            self.start.widths = Some(Weights::read(from, &self.start.rename)?.widths(&network, &shape.site_widths()));
        }
        Ok(())
    }

    /// The network with the weights of the file, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, its weights do not fit, or the network is not to be the seed network.
    pub fn filled(&self, network: Network, is_seed: bool) -> Result<Network> {
        match &self.start.from {
            None => Ok(network),
            Some(from) if !is_seed => Err(misuse(format!(
                "baselines other than `small` (`big`, `static_W`) start with another network than the configuration's, which \
                 the weights in {} do not fill; leave them out",
                from.display()
            ))),
            Some(from) => Weights::read(from, &self.start.rename)?.fill(network),
        }
    }
}

impl Serialize for SeedNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::try_from(&self.kind).map_err(S::Error::custom)?;
        table.extend(Table::try_from(&self.start).map_err(S::Error::custom)?);
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SeedNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut of_kind = Table::deserialize(deserializer)?;
        let taken = OPTIONS.iter().filter_map(|name| Some((name.to_string(), of_kind.remove(*name)?)));
        let own = taken.collect::<Table>();
        let kind = section::<NetworkConfig>(&of_kind).map_err(|error| match error.starts_with("unknown field") {
            true => D::Error::custom(format!("{error}, or `{}`", OPTIONS.join("`, `"))),
            false => D::Error::custom(error),
        })?;
        let start = section::<Start>(&own).map_err(D::Error::custom)?;
        Ok(Self { kind, start })
    }
}
