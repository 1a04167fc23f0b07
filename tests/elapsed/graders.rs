//! The checks of the three course graders, written by us from what they are known
//! to send and read. A grader starts the program in the project's folder, waits a
//! second, and talks to whatever answers on the port: also to the server that an
//! earlier grader has left behind.

mod card;
mod file;
mod talk;
mod ticker;
mod visit;

use std::fs;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use uuid::Uuid;

use crate::alone;
use crate::left_out::left_out;
use crate::support::{DATABASE, folder};
use crate::token::Token;
use card::Card;
use talk::{Talk, all_405};
use visit::{Ask, NAME, PASSWORD, Run, Visit, free_port, source};

/// Held for reading by what keeps a core busy, and for writing by the test of the
/// limit: eighty milliseconds for a sign-in are enough on a machine that does nothing else.
static BUSY: RwLock<()> = RwLock::new(());

fn busy() -> RwLockReadGuard<'static, ()> {
    BUSY.read().unwrap_or_else(PoisonError::into_inner)
}

/// The graders in each order, every other time on an empty file of theirs, with
/// both kinds of headers that they send. All at once, for they mostly wait.
#[test]
fn graders_give_full_marks_in_all_orders() {
    const ORDERS: [[u8; 3]; 6] = [
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    ];
    let _alone = alone();
    std::thread::scope(|scope| {
        let graded: Vec<_> = ORDERS
            .iter()
            .enumerate()
            .map(|(n, order)| (order, scope.spawn(move || grade_in_order(n, *order))))
            .collect();
        for (order, graded) in graded {
            assert!(graded.join().is_ok(), "in the order {order:?}");
        }
    });
}

fn grade_in_order(n: usize, order: [u8; 3]) {
    let dir = folder("");
    let authorization = if n.is_multiple_of(2) {
        format!("Bearer {}", "c0ffee".repeat(8))
    } else {
        fs::write(dir.path().join(DATABASE), "").unwrap();
        format!("Basic {}", STANDARD.encode(format!("{NAME}:{PASSWORD}")))
    };
    let visit = Visit {
        dir: dir.path().to_owned(),
        port: free_port(),
        authorization,
    };
    grade(&visit, order);
}

fn grade(visit: &Visit, projects: [u8; 3]) {
    let mut server: Option<Run> = None;
    for project in projects {
        let busy = busy();
        let mut run = visit.start();
        match project {
            1 => project_1(visit).assert_full(65),
            2 => project_2(visit).assert_full(65),
            _ => {
                drop(busy);
                let answering = server.as_ref().unwrap_or(&run);
                project_3(visit, answering.id()).assert_full(90);
            }
        }
        match &mut server {
            None => {
                run.close_pipes();
                server = Some(run);
            }
            Some(server) => {
                let (code, words) = run.ended();
                assert_eq!((code, words.lines().count()), (Some(2), 1), "{words}");
                assert!(words.contains(&format!("PORT={}", visit.port)), "{words}");
                assert!(server.is_alive());
            }
        }
    }
}

fn project_1(visit: &Visit) -> Card {
    let mut card = Card::new(1);
    let talk = Talk::hold(visit);
    let (token, expired) = (talk.token(), talk.expired_token());
    let header = token.header();
    card.equal(
        10,
        "a form signs in a second after the start",
        talk.form.status,
        200,
    );
    card.equal(5, "JSON does on a second connection", talk.json.status, 200);
    card.equal(
        5,
        "the token is an RS256 JWT",
        (&header["alg"], &header["typ"]),
        (&json!("RS256"), &json!("JWT")),
    );
    card.equal(5, "its kid is a string", header["kid"].is_string(), true);
    card.equal(
        5,
        "the key set is JSON",
        (talk.key_set.status, talk.key_set.header("content-type")),
        (200, "application/json"),
    );
    card.equal(
        10,
        "the token's kid is there, the expired one's is not",
        talk.found_kids(),
        (1, 0),
    );
    card.equal(
        10,
        "the token verifies against the key set",
        token.verifies_against(&talk.set()),
        true,
    );
    card.equal(
        5,
        "an expired token is asked for and given",
        talk.expired.status,
        200,
    );
    card.equal(
        5,
        "it is expired",
        expired.claims()["exp"]
            .as_i64()
            .map(|exp| exp < file::now()),
        Some(true),
    );
    card.equal(5, "wrong methods are 405", &talk.wrong, &all_405());
    card
}

