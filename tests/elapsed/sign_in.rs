//! A sign-in costs one Argon2id hash and little more, whatever else is hashed.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::alone;
use crate::support::{Connection, JSON, JWKS, Server, credentials, folder};

/// That of the service's hashing threads.
const NICENESS: i32 = 8;
/// As new hashes are by default.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// The work of a sign-in, done by the crate that others use.
struct Reference {
    argon2: Argon2<'static>,
    memory: Vec<Block>,
}

impl Reference {
    fn new() -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).unwrap();
        let blocks = params.block_count();
        Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            memory: vec![Block::new(); blocks],
        }
    }

    /// The time of one hash on a thread like the service's.
    fn hash(&mut self) -> Duration {
        let Self { argon2, memory } = self;
        std::thread::scope(|scope| {
            let hashing = scope.spawn(|| {
                let _ = rustix::process::setpriority_process(None, NICENESS);
                let (began, mut out) = (Instant::now(), [0; 32]);
                argon2
                    .hash_password_into_with_memory(b"password", b"a fixed salt", &mut out, memory)
                    .unwrap();
                began.elapsed()
            });
            hashing.join().unwrap()
        })
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Without vector instructions a sign-in is one reference hash, with them less;
/// the rest is a signature and a commit.
#[test]
fn fr_33_a_sign_in_takes_less_than_two_reference_hashes() {
    const SAMPLES: usize = 31;
    const MOST: f64 = 2.0;
    let _alone = alone();
    let dir = folder("AUTH_RATE=1000");
    let server = Server::start(dir.path(), &[]);
    let body = credentials("alice", &server.register("alice"));
    let mut connection = Connection::open(server.addr);
    let mut reference = Reference::new();
    reference.hash();
    let (mut sign_ins, mut hashes) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        hashes.push(reference.hash());
        let began = Instant::now();
        assert_eq!(connection.send("POST", "/auth", &[JSON], &body).status, 200);
        sign_ins.push(began.elapsed());
    }
    let (sign_in, hash) = (median(sign_ins), median(hashes));
    let ratio = sign_in.as_secs_f64() / hash.as_secs_f64();
    assert!(ratio < MOST, "{sign_in:?} is {ratio:.2} of {hash:?}");
}

/// Times that clients see while several times as many sign-ups wait as can be hashed.
struct Flooded {
    /// Those that were let in.
    sign_ups: Vec<Duration>,
    sign_ins: Vec<Duration>,
    key_sets: Vec<Duration>,
}

/// Signs in and fetches the key set by turns for as long as sign-ups wait.
fn flood(server: &Server, round: usize, sign_in: &[u8]) -> Flooded {
    const FLOOD: usize = 250;
    /// With so few left, the hashing threads may have nothing more that waits.
    const LAST: usize = 20;
    let (ready, answered) = (Barrier::new(FLOOD + 1), AtomicUsize::new(0));
    let sign_ups = Mutex::new(Vec::new());
    let mut seen = Flooded {
        sign_ups: Vec::new(),
        sign_ins: Vec::new(),
        key_sets: Vec::new(),
    };
    std::thread::scope(|scope| {
        for n in 0..FLOOD {
            let (ready, answered, sign_ups) = (&ready, &answered, &sign_ups);
            let addr = server.addr;
            scope.spawn(move || {
                let source = Ipv4Addr::new(127, 3, 0, u8::try_from(n + 1).unwrap());
                let mut connection = Connection::from_address(addr, source);
                let name = format!("r{round}n{n}");
                let body = format!(r#"{{"username":"{name}","email":"{name}@t.invalid"}}"#);
                ready.wait();
                let began = Instant::now();
                let reply = connection.send("POST", "/register", &[JSON], body.as_bytes());
                assert!([201, 503].contains(&reply.status), "{}", reply.text());
                if reply.status == 201 {
                    sign_ups.lock().unwrap().push(began.elapsed());
                }
                answered.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut connection = Connection::open(server.addr);
        ready.wait();
        loop {
            let mut timed = |method, path, body| {
                let began = Instant::now();
                let reply = connection.send(method, path, &[JSON], body);
                assert_eq!(reply.status, 200, "{}", reply.text());
                began.elapsed()
            };
            let key_set = timed("GET", JWKS, b"");
            let sign_in = timed("POST", "/auth", sign_in);
            if answered.load(Ordering::Relaxed) + LAST > FLOOD {
                break;
            }
            seen.key_sets.push(key_set);
            seen.sign_ins.push(sign_in);
        }
    });
    seen.sign_ups = sign_ups.into_inner().unwrap();
    seen
}

/// In one queue with them a sign-in would wait as long as a sign-up. On the threads
/// that serve HTTP, hashes would make a key set wait as long as a sign-in.
#[test]
fn fr_03_a_flood_of_sign_ups_delays_no_sign_in_and_no_key_set() {
    const ROUNDS: usize = 3;
    let _alone = alone();
    let dir = folder("AUTH_RATE=1000");
    let server = Server::start(dir.path(), &[]);
    let body = credentials("alice", &server.register("alice"));
    let rounds: Vec<_> = (0..ROUNDS).map(|n| flood(&server, n, &body)).collect();
    let all = |times: fn(&Flooded) -> &Vec<Duration>| -> Vec<Duration> {
        rounds.iter().flat_map(times).copied().collect()
    };
    let (sign_ups, sign_ins) = (all(|round| &round.sign_ups), all(|round| &round.sign_ins));
    assert!(sign_ins.len() > 5, "the flood was over at once");
    let (sign_up, sign_in) = (median(sign_ups), median(sign_ins));
    let key_set = median(all(|round| &round.key_sets));
    assert!(
        2 * sign_in < sign_up,
        "a sign-in took {sign_in:?}, a sign-up {sign_up:?}"
    );
    assert!(
        4 * key_set < sign_in,
        "a key set took {key_set:?}, a sign-in {sign_in:?}"
    );
}
