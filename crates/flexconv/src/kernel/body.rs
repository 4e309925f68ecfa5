//! The loops themselves, whatever the instruction set.

use super::lanes::Lanes;
use super::{Correlate, Gradient, Product};

/// `M` output channels at `V` vectors of positions.
///
/// # Safety
/// All entries that the task's offsets and strides lead to are inside its buffers; the processor has the instruction
/// set; `vectors` and `output_vectors` have at least `V` entries.
#[inline(always)]
pub(super) unsafe fn correlate<L: Lanes, const M: usize, const V: usize>(task: &Correlate<'_>) {
    debug_assert!(task.vectors.len() >= V && task.output_vectors.len() >= V);
    // SAFETY: everything below stays inside the task's buffers, by the caller's promise.
    unsafe {
        let mut sums = [[L::zero(); V]; M];
        let mut inputs: [*const f32; V] = std::array::from_fn(|v| task.input.add(*task.vectors.get_unchecked(v)));
        let mut weights = task.weights;
        for _ in 0..task.channels {
            for tap in task.taps {
                let read: [L; V] = std::array::from_fn(|v| L::load(inputs[v].add(*tap)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let weight = L::splat(*weights.add(m));
                    for v in 0..V {
                        sums[v] = sums[v].plus_product(read[v], weight);
                    }
                }
                weights = weights.add(M);
            }
            inputs = inputs.map(|input| input.wrapping_add(task.channel_stride));
        }
        for (m, sums) in sums.iter().enumerate() {
            let channel = task.output.add(m * task.output_stride);
            for (v, sum) in sums.iter().enumerate() {
                let to = channel.add(*task.output_vectors.get_unchecked(v));
                match task.accumulate {
                    true => L::load(to).plus(*sum).store(to),
                    false => sum.store(to),
                }
            }
        }
    }
}

/// `M` rows at `V` vectors of columns.
///
/// # Safety
/// All entries that the task's strides lead to are inside its buffers; the processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn product<L: Lanes, const M: usize, const V: usize>(task: &Product) {
    // SAFETY: everything below stays inside the task's buffers, by the caller's promise.
    unsafe {
        let [down, along] = task.left_strides;
        let mut sums = [[L::zero(); V]; M];
        let mut left = task.left;
        let mut right = task.right;
        for _ in 0..task.depth {
            let read: [L; V] = std::array::from_fn(|v| L::load(right.add(v * L::COUNT)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let factor = L::splat(*left.add(m * down));
                for v in 0..V {
                    sums[v] = sums[v].plus_product(read[v], factor);
                }
            }
            left = left.wrapping_add(along);
            right = right.wrapping_add(task.right_stride);
        }
        if task.last == L::COUNT && !task.accumulate && task.plus.is_null() {
            for (m, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    sum.store(task.output.add(m * task.output_stride + v * L::COUNT));
                }
            }
            return;
        }
        for (m, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let to = task.output.add(m * task.output_stride + v * L::COUNT);
                let count = if v + 1 == V { task.last } else { L::COUNT };
                let mut sum = *sum;
                if task.accumulate {
                    sum = L::load_first(to, count).plus(sum);
                }
                if !task.plus.is_null() {
                    sum = sum.plus(L::load(task.plus.add(v * L::COUNT)));
                }
                sum.store_first(to, count);
            }
        }
    }
}

/// `M` output channels by `S` streams.
///
/// # Safety
/// All entries that the task's offsets and strides lead to are inside its buffers; the processor has the instruction
/// set; `streams` has at least `S` entries.
#[inline(always)]
pub(super) unsafe fn gradient<L: Lanes, const M: usize, const S: usize>(task: &Gradient<'_>) {
    debug_assert!(task.streams.len() >= S);
    // SAFETY: everything below stays inside the task's buffers, by the caller's promise.
    unsafe {
        let mut sums = [[L::zero(); S]; M];
        let streams: [*const f32; S] = std::array::from_fn(|s| task.input.add(*task.streams.get_unchecked(s)));
        let mut gradients = task.gradient;
        for vector in task.vectors {
            let read: [L; S] = std::array::from_fn(|s| L::load(streams[s].add(*vector)));
            for (m, sums) in sums.iter_mut().enumerate() {
                let gradient = L::load(gradients.add(m * L::COUNT));
                for s in 0..S {
                    sums[s] = sums[s].plus_product(read[s], gradient);
                }
            }
            gradients = gradients.add(M * L::COUNT);
        }
        for (m, sums) in sums.iter().enumerate() {
            for (s, sum) in sums.iter().enumerate() {
                *task.sums.add(m * task.sums_stride + s) += sum.sum();
            }
        }
    }
}

/// Sums that are computed side by side, so that no instruction waits for another.
pub(super) const CHAINS: usize = 12;

/// Multiply-adds without memory: what the processor can do at most.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
pub(super) unsafe fn chain<L: Lanes>(rounds: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, summand) = (L::splat(std::hint::black_box(0.999)), L::splat(std::hint::black_box(1e-3)));
        let mut sums = [L::zero(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = summand.plus_product(*sum, factor);
            }
        }
        sums.iter().fold(L::zero(), |total, sum| total.plus(*sum)).sum()
    }
}