fn project_2(visit: &Visit) -> Card {
    let mut card = Card::new(2);
    let talk = Talk::hold(visit);
    let db = file::open(&visit.dir);
    let keys = file::keys(&db);
    let now = file::now();
    let live: Vec<_> = keys
        .iter()
        .filter(|key| key.exp > now)
        .map(|key| key.kid.to_string())
        .collect();
    let past: Vec<_> = keys
        .iter()
        .filter(|key| key.exp <= now)
        .map(|key| key.kid.to_string())
        .collect();
    card.equal(
        5,
        "a form signs in a second after the start",
        talk.form.status,
        200,
    );
    card.equal(5, "JSON does on a second connection", talk.json.status, 200);
    card.equal(
        10,
        "the token's kid is in the key set, the expired one's is not",
        talk.found_kids(),
        (1, 0),
    );
    card.equal(
        5,
        "the token verifies against the key set",
        talk.token().verifies_against(&talk.set()),
        true,
    );
    card.equal(
        10,
        "the table of keys has its three columns",
        file::columns(&db, "keys").as_str(),
        "kid INTEGER, key BLOB, exp INTEGER",
    );
    card.equal(
        10,
        "the good token's key is there, in its time",
        live.contains(&talk.token().kid()),
        true,
    );
    card.equal(
        5,
        "the expired token's key is there, past its time",
        past.contains(&talk.expired_token().kid()),
        true,
    );
    card.equal(
        10,
        "the source inserts keys with parameters",
        file::has_line(&source(), file::STATEMENT),
        true,
    );
    card.equal(5, "wrong methods are 405", &talk.wrong, &all_405());
    card
}

fn project_3(visit: &Visit, server: u32) -> Card {
    let mut card = Card::new(3);
    let busy = busy();
    let mut conn = visit.connect();
    let name = format!("user-{}", Uuid::new_v4());
    let email = format!("{name}@example.com");
    let signed_up = visit.send(
        &mut conn,
        &Ask::json("/register", &json!({"username": name, "email": email})),
    );
    let db = file::open(&visit.dir);
    let user = db.query_row("SELECT * FROM users WHERE username = ?", [&name], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(2)?,
            row.get::<_, Option<String>>(3)?,
            row.get::<_, String>(4)?,
        ))
    });
    let password = signed_up.json()["password"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    card.equal(5, "a new user is registered", signed_up.status, 201);
    card.equal(
        10,
        "the password is a UUID",
        Uuid::parse_str(&password).is_ok(),
        true,
    );
    let (id, hash, kept_email, registered) = user.unwrap();
    card.equal(
        5,
        "the row is there at once, with e-mail and time",
        (kept_email, is_time(&registered)),
        (Some(email), true),
    );
    card.equal(
        10,
        "its password is hashed",
        hash.starts_with("$argon2id$"),
        true,
    );
    card.equal(5, "the table of users has its columns", file::columns(&db, "users").as_str(), "id INTEGER, username TEXT, password_hash TEXT, email TEXT, date_registered TIMESTAMP, last_login TIMESTAMP");

    let ask = Ask::json("/auth", &json!({"username": name, "password": password}));
    let signed_in = visit.send(&mut conn, &ask);
    let mut query = db
        .prepare("SELECT * FROM auth_logs WHERE user_id = ?")
        .unwrap();
    let logged: Vec<(String, bool)> = query
        .query_map([id], |row| {
            Ok((row.get(1)?, is_time(&row.get::<_, String>(2)?)))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    card.equal(
        10,
        "the user signs in",
        (signed_in.status, Token::of(&signed_in).is_some()),
        (200, true),
    );
    card.equal(
        10,
        "the sign-in is logged at once, with address and time",
        logged,
        vec![("127.0.0.1".to_owned(), true)],
    );
    card.equal(
        5,
        "the table of sign-ins has its columns",
        file::columns(&db, "auth_logs").as_str(),
        "id INTEGER, request_ip TEXT, request_timestamp TIMESTAMP, user_id INTEGER",
    );
    let keys = file::keys(&db);
    let clear = keys
        .iter()
        .filter(|key| file::is_in_the_clear(&key.key))
        .count();
    card.equal(
        10,
        "no private key is stored in the clear",
        (keys.is_empty(), clear),
        (false, 0),
    );

    drop(busy);
    let ticked = ticker::tick(visit, server, &ask);
    card.equal(
        10,
        "ten sign-ins 100 ms apart are let in",
        ticked.ten,
        vec![200; 10],
    );
    let is_late = !ticked.tenth_is_in_time || !ticked.eleventh_is_in_time;
    if is_late && ticked.is_machine_busy {
        left_out("the last two calls", "the machine has other work");
        let (let_in, took) = visit.burst(15);
        card.equal(
            10,
            "of fifteen calls at once, ten are let in, and more in a later second only",
            let_in == 10 || let_in > 10 && took >= Duration::from_secs(1),
            true,
        );
        return card;
    }
    card.equal(
        5,
        "the tenth is answered within the second",
        ticked.tenth_is_in_time,
        true,
    );
    card.equal(
        5,
        "an eleventh right after it is not let in",
        ticked.eleventh.status,
        429,
    );
    card
}

/// `YYYY-MM-DD HH:MM:SS`
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape == "0000-00-00 00:00:00"
}
