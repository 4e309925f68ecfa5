//! Where the entries of a parameter lie after growth: one map from old to new for each parameter and axis, which the
//! module, its gradients, the optimizer's state and the verification all read.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::ParamId;
use burn::tensor::Tensor;

use crate::site::extension::Extension;

/// The index maps of every parameter that a list of extensions is for.
pub(crate) struct IndexMaps<'a> {
    of_parameter: BTreeMap<ParamId, ParameterMap<'a>>,
    /// For each extension of the list, where its entries lie along its axis after growth.
    ranges: Vec<Range<usize>>,
}

/// The extensions of one parameter, in the order of the list, and where their entries lie.
pub(crate) struct ParameterMap<'a> {
    pub(crate) extensions: Vec<&'a Extension>,
    /// For each of them, where its entries lie along its axis after growth.
    pub(crate) ranges: Vec<Range<usize>>,
}

/// A run of entries of an axis after growth.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Segment {
    /// Old entries.
    Old(Range<usize>),
    /// The entries of an extension, by its number among the parameter's.
    New(usize),
}

impl<'a> IndexMaps<'a> {
    pub(crate) fn of(extensions: &'a [Extension]) -> Self {
        let mut numbers = BTreeMap::<ParamId, Vec<usize>>::new();
        for (number, extension) in extensions.iter().enumerate() {
            numbers.entry(extension.parameter).or_default().push(number);
        }
        let mut ranges = vec![0..0; extensions.len()];
        let mut of_parameter = BTreeMap::new();
        for (parameter, numbers) in numbers {
            let map = ParameterMap::of(numbers.iter().map(|number| &extensions[*number]).collect());
            numbers.iter().zip(&map.ranges).for_each(|(number, range)| ranges[*number] = range.clone());
            of_parameter.insert(parameter, map);
        }
        Self { of_parameter, ranges }
    }

    pub(crate) fn get(&self, parameter: ParamId) -> Option<&ParameterMap<'a>> {
        self.of_parameter.get(&parameter)
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = (ParamId, &ParameterMap<'a>)> {
        self.of_parameter.iter().map(|(parameter, map)| (*parameter, map))
    }

    /// Where the entries of the extension with this number in the list lie along its axis after growth.
    pub(crate) fn range(&self, number: usize) -> Range<usize> {
        self.ranges[number].clone()
    }
}

impl<'a> ParameterMap<'a> {
    fn of(extensions: Vec<&'a Extension>) -> Self {
        let range = |(number, extension): (usize, &&Extension)| {
            // Entries of extensions at one place follow each other in the order of the list.
            let earlier = |(other, at): (usize, &&Extension)| {
                let before = at.at < extension.at || (at.at == extension.at && other < number);
                if at.axis == extension.axis && before { at.added() } else { 0 }
            };
            let start = extension.at + extensions.iter().enumerate().map(earlier).sum::<usize>();
            start..start + extension.added()
        };
        let ranges = extensions.iter().enumerate().map(range).collect();
        Self { extensions, ranges }
    }

    /// The parameter's shape before growth.
    pub(crate) fn old_shape(&self) -> Vec<usize> {
        self.extensions[0].old_shape()
    }

    /// The axes that grow.
    pub(crate) fn axes(&self) -> Vec<usize> {
        let mut axes = self.extensions.iter().map(|extension| extension.axis).collect::<Vec<_>>();
        axes.sort_unstable();
        axes.dedup();
        axes
    }

    /// Where the old entry of an axis lies after growth.
    pub(crate) fn place_of(&self, axis: usize, old: usize) -> usize {
        let along = self.extensions.iter().filter(|extension| extension.axis == axis);
        // New entries go before the old one that they are stated at.
        old + along.filter(|extension| extension.at <= old).map(|extension| extension.added()).sum::<usize>()
    }

    /// Where the new entries of an axis lie after growth.
    pub(crate) fn new_ranges(&self, axis: usize) -> impl Iterator<Item = Range<usize>> {
        let along = self.extensions.iter().zip(&self.ranges).filter(move |(extension, _)| extension.axis == axis);
        along.map(|(_, range)| range.clone())
    }

    /// What an axis consists of after growth, in order.
    pub(crate) fn segments(&self, axis: usize) -> Vec<Segment> {
        let mut new =
            (0..self.extensions.len()).filter(|number| self.extensions[*number].axis == axis).collect::<Vec<_>>();
        new.sort_by_key(|number| self.ranges[*number].start);
        let Some(length) = new.first().map(|first| self.extensions[*first].length) else {
            return Vec::new();
        };
        let (mut segments, mut old) = (Vec::new(), 0);
        for number in new {
            let at = self.extensions[number].at;
            if at > old {
                segments.push(Segment::Old(old..at));
                old = at;
            }
            segments.push(Segment::New(number));
        }
        if length > old {
            segments.push(Segment::Old(old..length));
        }
        segments
    }

