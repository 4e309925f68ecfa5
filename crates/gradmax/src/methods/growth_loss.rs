//! The loss on the growth batch as a function of new neurons' weights, for growth methods that train them.

use crate::error::Error;
use crate::matrix::Matrix;
use crate::site::declaration::Site;
use crate::surgery::new_neurons::{Changes, NewNeurons};

/// The loss on the growth batch, were these neurons added: a forward and a backward pass each time.
pub trait GrowthLoss {
    /// Loss and gradients.
    ///
    /// # Errors
    /// [`Error::ExtensionMismatch`], if the site's layers are not the network's; [`Error::Examples`].
    fn at(&self, neurons: &NewNeurons) -> Result<LossAt, Error>;
}

/// A loss, and its gradients.
#[derive(Debug, Clone)]
pub struct LossAt {
    /// The mean loss.
    pub loss: f64,
    /// Its gradient at the weights into new neurons, `[count, fan_in]`.
    pub incoming: Matrix,
    /// At those out of them, `[fan_out, count]`.
    pub outgoing: Matrix,
    /// At the weights of the existing neurons, and so at changes of them.
    pub existing: Changes,
}

/// The loss of a network with neurons added to a block of a site.
pub(crate) trait NetworkLoss {
    fn at(&self, site: &Site, block: usize, neurons: &NewNeurons) -> Result<LossAt, Error>;
}

/// The loss with neurons added to one block of one site.
pub(crate) struct AtBlock<'a> {
    pub(crate) network: &'a dyn NetworkLoss,
    pub(crate) site: &'a Site,
    pub(crate) block: usize,
}

impl GrowthLoss for AtBlock<'_> {
    fn at(&self, neurons: &NewNeurons) -> Result<LossAt, Error> {
        self.network.at(self.site, self.block, neurons)
    }
}
