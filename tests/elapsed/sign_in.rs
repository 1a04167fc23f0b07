//! A sign-in costs one Argon2id hash and little more, whatever else is hashed.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

#[cfg(not(feature = "simd-argon2"))]
use argon2::{Algorithm, Argon2, Version};
use argon2::{Block, Params};

use crate::alone;
use crate::support::{Connection, JSON, JWKS, Server, credentials, folder, used_folder};

/// That of the service's hashing threads.
const NICENESS: i32 = 8;
const MEMORY_KIB: u32 = 19_456;
/// Of a costly hash: on a fast machine one of two passes takes no longer than all that
/// an unoptimised service does beside it.
const PASSES: u32 = 16;

/// The work of a sign-in, done beside the service: a hash, and a write to the disk.
struct Reference {
    params: Params,
    memory: Vec<Block>,
    log: File,
}

/// What a sign-in took.
struct Costs {
    elapsed: Duration,
    cpu: Duration,
}

impl Reference {
    fn new() -> Self {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).unwrap();
        Self {
            memory: vec![Block::new(); params.block_count()],
            params,
            log: tempfile::tempfile().unwrap(),
        }
    }

    /// On a thread like those that hash for the service.
    fn sign_in(&mut self) -> Costs {
        let work = || {
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let (began, before) = (Instant::now(), thread_cpu());
            let mut out = [0; 32];
            hash(&self.params, &mut out, &mut self.memory);
            let cpu = thread_cpu().saturating_sub(before);
            // As much as a commit appends to the write-ahead log.
            self.log.write_all(&[0; 4 * 4096]).unwrap();
            self.log.sync_data().unwrap();
            let elapsed = began.elapsed();
            Costs { elapsed, cpu }
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }
}

/// With the implementation that the service has.
fn hash(params: &Params, out: &mut [u8], memory: &mut [Block]) {
    let (password, salt) = (b"password", b"a fixed salt");
    #[cfg(feature = "simd-argon2")]
    let hashed = argon2id_simd::hash_password_into_with_memory(params, password, salt, out, memory);
    #[cfg(not(feature = "simd-argon2"))]
    let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password, salt, out, memory);
    hashed.unwrap();
}

/// CPU time of this thread: proc(5), in nanoseconds.
fn thread_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// CPU time of all threads that the server has had: proc(5), in hundredths of a second.
fn server_cpu(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    // The name in brackets may have spaces; utime and stime are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|field| 10 * field.parse::<u64>().unwrap()).sum())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Beside the hash and the commit there is a signature and little more. The CPU time
/// tells a hash too many or a slow one, on a busy machine too; the elapsed time tells what
/// only waits, and the shortest of many has waited for no other program.
#[test]
fn fr_33_a_sign_in_costs_one_hash_and_one_commit_and_waits_for_nothing_else() {
    const SAMPLES: u32 = 21;
    const MOST: f64 = 1.5;
    /// With a signature, by an unoptimised service.
    const LONGEST_WAIT: Duration = Duration::from_millis(30);
    let _alone = alone();
    // It has its keys: making them would take CPU time meanwhile.
    let dir = used_folder(&format!(
        "AUTH_RATE=1000\nARGON2_MEMORY_KIB={MEMORY_KIB}\nARGON2_PASSES={PASSES}"
    ));
    let server = Server::start(dir.path(), &[]);
    let body = credentials("alice", &server.register("alice"));
    let mut connection = Connection::open(server.addr);
    let mut reference = Reference::new();
    reference.sign_in();
    let (before, mut elapsed) = (server_cpu(&server), Duration::MAX);
    let mut expected = Costs {
        elapsed: Duration::MAX,
        cpu: Duration::ZERO,
    };
    for _ in 0..SAMPLES {
        let one = reference.sign_in();
        expected.elapsed = expected.elapsed.min(one.elapsed);
        expected.cpu += one.cpu;
        let began = Instant::now();
        assert_eq!(connection.send("POST", "/auth", &[JSON], &body).status, 200);
        elapsed = elapsed.min(began.elapsed());
    }
    let cpu = server_cpu(&server).saturating_sub(before);
    let ratio = cpu.as_secs_f64() / expected.cpu.as_secs_f64();
    let reference = expected.cpu;
    assert!(
        ratio < MOST,
        "CPU time of all: {cpu:?} is {ratio:.2} of {reference:?}"
    );
    let waited = elapsed.saturating_sub(expected.elapsed);
    assert!(waited < LONGEST_WAIT, "beside hash and commit: {waited:?}");
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
