//! Attention as one operation.

use burn::tensor::{Bool, Tensor, TensorData, activation};

/// What the heads of attention gather (Vaswani et al. 2017), if it is causal from no position that lies ahead: of `queries`
/// `[batch, time, heads * width]`, and `keys` and `values` `[batch, time, groups * width]`, `[batch, time, heads * width]`.
/// Each group of keys and values is read by `heads / groups` heads, one after another.
///
/// On the `flex` device, in single precision, this runs on the kernels of this crate; anywhere else it is composed of
/// Burn's own operations.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn attention(queries: Tensor<3>, keys: Tensor<3>, values: Tensor<3>, width: usize, causal: bool) -> Tensor<3> {
    let ([batch, time, features], [_, _, shared]) = (queries.dims(), keys.dims());
    let fits = keys.dims() == [batch, time, shared] && keys.dims() == values.dims() && width > 0;
    let even = fits && shared > 0 && features.is_multiple_of(shared) && shared.is_multiple_of(width);
    assert!(even, "queries {:?}, keys {:?}, values {:?}: heads of {width}", queries.dims(), keys.dims(), values.dims());
    #[cfg(feature = "flex")]
    if let Some(output) = flex::attention(&queries, &keys, &values, width, causal) {
        return output;
    }
    let split = |tensor: Tensor<3>| {
        let [_, _, features] = tensor.dims();
        tensor.reshape([batch, time, features / width, width]).swap_dims(1, 2)
    };
    let (groups, in_group) = (shared / width, features / shared);
    let repeated = |tensor: Tensor<3>| {
        let split = split(tensor).reshape([batch, groups, 1, time, width]);
        split.expand([batch, groups, in_group, time, width]).reshape([batch, groups * in_group, time, width])
    };
    let (queries, keys, values) = (split(queries), repeated(keys), repeated(values));
    let scores = queries.matmul(keys.swap_dims(2, 3)).div_scalar((width as f64).sqrt());
    let scores = match causal {
        true => {
            let ahead = (0..time * time).map(|at| at % time > at / time).collect::<Vec<_>>();
            let ahead = Tensor::<4, Bool>::from_data(TensorData::new(ahead, [1, 1, time, time]), &scores.device());
            scores.clone().mask_fill(ahead.expand(scores.dims()), f32::NEG_INFINITY)
        }
        false => scores,
    };
    let gathered = activation::softmax(scores, 3).matmul(values);
    gathered.swap_dims(1, 2).reshape([batch, time, features])
}

#[cfg(feature = "flex")]
mod flex {
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::elementwise::{dot, sum, vectorized};
    use crate::exponential::exp_of_negative;
    use crate::kernel::InstructionSet;
    use crate::operation::{Operand, Values, output, values};
    use crate::product::{After, Entries, Matrix, product};

    /// Rows of the pattern that are computed together: what lies ahead of all of them is left out.
    const ROWS: usize = 64;

    /// The shape of everything.
    #[derive(Debug, Clone, Copy)]
    struct Shape {
        batch: usize,
        time: usize,
        /// Of queries, and of keys and values.
        features: usize,
        shared: usize,
        /// Of a head.
        width: usize,
        causal: bool,
    }

