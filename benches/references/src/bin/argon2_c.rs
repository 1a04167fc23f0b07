//! `argon2_c THREADS SECONDS`: how many passwords a second the C reference
//! implementation hashes, with SIMD and built for this very CPU, when it does
//! nothing else. m=19456, t=2, p=1. Prints the rate and the median time in ms.

use std::time::{Duration, Instant};

const PASSWORD: &[u8] = b"f5e750ff-ebd1-44ce-a0d8-f13dffb7fc75";
const SALT: &[u8] = b"0123456789abcdef";

fn main() {
    let mut args = std::env::args().skip(1);
    let threads: usize = args.next().and_then(|n| n.parse().ok()).expect("THREADS");
    let seconds: f64 = args.next().and_then(|s| s.parse().ok()).expect("SECONDS");
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(seconds);
    let workers: Vec<_> = (0..threads)
        .map(|_| std::thread::spawn(move || hash_until(end)))
        .collect();
    let mut times: Vec<f64> = workers
        .into_iter()
        .flat_map(|worker| worker.join().expect("a hashing thread"))
        .collect();
    let took = began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    println!(
        "{:.1} {:.2}",
        times.len() as f64 / took,
        times[times.len() / 2]
    );
}

fn hash_until(end: Instant) -> Vec<f64> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        let mut out = [0u8; 32];
        // SAFETY: each pointer comes with the length of what it points to.
        let code = unsafe {
            argon2_sys::argon2id_hash_raw(
                2,
                19_456,
                1,
                PASSWORD.as_ptr().cast(),
                PASSWORD.len(),
                SALT.as_ptr().cast(),
                SALT.len(),
                out.as_mut_ptr().cast(),
                out.len(),
            )
        };
        assert_eq!(i64::from(code), 0, "argon2id_hash_raw");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times
}
