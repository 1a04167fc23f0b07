#![doc = include_str!("../README.md")]
//!
//! # Implementation
//!
//! Section numbers in comments are those of RFC 9106.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "there is no backend for other CPUs")
)]

mod fill;

use std::mem::MaybeUninit;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use blake2::Blake2bVarCore;
use blake2::digest::block_api::{UpdateCore as _, VariableOutputCore as _};
use blake2::digest::block_buffer::LazyBuffer;
use rustix::mm::{Advice, madvise};
use zeroize::{Zeroize as _, Zeroizing};

/// Slices of a pass, and segments of a lane.
const SLICES: usize = 4;
/// Words of a [`Block`].
const WORDS: usize = 128;
/// Bytes of a huge page (or a part of one), a multiple of every usual page size.
const HUGE_PAGE: usize = 2 * 1024 * 1024;

/// Hashes `password` into `out` with Argon2id, version 0x13, on the fastest
/// backend of this CPU, or without one by the `argon2` crate.
///
/// Replaces [`Argon2::hash_password_into_with_memory`], and returns the same
/// bytes and the same errors.
pub fn hash_password_into_with_memory(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut [Block],
) -> argon2::Result<()> {
    match Backend::available().next() {
        Some(backend) => {
            backend.hash_password_into_with_memory(params, password, salt, out, memory)
        }
        None => by_argon2(params, password, salt, out, memory),
    }
}

/// Vector instructions that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    name: &'static str,
    fill: fill::Fill,
}

impl Backend {
    pub fn name(self) -> &'static str {
        self.name
    }

    /// [`hash_password_into_with_memory`] on this backend.
    pub fn hash_password_into_with_memory(
        self,
        params: &Params,
        password: &[u8],
        salt: &[u8],
        out: &mut [u8],
        memory: &mut [Block],
    ) -> argon2::Result<()> {
        let is_valid = params.output_len() == Some(out.len()) && salt.len() >= argon2::MIN_SALT_LEN;
        match memory.get_mut(..params.block_count()) {
            Some(memory) if is_valid => {
                hash_with(self, params, [password, salt, b""], out, memory);
                Ok(())
            }
            // Returns the right error, or does what is unusual here.
            _ => by_argon2(params, password, salt, out, memory),
        }
    }
}

fn by_argon2(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut [Block],
) -> argon2::Result<()> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password, salt, out, memory)
}

/// Asks Linux for huge pages, where it gives them to programs that ask
/// (`transparent_hugepage=madvise`). Argon2 reads blocks in random order, so
/// with small pages an eighth of its time goes into TLB misses. To be called
/// before `memory` is first written to. Without effect, hashing is only slower.
pub fn prefer_huge_pages(memory: &mut [MaybeUninit<Block>]) {
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.align_offset(HUGE_PAGE);
    let len = size_of_val(memory).saturating_sub(before) / HUGE_PAGE * HUGE_PAGE;
    if len == 0 {
        return;
    }
    #[expect(unsafe_code, reason = "the system call takes a pointer")]
    // SAFETY: the `len` bytes from `before` on are whole pages within `memory`,
    // and this advice does not change their content.
    let _ = unsafe {
        madvise(
            start.wrapping_add(before).cast(),
            len,
            Advice::LinuxHugepage,
        )
    };
}

/// Section 3.2. `inputs` are password, salt and secret value.
fn hash_with(
    backend: Backend,
    params: &Params,
    inputs: [&[u8]; 3],
    out: &mut [u8],
    memory: &mut [Block],
) {
    let lanes = params.p_cost() as usize;
    let lane_len = memory.len() / lanes;
    start_lanes(&first_hash(params, inputs, out.len()), memory, lane_len);
    for pass in 0..params.t_cost() {
        for slice in 0..SLICES {
            for lane in 0..lanes {
                let segment = Segment {
                    pass,
                    passes: params.t_cost(),
                    slice,
                    lane,
                    lanes,
                    len: lane_len / SLICES,
                };
                backend.fill(memory, &segment);
            }
        }
    }
    let mut last = memory[lane_len - 1];
    for block in memory.iter().skip(lane_len - 1).step_by(lane_len).skip(1) {
        for (sum, word) in last.as_mut().iter_mut().zip(block.as_ref()) {
            *sum ^= word;
        }
    }
    let mut bytes = Zeroizing::new([0; 8 * WORDS]);
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&last.as_ref()[position(at)].to_le_bytes());
    }
    last.zeroize();
    long_hash(&[&bytes[..]], out);
}