    /// The features of one head or group of one sequence, a row for each position.
    #[derive(Clone, Copy)]
    struct Part<'a> {
        /// From the first position's first feature on.
        entries: &'a [f32],
        /// From one position to the next.
        stride: usize,
        width: usize,
    }

    impl<'a> Part<'a> {
        fn rows(&self, first: usize, count: usize) -> Entries<'a> {
            Matrix::with_strides([count, self.width], [self.stride, 1]).of(&self.entries[first * self.stride..])
        }

        fn columns(&self, count: usize) -> Entries<'a> {
            Matrix::with_strides([self.width, count], [1, self.stride]).of(self.entries)
        }
    }

    impl Shape {
        fn heads_of_group(&self) -> usize {
            self.features / self.shared
        }

        fn groups(&self) -> usize {
            self.shared / self.width
        }

        fn head<'a>(&self, all: &'a [f32], sequence: usize, head: usize) -> Part<'a> {
            let first = sequence * self.time * self.features + head * self.width;
            Part { entries: &all[first..], stride: self.features, width: self.width }
        }

        fn group<'a>(&self, all: &'a [f32], sequence: usize, group: usize) -> Part<'a> {
            let first = sequence * self.time * self.shared + group * self.width;
            Part { entries: &all[first..], stride: self.shared, width: self.width }
        }

        /// The first row of each block of rows, how many it has, and how many positions they look at.
        fn blocks(&self) -> impl Iterator<Item = [usize; 3]> {
            let Self { time, causal, .. } = *self;
            (0..time).step_by(ROWS).map(move |first| {
                let count = ROWS.min(time - first);
                [first, count, if causal { first + count } else { time }]
            })
        }

        /// What each sequence and each group of it give, in order.
        fn for_each_group<R: Send>(&self, work: impl Fn(usize, usize) -> R + Sync) -> Vec<R> {
            let groups = self.groups();
            (0..self.batch * groups).into_par_iter().map(|index| work(index / groups, index % groups)).collect()
        }
    }

    pub(super) fn attention(
        queries: &Tensor<3>,
        keys: &Tensor<3>,
        values_: &Tensor<3>,
        width: usize,
        causal: bool,
    ) -> Option<Tensor<3>> {
        let ([batch, time, features], [_, _, shared]) = (queries.dims(), keys.dims());
        if batch * time == 0 {
            return None;
        }
        let operands = [Operand::of(queries)?, Operand::of(keys)?, Operand::of(values_)?];
        let shape = Shape { batch, time, features, shared, width, causal };
        let is_tracked = operands.iter().any(Operand::is_tracked);
        let entries = operands.each_ref().map(Operand::values);
        let set = InstructionSet::best();
        let gathered = shape.for_each_group(|sequence, group| {
            let [queries, keys, values] = entries.each_ref().map(Values::get);
            let [keys, values] = [keys, values].map(|all| shape.group(all, sequence, group));
            let heads = (0..shape.heads_of_group()).map(|head| {
                let head = group * shape.heads_of_group() + head;
                forward(set, shape, [shape.head(queries, sequence, head), keys, values], is_tracked)
            });
            heads.collect::<Vec<_>>()
        });
        let (gathered, patterns): (Vec<_>, Vec<_>) = gathered.into_iter().flatten().unzip();
        let result = joined(shape, shape.features, &gathered);
        let result = values(result, [batch, time, features]);
        Some(output(operands, result, move |gradient: Values, _| {
            let of_groups = shape.for_each_group(|sequence, group| {
                let [queries, keys, values] = entries.each_ref().map(Values::get);
                let [keys, values] = [keys, values].map(|all| shape.group(all, sequence, group));
                let mut shared = [vec![0.0; time * width], vec![0.0; time * width]];
                let heads = (0..shape.heads_of_group()).map(|head| {
                    let head = group * shape.heads_of_group() + head;
                    let gradient = shape.head(gradient.get(), sequence, head);
                    let parts = [shape.head(queries, sequence, head), keys, values];
                    let pattern = &patterns[sequence * (shape.features / width) + head];
                    backward(set, shape, parts, pattern, gradient, &mut shared)
                });
                (heads.collect::<Vec<_>>(), shared)
            });
            let (of_heads, of_shared): (Vec<_>, Vec<_>) = of_groups.into_iter().unzip();
            let of_heads = of_heads.into_iter().flatten().collect::<Vec<_>>();
            let (of_keys, of_values): (Vec<_>, Vec<_>) =
                of_shared.into_iter().map(|[keys, values]| (keys, values)).unzip();
            [
                Some(values(joined(shape, features, &of_heads), [batch, time, features])),
                Some(values(joined(shape, shared, &of_keys), [batch, time, shared])),
                Some(values(joined(shape, shared, &of_values), [batch, time, shared])),
            ]
        }))
    }

    /// What a head gathers, `[time, width]`, and its pattern if that is to be kept: of each block of rows, as far as it
    /// looks.
    fn forward(
        set: &InstructionSet,
        shape: Shape,
        [queries, keys, values]: [Part<'_>; 3],
        keep: bool,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let scale = (shape.width as f32).sqrt().recip();
        let (mut gathered, mut patterns) = (Vec::with_capacity(shape.time * shape.width), Vec::new());
        for [first, count, seen] in shape.blocks() {
            let mut pattern = product(set, queries.rows(first, count), keys.columns(seen), After::default());
            // The first row of causal attention looks at itself, the next ones each at one position more.
            weigh(&mut pattern, if shape.causal { first + 1 } else { seen }, seen, scale);
            let of_block = Matrix::new([count, seen]).of(&pattern);
            gathered.extend(product(set, of_block, values.rows(0, seen), After::default()));
            if keep {
                patterns.push(pattern);
            }
        }
        (gathered, patterns)
    }

    /// The gradient of a head's queries; those of keys and values, `[time, width]`, are added.
    fn backward(
        set: &InstructionSet,
        shape: Shape,
        [queries, keys, values]: [Part<'_>; 3],
        patterns: &[Vec<f32>],
        gradient: Part<'_>,
        [of_keys, of_values]: &mut [Vec<f32>; 2],
    ) -> Vec<f32> {
        let scale = (shape.width as f32).sqrt().recip();
        let mut of_queries = Vec::with_capacity(shape.time * shape.width);
        for ([first, count, seen], pattern) in shape.blocks().zip(patterns) {
            let gradient = gradient.rows(first, count);
            let block = Matrix::new([count, seen]);
            add(of_values, &product(set, block.transposed().of(pattern), gradient, After::default()));
            let mut of_scores = product(set, gradient, values.columns(seen), After::default());
            weigh_back(&mut of_scores, pattern, seen, scale);
            of_queries.extend(product(set, block.of(&of_scores), keys.rows(0, seen), After::default()));
            let queries = queries.rows(first, count);
            add(of_keys, &product(set, block.transposed().of(&of_scores), queries, After::default()));
        }
        of_queries
    }

    /// The features of all heads or groups, `[batch, time, features]`, from those of each sequence's, `[time, width]`.
    fn joined(shape: Shape, features: usize, parts: &[Vec<f32>]) -> Vec<f32> {
        let (width, time) = (shape.width, shape.time);
        let mut all = vec![0.0; shape.batch * time * features];
        all.par_chunks_exact_mut(time * features).zip(parts.par_chunks_exact(features / width)).for_each(
            |(to, parts)| {
                for (head, part) in parts.iter().enumerate() {
                    let rows = to.chunks_exact_mut(features).zip(part.chunks_exact(width));
                    rows.for_each(|(to, row)| to[head * width..(head + 1) * width].copy_from_slice(row));
                }
            },
        );
        all
    }

    fn add(sum: &mut [f32], more: &[f32]) {
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }

    vectorized! {
        /// Scores to the weights of rows, the first of which looks at so many positions, and each at one more than the one
        /// before, as far as there are any.
        fn weigh(scores: &mut [f32], first: usize, seen: usize, scale: f32) {
            for (index, row) in scores.chunks_exact_mut(seen).enumerate() {
                let (row, ahead) = row.split_at_mut((first + index).min(seen));
                ahead.fill(0.0);
                let largest = largest(row);
                row.iter_mut().for_each(|score| *score = exp_of_negative((largest - *score) * scale));
                let share = 1.0 / sum(row);
                row.iter_mut().for_each(|weight| *weight *= share);
            }
        }
    }

    vectorized! {
        /// From the gradient of weights to that of scores.
        fn weigh_back(gradient: &mut [f32], weights: &[f32], seen: usize, scale: f32) {
            for (row, weights) in gradient.chunks_exact_mut(seen).zip(weights.chunks_exact(seen)) {
                let mean = dot(row, weights);
                row.iter_mut().zip(weights).for_each(|(entry, weight)| *entry = scale * weight * (*entry - mean));
            }
        }
    }

    #[inline(always)]
    fn largest(entries: &[f32]) -> f32 {
        let mut most = [f32::NEG_INFINITY; 8];
        let (eights, rest) = entries.as_chunks::<8>();
        for eight in eights {
            for lane in 0..8 {
                most[lane] = if eight[lane] > most[lane] { eight[lane] } else { most[lane] };
            }
        }
        most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
