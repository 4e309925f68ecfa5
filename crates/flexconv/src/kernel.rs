//! The innermost loops, for every instruction set, and the choice among them.

mod body;
mod lanes;

use std::sync::LazyLock;

/// Channels of the output that one call of a kernel computes, at most.
pub(crate) const MAX_CHANNELS: usize = 6;
/// Vectors of positions that one call of a kernel computes, at most.
pub(crate) const MAX_VECTORS: usize = 8;
/// Vectors that a kernel for so many channels computes at once: sums, what is read and one factor fit in sixteen
/// registers, with one to spare, without which compilers spill sums.
pub(crate) const fn vectors_for(channels: usize) -> usize {
    match channels {
        1 => 8,
        2 => 4,
        3 => 3,
        _ => 2,
    }
}

/// Divides so many channels into blocks that kernels compute at once: the first channel of each, and their number.
pub(crate) fn blocks(channels: usize) -> Vec<[usize; 2]> {
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < channels {
        let left = channels - first;
        // No block of one to three after one of six, where two of four and five do.
        let size = match left {
            7 | 8 => 4,
            9 => 5,
            _ => left.min(MAX_CHANNELS),
        };
        blocks.push([first, size]);
        first += size;
    }
    blocks
}

/// What a correlation kernel reads and writes. Offsets and strides count entries.
///
/// Computes `output[m, v] (+)= sum over c, t of weights[c, t, m] * input[c, t, v]`, for output channels `m`, vectors of
/// positions `v`, input channels `c` and taps `t`.
pub(crate) struct Correlate<'a> {
    /// The packed input.
    pub(crate) input: *const f32,
    /// Where each vector begins for the first tap of the first channel.
    pub(crate) vectors: &'a [usize],
    /// Where each tap lies, relative to that.
    pub(crate) taps: &'a [usize],
    pub(crate) channels: usize,
    pub(crate) channel_stride: usize,
    /// Packed weights: `[channel, tap, output channel]`.
    pub(crate) weights: *const f32,
    pub(crate) output: *mut f32,
    /// Where each vector of the first output channel is written.
    pub(crate) output_vectors: &'a [usize],
    pub(crate) output_stride: usize,
    /// Whether to add to what is there.
    pub(crate) accumulate: bool,
}

/// What a weight gradient kernel reads and writes. Offsets and strides count entries.
///
/// Computes `sums[m, s] += sum over vectors v and their lanes of gradient[m, v] * input[s, v]`, for output channels `m`
/// and streams `s`, each a tap of an input channel.
pub(crate) struct Gradient<'a> {
    pub(crate) input: *const f32,
    /// Where each stream begins.
    pub(crate) streams: &'a [usize],
    /// Where each vector lies in a stream.
    pub(crate) vectors: &'a [usize],
    /// The packed gradient: `[vector, output channel, lane]`.
    pub(crate) gradient: *const f32,
    pub(crate) sums: *mut f32,
    pub(crate) sums_stride: usize,
}

/// What a matrix product kernel reads and writes. Offsets and strides count entries.
///
/// Computes `output[m, v] (+)= sum over k of left[m, k] * right[k, v]`, for rows `m` and vectors of columns `v`, and
/// adds `plus[v]`.
pub(crate) struct Product {
    pub(crate) left: *const f32,
    /// From one row to the next, and from one column to the next.
    pub(crate) left_strides: [usize; 2],
    /// Vectors lie side by side.
    pub(crate) right: *const f32,
    pub(crate) right_stride: usize,
    pub(crate) depth: usize,
    pub(crate) output: *mut f32,
    pub(crate) output_stride: usize,
    /// Entries of the last vector that the output has room for.
    pub(crate) last: usize,
    /// Whether to add to what is there.
    pub(crate) accumulate: bool,
    /// Whole vectors to add to each row in the end, or null.
    pub(crate) plus: *const f32,
}

