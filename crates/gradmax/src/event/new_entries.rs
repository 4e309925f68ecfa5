//! The gradients that new weights receive in the grown network, beside those that were predicted.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::event::chosen::Grown;
use crate::matrix::norm;
use crate::site::growable::Growable;
use crate::site::side::Side;
use crate::sums::SharedSums;
use crate::surgery::index_map::IndexMaps;

/// The gradients of new weights, summed over the parts of the growth batch.
pub(super) struct NewEntries<'a> {
    of_parameter: BTreeMap<ParamId, Vec<NewRange>>,
    maps: &'a IndexMaps<'a>,
}

/// New entries of one parameter, and their gradients.
struct NewRange {
    /// The extension's, among all of the event.
    number: usize,
    site: usize,
    side: Side,
    axis: usize,
    /// Where they lie in the grown parameter.
    range: Range<usize>,
    /// The predicted gradient, in the shape that entries have before other axes grow.
    prediction: TensorData,
    /// The measured gradient, flat, and the predicted one in the same form.
    sum: Option<Tensor<1>>,
    predicted: Option<Tensor<1>>,
}

/// Gradient norms of new weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewGradientNorms {
    pub(crate) incoming: f64,
    pub(crate) outgoing: f64,
}

/// Norms of the gradients of a site's new weights, and of their difference.
pub(super) struct Compared {
    pub(super) predicted: f64,
    pub(super) measured: f64,
    pub(super) difference: f64,
}

impl<'a> NewEntries<'a> {
    pub(super) fn of(what: &'a Grown<'_>) -> Self {
        let mut of_parameter = BTreeMap::<_, Vec<_>>::new();
        let mut first = 0;
        for (site, (addition, chosen)) in what.additions.iter().zip(what.chosen).enumerate() {
            let gradients = chosen.gradient_addition();
            let sides = [
                (Side::Incoming, &addition.incoming, &gradients.incoming),
                (Side::Outgoing, &addition.outgoing, &gradients.outgoing),
            ];
            let mut number = first;
            for (side, extensions, gradients) in sides {
                for (extension, gradient) in extensions.iter().zip(gradients) {
                    let new = NewRange {
                        number,
                        site,
                        side,
                        axis: extension.axis,
                        range: what.maps.range(number),
                        prediction: gradient.values.clone(),
                        sum: None,
                        predicted: None,
                    };
                    of_parameter.entry(extension.parameter).or_default().push(new);
                    number += 1;
                }
            }
            first += addition.all().count();
        }
        Self { of_parameter, maps: what.maps }
    }

    pub(super) fn add<N: Growable>(&mut self, grown: &N, gradients: GradientsParams, weight: f64) {
        // By a visitor, since only that knows the rank of each parameter.
        grown.visit(&mut NewEntriesVisitor { entries: self, gradients, weight });
    }

    /// The sums over all machines.
    pub(super) fn share(&mut self, sums: &SharedSums) {
        // Parameters have other ids on other machines, and so another order.
        let mut all = self.of_parameter.values_mut().flatten().collect::<Vec<_>>();
        all.sort_by_key(|new| new.number);
        all.into_iter().for_each(|new| new.sum = new.sum.take().map(|sum| sums.tensor(sum)));
    }

    fn of_site(&self, site: usize) -> impl Iterator<Item = &NewRange> {
        self.of_parameter.values().flatten().filter(move |new| new.site == site)
    }

    pub(super) fn norms(&self, site: usize) -> NewGradientNorms {
        let of = |side: Side| {
            let ranges = self.of_site(site).filter(|new| new.side == side);
            ranges.filter_map(|new| new.sum.clone()).map(|sum| norm(sum).powi(2)).sum::<f64>().sqrt()
        };
        NewGradientNorms { incoming: of(Side::Incoming), outgoing: of(Side::Outgoing) }
    }

    pub(super) fn compared(&self, site: usize) -> Compared {
        let (mut predicted, mut measured, mut difference) = (0.0, 0.0, 0.0);
        for new in self.of_site(site) {
            // A frozen parameter has no gradient.
            if let (Some(sum), Some(prediction)) = (&new.sum, &new.predicted) {
                predicted += norm(prediction.clone()).powi(2);
                measured += norm(sum.clone()).powi(2);
                difference += norm(sum.clone() - prediction.clone()).powi(2);
            }
        }
        Compared { predicted: predicted.sqrt(), measured: measured.sqrt(), difference: difference.sqrt() }
    }
}

struct NewEntriesVisitor<'e, 'a> {
    entries: &'e mut NewEntries<'a>,
    gradients: GradientsParams,
    weight: f64,
}

impl ModuleVisitor for NewEntriesVisitor<'_, '_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (Some(ranges), Some(map)) = (self.entries.of_parameter.get_mut(&param.id), self.entries.maps.get(param.id))
        else {
            return;
        };
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return;
        };
        let flat = |tensor: Tensor<D>| {
            let count = tensor.dims().iter().product::<usize>();
            tensor.reshape([count])
        };
        for new in ranges {
            let others = map.axes().into_iter().filter(|axis| *axis != new.axis).collect::<Vec<_>>();
            let mut entries = gradient.clone().narrow(new.axis, new.range.start, new.range.len());
            // Where they meet new entries along other axes, they are of neither.
            for (axis, range) in others.iter().flat_map(|axis| map.new_ranges(*axis).map(|range| (*axis, range))) {
                let mut met = entries.dims().map(|length| 0..length);
                met[axis] = range;
                let zeros = entries.clone().slice(met.clone()).zeros_like();
                entries = entries.slice_assign(met, zeros);
            }
            let place = (&entries.device(), entries.dtype());
            let prediction = || {
                let prediction = Tensor::<D>::from_data(new.prediction.clone(), place);
                flat(others.iter().fold(prediction, |prediction, axis| map.spread(prediction, *axis)))
            };
            new.predicted = Some(new.predicted.take().unwrap_or_else(prediction));
            // Summed on the device: a part's gradients are read back once, when all parts have been summed.
            let weighted = flat(entries).mul_scalar(self.weight);
            new.sum = Some(match new.sum.take() {
                Some(sum) => sum + weighted,
                None => weighted,
            });
        }
    }
}
