//! Loops over entries: compiled for the best instruction set, and shared among threads in fixed parts.

use std::mem::MaybeUninit;

/// Entries that one thread takes at a time.
pub(crate) const PART: usize = 1 << 15;

/// Defines a function that is compiled a second time for processors with AVX2, and chosen at run time. Rust never
/// merges a multiplication and an addition by itself, so both give the same results.
macro_rules! vectorized {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        $visibility fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    plain($($argument),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the feature.
                    return unsafe { wide($($argument),*) };
                }
            }
            plain($($argument),*)
        }
    };
}

pub(crate) use vectorized;

/// Vectors of these lengths, all of whose entries `write` writes.
pub(crate) fn written<const N: usize>(
    lengths: [usize; N],
    write: impl FnOnce([&mut [MaybeUninit<f32>]; N]),
) -> [Vec<f32>; N] {
    let mut all = lengths.map(Vec::with_capacity);
    let mut index = 0;
    write(all.each_mut().map(|vector| {
        index += 1;
        &mut vector.spare_capacity_mut()[..lengths[index - 1]]
    }));
    for (vector, length) in all.iter_mut().zip(lengths) {
        // SAFETY: every entry was written.
        unsafe { vector.set_len(length) };
    }
    all
}

/// The sum of products, in eight parts, so that it is vectorised.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

/// The sum, in eight parts.
#[inline(always)]
pub(crate) fn sum(entries: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (eights, rest) = entries.as_chunks::<8>();
    for eight in eights {
        for lane in 0..8 {
            sums[lane] += eight[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
