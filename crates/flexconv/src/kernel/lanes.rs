//! Vectors of single-precision numbers, by instruction set.

use std::mem::MaybeUninit;

/// A vector of numbers.
///
/// # Safety
/// The functions of a set may run only where the processor has it; pointers must be good for `COUNT` entries.
pub(crate) trait Lanes: Copy {
    /// Entries of a vector.
    const COUNT: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn plus(self, other: Self) -> Self;
    /// `self + a * b`.
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    /// The sum of the entries.
    unsafe fn sum(self) -> f32;

    /// The first `count` entries from there, then zeros; the pointer is good for so many.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's promise, and a buffer for the widest vector.
        unsafe {
            if count == Self::COUNT {
                return Self::load(from);
            }
            let mut entries = [0.0; WIDEST];
            copy_few(from, entries.as_mut_ptr(), count);
            Self::load(entries.as_ptr())
        }
    }

    /// Stores the first `count` entries; the pointer is good for so many.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise, and a buffer for the widest vector.
        unsafe {
            if count == Self::COUNT {
                return self.store(to);
            }
            let mut entries = MaybeUninit::<[f32; WIDEST]>::uninit();
            self.store(entries.as_mut_ptr().cast());
            copy_few(entries.as_ptr().cast(), to, count);
        }
    }
}

/// Entries of the widest vector.
const WIDEST: usize = 16;

/// Copies fewer entries than the widest vector has, in pieces whose sizes the compiler knows.
///
/// # Safety
/// Both pointers are good for so many, and do not overlap.
#[inline(always)]
unsafe fn copy_few(from: *const f32, to: *mut f32, count: usize) {
    /// Copies `N` entries if they are part of `count`, those with fewer being the ones before; `N` is a power of two.
    #[inline(always)]
    unsafe fn piece<const N: usize>(from: *const f32, to: *mut f32, count: usize) {
        if count & N != 0 {
            let first = count & (N - 1);
            // SAFETY: both pointers are good for `count` entries.
            unsafe {
                to.add(first).cast::<[f32; N]>().write_unaligned(from.add(first).cast::<[f32; N]>().read_unaligned())
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        piece::<1>(from, to, count);
        piece::<2>(from, to, count);
        piece::<4>(from, to, count);
        piece::<8>(from, to, count);
    }
}

/// Plain Rust, for every processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Lanes for Portable {
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: good for eight entries, by the trait's contract.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: good for eight entries, by the trait's contract.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| self.0[i] + self.0[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// Eight entries.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    impl Lanes for Avx2 {
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the processor has AVX2, by the trait's contract; so below.
            Self(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above; the pointer is good for eight entries.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above; the pointer is good for eight entries.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above, with FMA.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as above.
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    /// Sixteen entries.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    impl Lanes for Avx512 {
        const COUNT: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the processor has AVX-512F, by the trait's contract; so below.
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above; the pointer is good for sixteen entries.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above; the pointer is good for sixteen entries.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn plus(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn plus_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: as above.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }
}
