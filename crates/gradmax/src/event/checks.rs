//! What is checked of a network's sites before anything is measured.

use std::collections::BTreeSet;

use burn::tensor::Tensor;

use crate::error::Error;
use crate::site::declaration::Site;
use crate::site::growable::{Growable, device_of};
use crate::surgery::carry::KnownParameters;

/// Checks that sites have names and producers of their own, and layers whose parameters are the network's, once each,
/// in the float type that growth computes in.
pub(super) fn check_sites<N: Growable>(network: &N, sites: &[Site]) -> Result<(), Error> {
    check_names(sites.iter().map(|site| site.name.as_str()))?;
    for (index, site) in sites.iter().enumerate() {
        let writes = |other: &Site, weight| other.writers.iter().any(|writer| writer.weight() == weight);
        let same = |other: &&Site| site.writers.iter().any(|writer| writes(other, writer.weight()));
        if let Some(other) = sites[..index].iter().find(same) {
            return Err(Error::SharedProducer { site: other.name.clone(), other: site.name.clone() });
        }
    }
    // Growth makes its tensors in the device's own float type; a module cast to another one would fail inside of Burn.
    let expected = Tensor::<1>::zeros([1], &device_of(network).inner()).dtype();
    let known = KnownParameters::of(network);
    for site in sites {
        for parameter in site.parameters() {
            let places = known.0.get(&parameter).map_or([].as_slice(), Vec::as_slice);
            if places.len() > 1 {
                let paths = places.iter().map(|(path, _)| format!("`{path}`")).collect::<Vec<_>>().join(" and ");
                return Err(Error::SharedParameter { site: site.name.clone(), paths });
            }
            if let Some((path, found)) = places.iter().find(|(_, found)| *found != expected) {
                let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
                return Err(Error::FloatType { site: site.name.clone(), parameter: path.clone(), found, expected });
            }
        }
    }
    Ok(())
}

/// Checks that no site is named twice.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::RepeatedSite { site: name.to_string() });
        }
    }
    Ok(())
}