pub(crate) type ProductKernel = unsafe fn(&Product);
pub(crate) type CorrelateKernel = unsafe fn(&Correlate<'_>);
pub(crate) type GradientKernel = unsafe fn(&Gradient<'_>);

/// The kernels of an instruction set.
pub(crate) struct InstructionSet {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    /// Entries of a vector.
    pub(crate) lanes: usize,
    correlate: [[CorrelateKernel; MAX_VECTORS]; MAX_CHANNELS],
    gradient: [[GradientKernel; MAX_VECTORS]; MAX_CHANNELS],
    product: [[ProductKernel; MAX_VECTORS]; MAX_CHANNELS],
    chain: unsafe fn(usize) -> f32,
}

impl InstructionSet {
    /// The best one that this processor has.
    pub(crate) fn best() -> &'static Self {
        static BEST: LazyLock<&'static InstructionSet> = LazyLock::new(|| available()[0]);
        *BEST
    }

    /// Runs chains of multiply-adds in registers, so many rounds; returns the number of operations, and a number that
    /// depends on them all.
    pub(crate) fn chain(&self, rounds: usize) -> (usize, f32) {
        // SAFETY: sets are only handed out where the processor has them.
        (2 * rounds * body::CHAINS * self.lanes, unsafe { (self.chain)(rounds) })
    }

    /// The kernel for so many output channels and vectors, at most [`vectors_for`] them.
    pub(crate) fn correlate(&self, channels: usize, vectors: usize) -> CorrelateKernel {
        self.correlate[channels - 1][vectors - 1]
    }

    /// The kernel for so many rows and vectors, at most [`vectors_for`] them.
    pub(crate) fn product(&self, rows: usize, vectors: usize) -> ProductKernel {
        self.product[rows - 1][vectors - 1]
    }

    /// The kernel for so many output channels and streams, at most [`vectors_for`] them.
    pub(crate) fn gradient(&self, channels: usize, streams: usize) -> GradientKernel {
        self.gradient[channels - 1][streams - 1]
    }
}

/// The instruction sets that this processor has, the best first.
pub(crate) fn available() -> Vec<&'static InstructionSet> {
    let mut sets: Vec<&'static InstructionSet> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            sets.push(&avx512::SET);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets.push(&avx2::SET);
        }
    }
    sets.push(&portable::SET);
    sets
}

/// The kernels for one number of channels, by the number of vectors; no more are asked for than there are kernels for.
macro_rules! row {
    ($kernel:ident as $kind:ty: $m:literal, $($n:literal)*) => { [$($kernel::<$m, $n> as $kind),*] };
}

/// The kernels for every number of channels and vectors that [`vectors_for`] allows.
macro_rules! table {
    ($kernel:ident as $kind:ty) => {
        [
            row!($kernel as $kind: 1, 1 2 3 4 5 6 7 8),
            row!($kernel as $kind: 2, 1 2 3 4 4 4 4 4),
            row!($kernel as $kind: 3, 1 2 3 3 3 3 3 3),
            row!($kernel as $kind: 4, 1 2 2 2 2 2 2 2),
            row!($kernel as $kind: 5, 1 2 2 2 2 2 2 2),
            row!($kernel as $kind: 6, 1 2 2 2 2 2 2 2),
        ]
    };
}

/// The kernels of one instruction set: the generic bodies, compiled with its features.
macro_rules! instruction_set {
    ($module:ident, $name:literal, $lanes:ty $(, $features:literal)?) => {
        mod $module {
            use super::lanes::Lanes;
            use super::{
                Correlate, CorrelateKernel, Gradient, GradientKernel, InstructionSet, Product, ProductKernel, body,
            };

            /// # Safety
            /// As [`body::correlate`]; the processor has the features.
            $(#[target_feature(enable = $features)])?
            unsafe fn correlate<const M: usize, const V: usize>(task: &Correlate<'_>) {
                // SAFETY: the caller's promise.
                unsafe { body::correlate::<$lanes, M, V>(task) }
            }

            /// # Safety
            /// As [`body::gradient`]; the processor has the features.
            $(#[target_feature(enable = $features)])?
            unsafe fn gradient<const M: usize, const S: usize>(task: &Gradient<'_>) {
                // SAFETY: the caller's promise.
                unsafe { body::gradient::<$lanes, M, S>(task) }
            }

            /// # Safety
            /// As [`body::product`]; the processor has the features.
            $(#[target_feature(enable = $features)])?
            unsafe fn product<const M: usize, const V: usize>(task: &Product) {
                // SAFETY: the caller's promise.
                unsafe { body::product::<$lanes, M, V>(task) }
            }

            /// # Safety
            /// The processor has the features.
            $(#[target_feature(enable = $features)])?
            unsafe fn chain(rounds: usize) -> f32 {
                // SAFETY: the caller's promise.
                unsafe { body::chain::<$lanes>(rounds) }
            }

            pub(super) static SET: InstructionSet = InstructionSet {
                name: $name,
                lanes: <$lanes as Lanes>::COUNT,
                chain,
                product: table!(product as ProductKernel),
                correlate: table!(correlate as CorrelateKernel),
                gradient: table!(gradient as GradientKernel),
            };
        }
    };
}

instruction_set!(portable, "portable", super::lanes::Portable);
#[cfg(target_arch = "x86_64")]
instruction_set!(avx2, "AVX2", super::lanes::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
instruction_set!(avx512, "AVX-512", super::lanes::Avx512, "avx512f");