    /// The tensor with all extensions inserted. Where new entries of two axes meet, there are zeros, or what the
    /// entries that are copied have there.
    pub(crate) fn extended<const D: usize>(&self, old: Tensor<D>) -> Tensor<D> {
        let (device, dtype) = (old.device(), old.dtype());
        let axes = self.axes();
        let mut tensor = old;
        for (index, axis) in axes.iter().enumerate() {
            // Values are stated against the old shape, and along earlier axes the tensor has grown by now.
            let values = |number: usize| {
                let values = Tensor::<D>::from_data(self.extensions[number].values.clone(), (&device, dtype));
                axes[..index].iter().fold(values, |values, grown| self.spread(values, *grown))
            };
            tensor = self.joined(tensor, *axis, values);
        }
        let copying = |extension: &Extension| extension.copies.iter().any(Option::is_some);
        if !self.extensions.iter().any(|extension| copying(extension)) {
            return tensor;
        }
        // Copies come when everything else is there, so that they take over all that is new in what they are copies of.
        for axis in axes {
            for (number, extension) in self.extensions.iter().enumerate().filter(|(_, extension)| copying(extension)) {
                if extension.axis == axis {
                    tensor = self.with_copies(tensor, number);
                }
            }
        }
        tensor
    }

    /// The tensor with zeros in place of an axis's new entries.
    pub(crate) fn spread<const D: usize>(&self, tensor: Tensor<D>, axis: usize) -> Tensor<D> {
        let (device, dtype, dims) = (tensor.device(), tensor.dtype(), tensor.dims());
        self.joined(tensor, axis, |number| {
            let mut dims = dims;
            dims[axis] = self.extensions[number].added();
            Tensor::zeros(dims, (&device, dtype))
        })
    }

    /// The tensor with the values of each extension of an axis in their places.
    fn joined<const D: usize>(&self, tensor: Tensor<D>, axis: usize, values: impl Fn(usize) -> Tensor<D>) -> Tensor<D> {
        let parts = self.segments(axis).into_iter().map(|segment| match segment {
            Segment::Old(range) => tensor.clone().narrow(axis, range.start, range.len()),
            Segment::New(number) => values(number),
        });
        let parts = parts.collect::<Vec<_>>();
        let length = parts.iter().map(|part| part.dims()[axis]).sum();
        if parts.iter().any(|part| part.dims().contains(&0)) {
            // A layer without neurons, whose other axis grows: there are no entries to join.
            let mut dims = parts[0].dims();
            dims[axis] = length;
            return Tensor::zeros(dims, (&tensor.device(), tensor.dtype()));
        }
        match parts.len() {
            1 => parts.into_iter().next().expect("there is one part"),
            _ => Tensor::cat(parts, axis),
        }
    }

    /// The grown tensor with what an extension copies added to the extension's values.
    fn with_copies<const D: usize>(&self, tensor: Tensor<D>, number: usize) -> Tensor<D> {
        let (extension, range) = (self.extensions[number], &self.ranges[number]);
        let axis = extension.axis;
        let entry = |(index, parent): (usize, &Option<usize>)| {
            let own = tensor.clone().narrow(axis, range.start + index, 1);
            match parent {
                Some(parent) => own + tensor.clone().narrow(axis, self.place_of(axis, *parent), 1),
                None => own,
            }
        };
        let entries = Tensor::cat(extension.copies.iter().enumerate().map(entry).collect(), axis);
        let mut ranges = tensor.dims().map(|length| 0..length);
        ranges[axis] = range.clone();
        tensor.slice_assign(ranges, entries)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn extension(parameter: ParamId, axis: usize, at: usize, added: usize) -> Extension {
        let mut shape = [2, 4];
        shape[axis] = added;
        let values = TensorData::new(vec![0.0_f32; shape[0] * shape[1]], shape);
        Extension { parameter, axis, length: [2, 4][axis], at, values, copies: Vec::new() }
    }

    #[test]
    fn old_and_new_entries_share_an_axis_without_gaps_or_overlaps() {
        let (first, second) = (ParamId::new(), ParamId::new());
        let list = [
            extension(first, 1, 4, 2),
            extension(second, 1, 1, 5),
            extension(first, 1, 2, 1),
            extension(first, 0, 2, 3),
            extension(first, 1, 2, 2),
        ];
        let maps = IndexMaps::of(&list);
        assert_eq!([0, 2, 3, 4].map(|number| maps.range(number)), [7..9, 2..3, 2..5, 3..5]);
        assert_eq!(maps.range(1), 1..6);
        let map = maps.get(first).unwrap();
        assert_eq!(map.axes(), [0, 1]);
        assert_eq!([0, 1, 2, 3].map(|old| map.place_of(1, old)), [0, 1, 5, 6]);
        assert_eq!([0, 1].map(|old| map.place_of(0, old)), [0, 1]);
        use Segment::{New, Old};
        assert_eq!(map.segments(1), [Old(0..2), New(1), New(3), Old(2..4), New(0)]);
        assert_eq!(map.segments(0), [Old(0..2), New(2)]);
    }
}
