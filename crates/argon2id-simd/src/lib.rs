//! Argon2id, version 0x13 (RFC 9106), with its memory filled by vector
//! instructions. At 19 MiB, two passes and one lane, a core makes 2.8 times as
//! many hashes as with the `argon2` crate where it has AVX-512, 1.7 times as many
//! with AVX2. That crate remains the reference in the tests, and does what is
//! not done here: the other kinds and versions of Argon2, and all of it on CPUs
//! without AVX2.
//!
//! A package of its own, as its few lines of `unsafe` (vectors are read and
//! written through pointers, and need a CPU that has them) should stay few and
//! in one place, and as it has to be optimised even where the rest is not.
//!
//! Numbers of sections are those of RFC 9106.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "nothing is filled here, so nothing planned")
)]

mod fill;

use std::mem::MaybeUninit;

use argon2::{Block, Params};
use blake2::Blake2bVarCore;
use blake2::digest::block_api::{UpdateCore as _, VariableOutputCore as _};
use blake2::digest::block_buffer::LazyBuffer;
use rustix::mm::{Advice, madvise};
use zeroize::{Zeroize as _, Zeroizing};

use fill::BackEnd;

/// Slices of a pass, and segments of a lane.
const SLICES: usize = 4;
/// Words of a [`Block`].
const WORDS: usize = 128;
/// Bytes of a huge page (or a part of one), a multiple of every usual page.
const HUGE_PAGE: usize = 2 * 1024 * 1024;

/// Hashes `password` into `out` like `Argon2::hash_password_into_with_memory`
/// for Argon2id, version 0x13. Returns whether it did: false, with `out`
/// untouched, leaves it to that function, which also says what is wrong.
pub fn hash(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut [Block],
) -> bool {
    let usual = memory.len() == params.block_count()
        && params.output_len() == Some(out.len())
        && salt.len() >= argon2::MIN_SALT_LEN;
    match BackEnd::available().next() {
        Some(back_end) if usual => {
            let secret: &[u8] = &[];
            hash_with(back_end, params, [password, salt, secret], out, memory);
            true
        }
        _ => false,
    }
}

/// Asks for huge pages, where the kernel leaves asking to programs: most blocks
/// refer to one far away, whose page the CPU has forgotten where to find, and
/// that is an eighth of the time of a hash. To be called before `memory` is
/// first written to. Where it is in vain, hashing is merely slower.
pub fn prefer_huge_pages(memory: &mut [MaybeUninit<Block>]) {
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.align_offset(HUGE_PAGE);
    let len = size_of_val(memory).saturating_sub(before) / HUGE_PAGE * HUGE_PAGE;
    if len == 0 {
        return;
    }
    #[expect(unsafe_code, reason = "the system call takes a pointer")]
    // SAFETY: the `len` bytes from `before` on are within `memory`, and whole
    // pages; this advice changes nothing that can be read there.
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
    back_end: BackEnd,
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
                back_end.fill(memory, &segment);
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
        word.copy_from_slice(&last.as_ref()[place(at)].to_le_bytes());
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
                block.as_mut()[place(at)] = u64::from_le_bytes(*word);
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

/// A count as the four bytes that Argon2 hashes. None is near 2^32 here.
fn len32(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

/// Where in a block its word `at` is kept. Two rows of sixteen words lie
/// interleaved by quarters, so that eight words which are adjacent in memory
/// go through the permutation P together, both along the rows and down the
/// columns of section 3.5; see [`fill`].
fn place(at: usize) -> usize {
    let (row, quarter, word) = (at / 16, at / 4 % 4, at % 4);
    row / 2 * 32 + quarter * 8 + row % 2 * 4 + word
}

/// What is filled in one go: a quarter of a lane.
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
    /// The first block to fill; two are there from the start.
    #[inline]
    fn first(&self) -> usize {
        if self.pass == 0 && self.slice == 0 {
            2
        } else {
            0
        }
    }

    /// Whether the blocks to refer to are chosen without looking at memory,
    /// as Argon2i does (section 3.4.1.3).
    #[inline]
    fn is_data_independent(&self) -> bool {
        self.pass == 0 && self.slice < SLICES / 2
    }

    /// The places in memory of the block `index` and of the one before it.
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

    /// The place in memory of the block that `random` (J_2 and J_1) chooses
    /// for the block `index`, section 3.4.2.
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

    /// The input block of section 3.4.1.2 with its counter at zero.
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
            input.as_mut()[place(at)] = value;
        }
        input
    }
}

#[cfg(test)]
mod tests {
    use argon2::{Algorithm, Argon2, Version};
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
        for (n, back_end) in BackEnd::available().enumerate() {
            let mut out = vec![0; expected.len()];
            hash_with(back_end, params, inputs, &mut out, &mut used_memory(params));
            assert_eq!(out, expected, "back end {n}");
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
        for (n, back_end) in BackEnd::available().enumerate() {
            let mut out = [0; 32];
            let inputs: [&[u8]; 3] = [&[1; 32], &[2; 16], &[3; 8]];
            hash_with(
                back_end,
                &params,
                inputs,
                &mut out,
                &mut used_memory(&params),
            );
            assert_eq!(out, tag, "back end {n}");
        }
    }

    #[test]
    fn costs_in_use_give_what_the_crate_gives() {
        for (m, t, p) in [(19_456, 2, 1), (65_536, 3, 2), (19_457, 2, 3), (4096, 1, 4)] {
            assert_like_the_crate(&params(m, t, p, 32), [b"correct horse", &[7; 16], b""]);
        }
    }

    /// The same cases in each run, unless `PROPTEST_RNG_SEED` has a number for others.
    fn cases() -> Config {
        let default = Config::default();
        let rng_seed = match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(9106),
            given => given,
        };
        Config {
            rng_seed,
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

        #[test]
        fn every_word_has_a_place_of_its_own(word in 0usize..128) {
            let others = (0..128).filter(|&at| at != word);
            prop_assert!(place(word) < 128);
            prop_assert!(others.map(place).all(|place_of_other| place_of_other != place(word)));
        }
    }

    #[test]
    fn a_hash_is_made_here_where_the_cpu_can() {
        let params = params(64, 1, 1, 32);
        let mut out = [0; 32];
        let done = hash(&params, b"p", &[7; 16], &mut out, &mut used_memory(&params));
        assert_eq!(done, BackEnd::available().next().is_some());
        if done {
            assert_eq!(out[..], by_the_crate(&params, [b"p", &[7; 16], b""]));
        }
    }

    #[test]
    fn what_the_crate_would_refuse_is_left_to_it() {
        let params = params(64, 1, 1, 32);
        let mut memory = used_memory(&params);
        let mut out = [9; 33];
        let salt = [0; 16];
        let refusals = [
            hash(&params, b"p", &salt[..7], &mut out[..32], &mut memory),
            hash(&params, b"p", &salt, &mut out, &mut memory),
            hash(&params, b"p", &salt, &mut out[..32], &mut memory[..63]),
        ];
        assert_eq!((refusals, out), ([false; 3], [9; 33]));
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
