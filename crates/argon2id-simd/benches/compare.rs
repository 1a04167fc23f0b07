//! One hash of 19 MiB, two passes and one lane, in memory that was used before:
//! by the `argon2` crate, by each backend, and by the C implementation, which
//! allocates its memory itself. `cargo bench -p argon2id-simd`; needs gcc.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on should stop"
)]

use std::hint::black_box;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use argon2id_simd::{Backend, prefer_huge_pages};
use criterion::{Criterion, criterion_group, criterion_main};

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const PASSWORD: &[u8] = b"f5e750ff-ebd1-44ce-a0d8-f13dffb7fc75";
const SALT: &[u8] = b"0123456789abcdef";

fn hash(c: &mut Criterion) {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).unwrap();
    let mut memory: Vec<Block> = Vec::with_capacity(params.block_count());
    prefer_huge_pages(memory.spare_capacity_mut());
    memory.resize(params.block_count(), Block::new());
    let mut out = [0; 32];
    let mut group = c.benchmark_group("hash");

    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    group.bench_function("argon2 crate", |b| {
        b.iter(|| {
            argon2
                .hash_password_into_with_memory(black_box(PASSWORD), SALT, &mut out, &mut memory)
                .unwrap();
        });
    });
    let expected = out;
    for backend in Backend::available() {
        group.bench_function(backend.name(), |b| {
            b.iter(|| {
                let password = black_box(PASSWORD);
                backend
                    .hash_password_into_with_memory(&params, password, SALT, &mut out, &mut memory)
                    .unwrap();
            });
        });
        assert_eq!(out, expected);
    }
    #[cfg(target_arch = "x86_64")]
    {
        group.bench_function("C", |b| b.iter(|| hash_in_c(black_box(PASSWORD), &mut out)));
        assert_eq!(out, expected);
    }
    group.finish();
}

#[cfg(target_arch = "x86_64")]
fn hash_in_c(password: &[u8], out: &mut [u8; 32]) {
    #[expect(unsafe_code, reason = "a C function")]
    // SAFETY: each pointer comes with the length of what it points to.
    let code = unsafe {
        argon2_sys::argon2id_hash_raw(
            PASSES,
            MEMORY_KIB,
            LANES,
            password.as_ptr().cast(),
            password.len(),
            SALT.as_ptr().cast(),
            SALT.len(),
            out.as_mut_ptr().cast(),
            out.len(),
        )
    };
    assert_eq!(code, 0);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = hash
}
criterion_main!(benches);
