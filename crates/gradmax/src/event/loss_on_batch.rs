//! The loss on the growth batch as a function of new neurons, by passes through the widened network.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::error::Error;
use crate::event::pass::Part;
use crate::matrix::{Matrix, from_tensor, values};
use crate::operator::work::Work;
use crate::site::declaration::Site;
use crate::site::growable::Growable;
use crate::site::layer::EntriesOf;
use crate::sums::SharedSums;
use crate::surgery::addition::{addition, changes};
use crate::surgery::new_neurons::{Changes, NewNeurons};
use crate::surgery::widen::{shift, widen};

use crate::methods::growth_loss::{LossAt, NetworkLoss};

/// A network and the growth batch.
pub(crate) struct OnGrowthBatch<'a, 'p, N: Growable> {
    /// The network; copies of it are widened, which share no running statistics with it.
    pub(crate) network: &'a N,
    pub(crate) parts: &'a [Part<'p, N>],
    pub(crate) sums: &'a SharedSums,
    pub(crate) work: &'a Work,
}

impl<N: Growable> NetworkLoss for OnGrowthBatch<'_, '_, N> {
    fn at(&self, site: &Site, block: usize, neurons: &NewNeurons) -> Result<LossAt, Error> {
        let (width, count) = (site.width() / site.blocks(), neurons.count());
        let silent = NewNeurons::zeros(count, site.fan_in(), site.fan_out());
        let blocks = (0..site.blocks()).map(|other| if other == block { neurons } else { &silent });
        let blocks = blocks.collect::<Vec<_>>();
        let extensions = addition(site, &blocks).all().cloned().collect::<Vec<_>>();
        let grown = widen(shift(self.network.valid().train(), &changes(site, &blocks)), &extensions)?;

        let site = grown.sites().into_iter().find(|grown| grown.name == site.name);
        let site = site.expect("growth keeps the names of sites");
        // All blocks grow, this one by the neurons in question, so that groups stay even.
        let first = block * (width + count);
        let mut at = LossAt {
            loss: 0.0,
            incoming: Matrix::zeros(count, site.fan_in()),
            outgoing: Matrix::zeros(site.fan_out(), count),
            existing: Changes::none(width, site.fan_in(), site.fan_out()),
        };
        for part in self.parts {
            let pass = part.run(&grown, &mut ())?;
            self.work.pass(part.weight);
            let gradients = GradientsParams::from_grads(pass.loss.backward(), &grown);
            at.loss += part.weight * pass.loss.into_scalar::<f64>();
            let rows = |all: Tensor<2>| from_tensor(all.narrow(0, first, width + count).mul_scalar(part.weight));
            if let Some(incoming) = site.incoming(EntriesOf::Gradients(&gradients)).map(rows) {
                at.existing.incoming += incoming.subrows(0, width);
                at.incoming += incoming.subrows(width, count);
            }
            if let Some(outgoing) = site.outgoing(EntriesOf::Gradients(&gradients)).map(rows) {
                at.existing.outgoing += outgoing.subrows(0, width).transpose();
                at.outgoing += outgoing.subrows(width, count).transpose();
            }
            if let Some(bias) = site.bias().and_then(|bias| gradients.get::<1>(bias.id)) {
                let bias = values(&bias.narrow(0, first, width).into_data());
                at.existing.bias.iter_mut().zip(bias).for_each(|(total, entry)| *total += part.weight * entry);
            }
        }
        Ok(shared(at, self.sums))
    }
}

/// The sums over all machines.
fn shared(mut at: LossAt, sums: &SharedSums) -> LossAt {
    at.loss = sums.number(at.loss);
    let existing = &mut at.existing;
    for matrix in [&mut at.incoming, &mut at.outgoing, &mut existing.incoming, &mut existing.outgoing] {
        sums.matrix(matrix);
    }
    sums.sum(&mut existing.bias);
    at
}