/// H_0.
fn first_hash(params: &Params, inputs: [&[u8]; 3], out_len: usize) -> Zeroizing<[u8; 64]> {
    let [password, salt, secret] = inputs;
    let mut h0 = Zeroizing::new([0; 64]);
    blake2b(
        &[
            &params.p_cost().to_le_bytes(),
            &len32(out_len),
            &params.m_cost().to_le_bytes(),
            &params.t_cost().to_le_bytes(),
            &u32::from(argon2::Version::V0x13).to_le_bytes(),
            &2u32.to_le_bytes(),
            &len32(password.len()),
            password,
            &len32(salt.len()),
            salt,
            &len32(secret.len()),
            secret,
            &len32(params.data().len()),
            params.data(),
        ],
        &mut h0[..],
    );
    h0
}

/// The first two blocks of each lane.
fn start_lanes(h0: &[u8; 64], memory: &mut [Block], lane_len: usize) {
    let mut bytes = Zeroizing::new([0; 8 * WORDS]);
    for (lane, blocks) in memory.chunks_exact_mut(lane_len).enumerate() {
        for (column, block) in blocks[..2].iter_mut().enumerate() {
            long_hash(&[h0, &len32(column), &len32(lane)], &mut bytes[..]);
            for (at, word) in bytes.as_chunks().0.iter().enumerate() {
                block.as_mut()[position(at)] = u64::from_le_bytes(*word);
            }
        }
    }
}

/// H', section 3.3.
fn long_hash(inputs: &[&[u8]], out: &mut [u8]) {
    let len = len32(out.len());
    let first: &[&[u8]] = &[&len];
    let inputs = [first, inputs].concat();
    if out.len() <= 64 {
        return blake2b(&inputs, out);
    }
    let mut v = Zeroizing::new([0; 64]);
    blake2b(&inputs, &mut v[..]);
    let mut rest = out;
    loop {
        let (half, tail) = rest.split_at_mut(32);
        half.copy_from_slice(&v[..32]);
        rest = tail;
        if rest.len() <= 64 {
            return blake2b(&[&v[..]], rest);
        }
        let previous = v.clone();
        blake2b(&[&previous[..]], &mut v[..]);
    }
}

/// BLAKE2b over the joined `inputs`, as long as `out` is: 1 to 64 bytes.
fn blake2b(inputs: &[&[u8]], out: &mut [u8]) {
    let Ok(mut core) = Blake2bVarCore::new(out.len()) else {
        unreachable!("callers ask for 1 to 64 bytes");
    };
    let mut buffer = LazyBuffer::default();
    for input in inputs {
        buffer.digest_blocks(input, |blocks| core.update_blocks(blocks));
    }
    let mut full = Default::default();
    core.finalize_variable_core(&mut buffer, &mut full);
    out.copy_from_slice(&full[..out.len()]);
    full.zeroize();
}

