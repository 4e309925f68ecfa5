//! What new neurons would gain that existing ones cannot, told on examples that they were not chosen by.

use burn::tensor::Device;
use flexconv::{computes_on_threads, map_side_by_side};

use crate::error::Error;
use crate::event::choose::PlannedSite;
use crate::event::grower::Grower;
use crate::event::look::Taken;
use crate::event::pass::Part;
use crate::matrix::{Matrix, row_norms};
use crate::methods::gradmax::{GradMax, Sign};
use crate::methods::placement::SidePolicy;
use crate::operator::branch::{Branch, gradients_of};
use crate::operator::seen::{Seen, Source};
use crate::site::growable::{Growable, device_of};
use crate::surgery::existing::Existing;
use crate::surgery::new_neurons::NewNeurons;

/// How far new neurons are moved, as a share of the norm of their weights: far enough for single precision, and so near
/// that an activation is still as at zero.
const STEP: f64 = 1e-3;

/// Steps of conjugate gradients by which what existing neurons can explain is taken off: exact where a dense layer reads
/// them; where a convolution does, what the first direction explains.
const LEAST_SQUARES_STEPS: usize = 1;

/// By how much the loss falls per unit of the learning rate with the first step of each of the planned neurons: for every
/// site, one number for each neuron of a block, the best first.
///
/// What changes of the existing neurons' outgoing weights can explain of the loss's gradient is taken off before, in each
/// half of the look: training will see to that by itself, and much of it is no more than an oscillation of training
/// along directions of large curvature. The neurons are those of GradMax, with the sign that gains more; they are chosen
/// by one half and judged by the other, moved as the optimizer would by their gradient in the first. So noise gains nothing
/// on average.
pub(crate) fn gains<N: Growable>(
    grower: &Grower,
    parts: &[Part<'_, N>],
    taken: &Taken<N>,
    planned: Vec<PlannedSite>,
) -> Result<Vec<Vec<f64>>, Error> {
    let [first, second, ..] = &taken.looked.sections[..] else {
        return Err(Error::Examples("gains are told by two halves of the growth batch".into()));
    };
    let device = device_of(&taken.looking);
    let replays = [first, second].map(|half| half.replay(&taken.looking, parts));
    let seen = [first.seen(&replays[0]), second.seen(&replays[1])];
    let (sums, work) = (seen[0].sums, seen[0].work);
    match seen.map(|half| half.source) {
        [Source::Kept(first), Source::Kept(second)] if computes_on_threads(&device) && sums.is_alone() => {
            let at = |planned| {
                let halves = [first, second].map(|evidence| Seen { source: Source::Kept(evidence), sums, work });
                gains_at(grower, &device, planned, halves)
            };
            map_side_by_side(planned, at).into_iter().collect()
        }
        // Several machines meet in the order of the sites.
        _ => planned.into_iter().map(|planned| gains_at(grower, &device, planned, seen)).collect(),
    }
}

/// What neurons gain at one site, by what was seen on the two halves.
fn gains_at<'a>(
    grower: &Grower,
    device: &Device,
    (site, count): PlannedSite,
    halves: [Seen<'a>; 2],
) -> Result<Vec<f64>, Error> {
    let method = GradMax { sign: Sign::OneSided, ..GradMax::default() };
    // What could be gained here does not depend on the method that will grow the site, nor on what it draws.
    let mut choosing = grower.choosing_by(&method, 0);
    if site.slopes_at_zero(device).is_err() {
        // Methods that leave no side zero grow sites whose neurons are not zero at zero, too.
        choosing.placement.zero_side = SidePolicy::Outgoing;
    }
    let zero_side = choosing.zero_side(&site);
    // What the existing neurons are, each with its companions, and what new ones would be.
    let own = site.seen_by_units(0..site.width() / site.unit());
    let site = choosing.with_companions(site, count, halves[0])?;
    let mut gains = vec![0.0; count / site.blocks()];
    for block in 0..site.blocks() {
        let existing = Existing::of(&site, block);
        let beyond = |seen: Seen<'a>| match existing.count() {
            0 => Branch::new(&site, block, seen),
            _ => {
                let branch = Branch::new(&own, block, seen)?;
                let left = branch.beyond_by(&existing.as_neurons(), LEAST_SQUARES_STEPS)?;
                Ok(if site.companions.is_some() { left.seen_alike(&site) } else { left })
            }
        };
        let (first, second) = (beyond(halves[0])?, beyond(halves[1])?);
        let operator = first.operator(zero_side)?;
        let neurons = choosing.neurons_of_block((&site, count, block), (&first, Some(&operator), None))?;
        let steps = grower.first_step.of(gradients_of(&[(&first, &neurons)])?.remove(0).neurons);
        let of_block = gains_on(&second, &neurons, &steps)?;
        gains.iter_mut().zip(of_block).for_each(|(gain, of_block)| *gain += of_block);
    }
    // By the other half, the order can be another.
    gains.sort_by(|a, b| b.total_cmp(a));
    Ok(gains)
}

/// What each neuron gains on a branch by going back these steps, per unit of the learning rate.
fn gains_on(branch: &Branch<'_>, neurons: &NewNeurons, steps: &NewNeurons) -> Result<Vec<f64>, Error> {
    let norms = |of: &NewNeurons| {
        let sides = row_norms(of.incoming.as_ref()).into_iter().zip(row_norms(of.outgoing.transpose()));
        sides.map(|(incoming, outgoing)| incoming.hypot(outgoing)).collect::<Vec<_>>()
    };
    let length = |(neuron, step): (f64, f64)| if step > 0.0 { STEP * neuron / step } else { 0.0 };
    let lengths = norms(neurons).into_iter().zip(norms(steps)).map(length).collect::<Vec<_>>();
    let (incoming, outgoing) = (&neurons.incoming, &neurons.outgoing);
    let moved = NewNeurons {
        incoming: Matrix::from_fn(incoming.nrows(), incoming.ncols(), |i, j| {
            incoming[(i, j)] - lengths[i] * steps.incoming[(i, j)]
        }),
        outgoing: Matrix::from_fn(outgoing.nrows(), outgoing.ncols(), |i, j| {
            outgoing[(i, j)] - lengths[j] * steps.outgoing[(i, j)]
        }),
        incoming_gradient: None,
        ..neurons.clone()
    };
    // One side was zero, so that the loss was as without the neurons; the form is linear in the outgoing weights.
    let towards = branch.outgoing_gradients(&moved)?;
    let fallen = |neuron: usize| -(towards.col(neuron).transpose() * moved.outgoing.col(neuron));
    let gain = |neuron: usize| if lengths[neuron] > 0.0 { fallen(neuron) / lengths[neuron] } else { 0.0 };
    Ok((0..neurons.count()).map(gain).collect())
}
