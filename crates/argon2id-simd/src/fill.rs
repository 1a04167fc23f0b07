//! Fills Argon2's memory, with AVX-512 or with AVX2.
//!
//! A block is a matrix of four by four vectors of eight words. Vector `k` of
//! line `p` holds words `4k..4k + 4` of row `2p` and then those of row `2p + 1`
//! (see [`super::position`]). So the permutation P of two rows works on the four
//! vectors of a line, that of two columns on the four that are `k`th in their
//! lines, and no word changes its vector.

use argon2::Block;

use super::{Backend, Segment};

/// Function of a backend that fills a segment.
pub(super) type Fill = unsafe fn(&mut [Block], &Segment);

impl Backend {
    /// The backends that this CPU can run, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let known = [
            is_x86_feature_detected!("avx512f").then_some(Self {
                name: "AVX-512",
                fill: avx512::fill,
            }),
            is_x86_feature_detected!("avx2").then_some(Self {
                name: "AVX2",
                fill: avx2::fill,
            }),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let known: [Option<Self>; 0] = [];
        known.into_iter().flatten()
    }

    pub(super) fn fill(self, memory: &mut [Block], segment: &Segment) {
        #[expect(unsafe_code, reason = "instructions that not every CPU has")]
        // SAFETY: the function requires nothing but a CPU with its instructions.
        // Only `available` makes a `Backend`, and only if this CPU has them.
        unsafe {
            (self.fill)(memory, segment);
        }
    }
}