/// A count as the four bytes that Argon2 hashes. All counts here are far below 2^32.
fn len32(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// Index in memory of word `at` of a block. Two rows of sixteen words are
/// interleaved by quarters, so that eight words which are adjacent in memory
/// go through the permutation P together, both along the rows and down the
/// columns of section 3.5; see [`fill`].
fn position(at: usize) -> usize {
    let (row, quarter, word) = (at / 16, at / 4 % 4, at % 4);
    row / 2 * 32 + quarter * 8 + row % 2 * 4 + word
}

/// A quarter of a lane, in one pass (section 3.4).
struct Segment {
    pass: u32,
    passes: u32,
    slice: usize,
    lane: usize,
    lanes: usize,
    /// Blocks of a segment.
    len: usize,
}

impl Segment {
    /// Index of the first block to fill; [`start_lanes`] fills two.
    #[inline]
    fn first(&self) -> usize {
        if self.pass == 0 && self.slice == 0 {
            2
        } else {
            0
        }
    }

    /// True when reference blocks are chosen independently of the memory, as in
    /// Argon2i (section 3.4.1.3).
    #[inline]
    fn is_data_independent(&self) -> bool {
        self.pass == 0 && self.slice < SLICES / 2
    }

    /// Indices in memory of the block `index` and of the one before it.
    #[inline]
    fn current_and_previous(&self, index: usize) -> (usize, usize) {
        let lane = self.lane * SLICES * self.len;
        let column = self.slice * self.len + index;
        let before = match column {
            0 => SLICES * self.len - 1,
            _ => column - 1,
        };
        (lane + column, lane + before)
    }

    /// Index in memory of the block that `random` (J_2 and J_1) selects as the
    /// reference of the block `index`, section 3.4.2.
    #[inline]
    fn reference(&self, index: usize, random: u64) -> usize {
        let (j1, j2) = (random & 0xffff_ffff, (random >> 32) as usize);
        let lane = match self.lanes {
            1 => 0,
            _ if self.pass == 0 && self.slice == 0 => self.lane,
            lanes => j2 % lanes,
        };
        let (finished, start) = match self.pass {
            0 => (self.slice, 0),
            _ => (SLICES - 1, self.slice + 1),
        };
        let area = if lane == self.lane {
            finished * self.len + index - 1
        } else {
            finished * self.len - usize::from(index == 0)
        };
        let x = (j1 * j1) >> 32;
        let y = ((area as u64 * x) >> 32) as usize;
        let lane_len = SLICES * self.len;
        let column = start * self.len + area - 1 - y;
        let column = if column < lane_len {
            column
        } else {
            column - lane_len
        };
        lane * lane_len + column
    }

    /// Input block of section 3.4.1.2, with its counter at zero.
    fn address_input(&self) -> Block {
        let blocks = self.lanes * SLICES * self.len;
        let mut input = Block::new();
        let values = [
            u64::from(self.pass),
            self.lane as u64,
            self.slice as u64,
            blocks as u64,
            u64::from(self.passes),
            2,
        ];
        for (at, value) in values.into_iter().enumerate() {
            input.as_mut()[position(at)] = value;
        }
        input
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn params(m: u32, t: u32, p: u32, out_len: usize) -> Params {
        Params::new(m, t, p, Some(out_len)).unwrap()
    }

    /// Memory as an earlier hash leaves it.
    fn used_memory(params: &Params) -> Vec<Block> {
        let mut block = Block::new();
        block.as_mut().fill(0x5555_5555_5555_5555);
        vec![block; params.block_count()]
    }

    fn by_the_crate(params: &Params, inputs: [&[u8]; 3]) -> Vec<u8> {
        let [password, salt, secret] = inputs;
        let (id, version) = (Algorithm::Argon2id, Version::V0x13);
        let mut out = vec![0; params.output_len().unwrap()];
        Argon2::new_with_secret(secret, id, version, params.clone())
            .unwrap()
            .hash_password_into(password, salt, &mut out)
            .unwrap();
        out
    }

    fn assert_like_the_crate(params: &Params, inputs: [&[u8]; 3]) {
        let expected = by_the_crate(params, inputs);
        for backend in Backend::available() {
            let mut out = vec![0; expected.len()];
            hash_with(backend, params, inputs, &mut out, &mut used_memory(params));
            assert_eq!(out, expected, "{}", backend.name());
        }
    }

    /// RFC 9106, section 5.3.
    #[test]
    fn the_test_vector_of_the_rfc() {
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let tag = [
            0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b,
            0x53, 0xc9, 0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9,
            0x6b, 0x01, 0xe6, 0x59,
        ];
        for backend in Backend::available() {
            let mut out = [0; 32];
            let inputs: [&[u8]; 3] = [&[1; 32], &[2; 16], &[3; 8]];
            hash_with(
                backend,
                &params,
                inputs,
                &mut out,
                &mut used_memory(&params),
            );
            assert_eq!(out, tag, "{}", backend.name());
        }
    }

    #[test]
    fn costs_in_use_give_what_the_crate_gives() {
        for (m, t, p) in [(19_456, 2, 1), (65_536, 3, 2), (19_457, 2, 3), (4096, 1, 4)] {
            assert_like_the_crate(&params(m, t, p, 32), [b"correct horse", &[7; 16], b""]);
        }
    }

    /// New random cases in each run. `PROPTEST_RNG_SEED` repeats those of a
    /// run that failed, which has printed its seed.
    fn cases() -> Config {
        let default = Config::default();
        let seed = match default.rng_seed {
            RngSeed::Random => RandomState::new().hash_one("seed"),
            RngSeed::Fixed(seed) => seed,
        };
        eprintln!("PROPTEST_RNG_SEED={seed}");
        Config {
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..default
        }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn any_input_gives_what_the_crate_gives(
            password in vec(any::<u8>(), 0..200),
            salt in vec(any::<u8>(), 8..80),
            secret in vec(any::<u8>(), 0..40),
            (p, m) in (1u32..=4).prop_flat_map(|p| (Just(p), 8 * p..=1200)),
            t in 1u32..=4,
            out_len in prop_oneof![4usize..=64, 65usize..=300],
        ) {
            assert_like_the_crate(&params(m, t, p, out_len), [&password, &salt, &secret]);
        }
    }

    #[test]
    fn no_two_words_have_the_same_position() {
        let mut positions: Vec<_> = (0..WORDS).map(position).collect();
        positions.sort_unstable();
        assert_eq!(positions, (0..WORDS).collect::<Vec<_>>());
    }

    /// Memory may be longer than needed, and an output length is optional.
    #[test]
    fn calls_that_the_crate_accepts_return_the_same() {
        let expected = by_the_crate(&params(64, 1, 1, 32), [b"p", &[7; 16], b""]);
        for params in [params(64, 1, 1, 32), Params::new(64, 1, 1, None).unwrap()] {
            for blocks in [64, 65] {
                let (mut out, mut memory) = ([0; 32], vec![Block::new(); blocks]);
                hash_password_into_with_memory(&params, b"p", &[7; 16], &mut out, &mut memory)
                    .unwrap();
                assert_eq!(out[..], expected);
            }
        }
    }

    #[test]
    fn calls_that_the_crate_refuses_return_its_error() {
        let params = params(64, 1, 1, 32);
        let call = |salt: usize, out: usize, blocks: usize| {
            let (mut out, mut memory) = (vec![0; out], vec![Block::new(); blocks]);
            hash_password_into_with_memory(&params, b"p", &[0; 16][..salt], &mut out, &mut memory)
        };
        assert_eq!(call(16, 32, 64), Ok(()));
        assert_eq!(call(7, 32, 64), Err(argon2::Error::SaltTooShort));
        assert_eq!(call(16, 31, 64), Err(argon2::Error::OutputTooShort));
        assert_eq!(call(16, 33, 64), Err(argon2::Error::OutputTooLong));
        assert_eq!(call(16, 32, 63), Err(argon2::Error::MemoryTooLittle));
    }

    #[test]
    fn huge_pages_change_nothing_in_memory() {
        let mut memory: Vec<Block> = Vec::with_capacity(5000);
        prefer_huge_pages(&mut memory.spare_capacity_mut()[..7]);
        prefer_huge_pages(memory.spare_capacity_mut());
        memory.resize(5000, Block::new());
        prefer_huge_pages(memory.spare_capacity_mut());
        assert!(memory.iter().all(|block| block.as_ref() == [0; WORDS]));
    }
}
