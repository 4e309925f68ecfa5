//! Random orthogonal directions: what of GradMax's advantage is owed to orthogonality alone.

use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, standard_normal};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::surgery::new_neurons::NewNeurons;

/// Isotropic random directions that are orthogonal to each other (Saxe et al. 2014), as the singular vectors are, but look
/// at no gradient. Works with either zero side; beyond as many neurons as there are dimensions, a new set is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomOrthogonal {}

impl GrowthMethod for RandomOrthogonal {
    fn name(&self) -> &str {
        "random_orthogonal"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let drawn = request.draw(standard_normal);
        let (count, dimensions) = drawn.shape();
        let mut rows = Matrix::zeros(count, dimensions);
        for first in (0..count).step_by(dimensions.max(1)) {
            let size = dimensions.min(count - first);
            // The Q of a Gaussian matrix is as likely in any orientation (Stewart 1980).
            let set = drawn.subrows(first, size).transpose().qr().compute_thin_Q();
            rows.subrows_mut(first, size).copy_from(set.transpose());
        }
        request.place(rows.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::SgdConfig;
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::event::grower::Grower;
    use crate::event::pass::Pass;
    use crate::event::plan::Planned;
    use crate::networks::{Architecture, MlpConfig};
    use crate::seed::Seed;
    use crate::site::activation::Activation;
    use crate::site::growable::Growable;
    use crate::site::layer::EntriesOf;

    #[test]
    fn new_neurons_are_orthogonal_as_long_as_there_is_room() {
        let device = Device::flex();
        let network = MlpConfig::new(3, &[2], 5, Activation::Tanh).init(Seed::new(0), &device.clone().autodiff()).unwrap();
        let input = Tensor::<2>::from_data(TensorData::new(vec![0.5_f32; 12], [4, 3]), &device);
        let plan = [Planned { site: "hidden1".into(), count: 7 }];
        let growth = Grower::new(RandomOrthogonal {}).grow(&network, &SgdConfig::new().init(), &plan, |network, probe| {
            let output = network.forward_probed(input.clone(), probe);
            Pass { loss: output.clone().square().mean(), output }
        });
        let site = growth.unwrap().network.sites().remove(0);
        let rows = crate::matrix::from_tensor(site.outgoing(EntriesOf::Values).unwrap().narrow(0, 2, 7));
        let gram = &rows * rows.transpose();
        let cosine = |i: usize, j: usize| (gram[(i, j)] / (gram[(i, i)] * gram[(j, j)]).sqrt()).abs();
        assert!((0..5).all(|i| (0..i).all(|j| cosine(i, j) < 1e-6)), "{gram:?}");
        assert!(cosine(6, 5) < 1e-6 && (0..5).any(|j| cosine(5, j) > 1e-3), "{gram:?}");
    }
}