/// The code that both backends share, over a type `V` of eight words and these
/// functions on it: `zero`, `load`, `store`, `xor`; `mul_add`, which is
/// a + b + 2 · lo(a) · lo(b); `xor_ror::<N>`, which xors and rotates to the right;
/// `turn_row::<N>`, which rotates the words of each half to the left by N words;
/// and `turn_column::<N>`, which does so with the words 0, 1, 4, 5 and with the
/// words 2, 3, 6, 7, for these are of one column.
///
/// Each step is done on four independent vectors, which hides the latency of
/// the instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! filling {
    ($feature:literal) => {
        /// Fills a segment (sections 3.2 and 3.4).
        #[target_feature(enable = $feature)]
        pub(super) fn fill(memory: &mut [Block], segment: &Segment) {
            // A zero block, the input of section 3.4.1.2, and their result.
            let mut addresses = [Block::new(), segment.address_input(), Block::new()];
            for index in segment.first()..segment.len {
                let (current, previous) = segment.current_and_previous(index);
                let random = if segment.is_data_independent() {
                    if index % WORDS == 0 || index == segment.first() {
                        addresses[1].as_mut()[position(6)] += 1;
                        compress(&mut addresses, [0, 1], 2, false);
                        compress(&mut addresses, [0, 2], 2, false);
                    }
                    addresses[2].as_ref()[position(index % WORDS)]
                } else {
                    memory[previous].as_ref()[0]
                };
                let reference = segment.reference(index, random);
                compress(memory, [previous, reference], current, segment.pass > 0);
            }
        }

        /// Writes G (section 3.5) of the blocks `x` and `y` to the block `to`,
        /// XORed with its old content if `keep`.
        #[target_feature(enable = $feature)]
        fn compress(memory: &mut [Block], [x, y]: [usize; 2], to: usize, keep: bool) {
            let (x, y) = (memory[x].as_ref(), memory[y].as_ref());
            let mut r = [[zero(); 4]; 4];
            for p in 0..4 {
                for k in 0..4 {
                    r[k][p] = xor(load(x, p * 4 + k), load(y, p * 4 + k));
                }
            }
            // R is stored in the block to which it is added at the end.
            let to = memory[to].as_mut();
            for p in 0..4 {
                for k in 0..4 {
                    let at = p * 4 + k;
                    let kept = if keep { load(to, at) } else { zero() };
                    store(to, at, xor(r[k][p], kept));
                }
            }
            mix(&mut r);
            turn_rows::<1, 3>(&mut r);
            mix(&mut r);
            turn_rows::<3, 1>(&mut r);
            let mut z = [[zero(); 4]; 4];
            for p in 0..4 {
                for k in 0..4 {
                    z[p][k] = r[k][p];
                }
            }
            mix(&mut z);
            turn_columns::<1, 3>(&mut z);
            mix(&mut z);
            turn_columns::<3, 1>(&mut z);
            for p in 0..4 {
                for k in 0..4 {
                    let at = p * 4 + k;
                    store(to, at, xor(z[p][k], load(to, at)));
                }
            }
        }

        /// GB (section 3.6) of the words at each index of `a` to `d`.
        #[inline]
        #[target_feature(enable = $feature)]
        fn mix(abcd: &mut [[V; 4]; 4]) {
            half_mix::<32, 24>(abcd);
            half_mix::<16, 63>(abcd);
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn half_mix<const M: i32, const N: i32>([a, b, c, d]: &mut [[V; 4]; 4]) {
            for i in 0..4 {
                a[i] = mul_add(a[i], b[i]);
            }
            for i in 0..4 {
                d[i] = xor_ror::<M>(d[i], a[i]);
            }
            for i in 0..4 {
                c[i] = mul_add(c[i], d[i]);
            }
            for i in 0..4 {
                b[i] = xor_ror::<N>(b[i], c[i]);
            }
        }

        /// Rotates the words of all rows so that the diagonals of P (section
        /// 3.6) become columns, or back.
        #[inline]
        #[target_feature(enable = $feature)]
        fn turn_rows<const B: usize, const D: usize>([_, b, c, d]: &mut [[V; 4]; 4]) {
            for i in 0..4 {
                b[i] = turn_row::<B>(b[i]);
                c[i] = turn_row::<2>(c[i]);
                d[i] = turn_row::<D>(d[i]);
            }
        }

        /// The same for columns.
        #[inline]
        #[target_feature(enable = $feature)]
        fn turn_columns<const B: usize, const D: usize>([_, b, c, d]: &mut [[V; 4]; 4]) {
            for i in 0..4 {
                b[i] = turn_column::<B>(b[i]);
                c[i] = turn_column::<2>(c[i]);
                d[i] = turn_column::<D>(d[i]);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::super::{WORDS, position};
    use super::{Block, Segment};

    type V = __m512i;

    filling!("avx512f");

    #[target_feature(enable = "avx512f")]
    fn zero() -> V {
        _mm512_setzero_si512()
    }

    #[target_feature(enable = "avx512f")]
    fn load(words: &[u64], at: usize) -> V {
        let words = &words[at * 8..][..8];
        #[expect(unsafe_code, reason = "reading vectors goes through a pointer")]
        // SAFETY: `words` are the 64 bytes that are read; no alignment is needed.
        unsafe {
            _mm512_loadu_si512(words.as_ptr().cast())
        }
    }

    #[target_feature(enable = "avx512f")]
    fn store(words: &mut [u64], at: usize, v: V) {
        let words = &mut words[at * 8..][..8];
        #[expect(unsafe_code, reason = "writing vectors goes through a pointer")]
        // SAFETY: `words` are the 64 bytes that are written; no alignment is needed.
        unsafe {
            _mm512_storeu_si512(words.as_mut_ptr().cast(), v);
        }
    }

    #[target_feature(enable = "avx512f")]
    fn xor(a: V, b: V) -> V {
        _mm512_xor_si512(a, b)
    }

    #[target_feature(enable = "avx512f")]
    fn mul_add(a: V, b: V) -> V {
        let product = _mm512_mul_epu32(a, b);
        _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(product, product))
    }

    #[target_feature(enable = "avx512f")]
    fn xor_ror<const N: i32>(a: V, b: V) -> V {
        _mm512_ror_epi64::<N>(xor(a, b))
    }

    #[target_feature(enable = "avx512f")]
    fn turn_row<const N: usize>(v: V) -> V {
        match N {
            1 => _mm512_permutex_epi64::<0b00_11_10_01>(v),
            2 => _mm512_permutex_epi64::<0b01_00_11_10>(v),
            _ => _mm512_permutex_epi64::<0b10_01_00_11>(v),
        }
    }

    #[target_feature(enable = "avx512f")]
    fn turn_column<const N: usize>(v: V) -> V {
        match N {
            1 => _mm512_permutexvar_epi64(_mm512_setr_epi64(1, 4, 3, 6, 5, 0, 7, 2), v),
            2 => _mm512_shuffle_i64x2::<0b01_00_11_10>(v, v),
            _ => _mm512_permutexvar_epi64(_mm512_setr_epi64(5, 0, 7, 2, 1, 4, 3, 6), v),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::{WORDS, position};
    use super::{Block, Segment};

    type V = [__m256i; 2];

    filling!("avx2");

    #[target_feature(enable = "avx2")]
    fn zero() -> V {
        [_mm256_setzero_si256(); 2]
    }

    #[target_feature(enable = "avx2")]
    fn load(words: &[u64], at: usize) -> V {
        let (low, high) = words[at * 8..][..8].split_at(4);
        #[expect(unsafe_code, reason = "reading vectors goes through a pointer")]
        // SAFETY: either half is the 32 bytes that are read; no alignment is needed.
        unsafe {
            [
                _mm256_loadu_si256(low.as_ptr().cast()),
                _mm256_loadu_si256(high.as_ptr().cast()),
            ]
        }
    }

    #[target_feature(enable = "avx2")]
    fn store(words: &mut [u64], at: usize, v: V) {
        let (low, high) = words[at * 8..][..8].split_at_mut(4);
        #[expect(unsafe_code, reason = "writing vectors goes through a pointer")]
        // SAFETY: either half is the 32 bytes that are written; no alignment is needed.
        unsafe {
            _mm256_storeu_si256(low.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), v[1]);
        }
    }

    #[target_feature(enable = "avx2")]
    fn xor(a: V, b: V) -> V {
        [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
    }

    #[target_feature(enable = "avx2")]
    fn mul_add(mut a: V, b: V) -> V {
        for i in 0..2 {
            let product = _mm256_mul_epu32(a[i], b[i]);
            let twice = _mm256_add_epi64(product, product);
            a[i] = _mm256_add_epi64(_mm256_add_epi64(a[i], b[i]), twice);
        }
        a
    }

    #[target_feature(enable = "avx2")]
    fn xor_ror<const N: i32>(a: V, b: V) -> V {
        const BY_16: [i64; 2] = [0x0100_0706_0504_0302, 0x0908_0f0e_0d0c_0b0a];
        const BY_24: [i64; 2] = [0x0201_0007_0605_0403, 0x0a09_080f_0e0d_0c0b];
        let mut v = xor(a, b);
        for x in &mut v {
            *x = match N {
                16 => _mm256_shuffle_epi8(
                    *x,
                    _mm256_setr_epi64x(BY_16[0], BY_16[1], BY_16[0], BY_16[1]),
                ),
                24 => _mm256_shuffle_epi8(
                    *x,
                    _mm256_setr_epi64x(BY_24[0], BY_24[1], BY_24[0], BY_24[1]),
                ),
                32 => _mm256_shuffle_epi32::<0b10_11_00_01>(*x),
                _ => _mm256_or_si256(_mm256_add_epi64(*x, *x), _mm256_srli_epi64::<63>(*x)),
            };
        }
        v
    }

    #[target_feature(enable = "avx2")]
    fn turn_row<const N: usize>(mut v: V) -> V {
        for x in &mut v {
            *x = match N {
                1 => _mm256_permute4x64_epi64::<0b00_11_10_01>(*x),
                2 => _mm256_permute4x64_epi64::<0b01_00_11_10>(*x),
                _ => _mm256_permute4x64_epi64::<0b10_01_00_11>(*x),
            };
        }
        v
    }

    #[target_feature(enable = "avx2")]
    fn turn_column<const N: usize>([low, high]: V) -> V {
        let (one, other) = (
            _mm256_alignr_epi8::<8>(high, low),
            _mm256_alignr_epi8::<8>(low, high),
        );
        match N {
            1 => [one, other],
            2 => [high, low],
            _ => [other, one],
        }
    }
}
