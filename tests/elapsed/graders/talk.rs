//! Requests of the graders of project 1 and 2, and the answers.

use serde_json::{Value, json};

use super::visit::{Ask, NAME, PASSWORD, Visit};
use crate::support::{Connection, JWKS, Reply};
use crate::token::{Token, kids};

const WRONG_METHODS: [(&str, &str); 9] = [
    ("GET", "/auth"),
    ("PUT", "/auth"),
    ("DELETE", "/auth"),
    ("PATCH", "/auth"),
    ("HEAD", "/auth"),
    ("POST", JWKS),
    ("PUT", JWKS),
    ("DELETE", JWKS),
    ("PATCH", JWKS),
];

pub struct Talk {
    pub form: Reply,
    pub json: Reply,
    pub expired: Reply,
    pub key_set: Reply,
    /// Status of each wrong method, in order.
    pub wrong: Vec<(&'static str, &'static str, u16)>,
}

impl Talk {
    pub fn hold(visit: &Visit) -> Self {
        let credentials = json!({"username": NAME, "password": PASSWORD});
        // Among the first requests of all, when the first key is hardly there.
        let mut first = visit.connect();
        let form = visit.send(&mut first, &Ask::form("/auth"));
        let mut second = visit.connect();
        let json = visit.send(&mut second, &Ask::json("/auth", &credentials));

        let mut asks: Vec<Ask> = WRONG_METHODS
            .map(|(method, path)| Ask::plain(method, path))
            .into();
        asks.extend([
            Ask::form("/auth"),
            Ask::json("/auth", &credentials),
            Ask::json("/auth?expired=true", &credentials),
            Ask::plain("GET", JWKS),
        ]);
        let mut replies = at_once(visit, &asks);
        let [form_again, json_again, expired, key_set] = replies
            .split_off(WRONG_METHODS.len())
            .try_into()
            .ok()
            .unwrap();
        assert_eq!((form_again.status, json_again.status), (200, 200));
        Self {
            form,
            json,
            expired,
            key_set,
            wrong: WRONG_METHODS
                .iter()
                .zip(&replies)
                .map(|((method, path), reply)| (*method, *path, reply.status))
                .collect(),
        }
    }

    pub fn set(&self) -> Value {
        self.key_set.json()
    }

    pub fn token(&self) -> Token {
        Token::of(&self.form).unwrap()
    }

    pub fn expired_token(&self) -> Token {
        Token::of(&self.expired).unwrap()
    }

    /// Numbers of keys of the set that have the kid of the good token, and of the
    /// expired one.
    pub fn found_kids(&self) -> (usize, usize) {
        let kids = kids(&self.set());
        let count = |token: &Token| {
            let kid = token.kid();
            kids.iter().filter(|k| **k == kid).count()
        };
        (count(&self.token()), count(&self.expired_token()))
    }
}

/// Every wrong method with the one status that is right.
pub fn all_405() -> Vec<(&'static str, &'static str, u16)> {
    WRONG_METHODS
        .map(|(method, path)| (method, path, 405))
        .into()
}

/// Sends all requests before it reads the first answer.
fn at_once(visit: &Visit, asks: &[Ask]) -> Vec<Reply> {
    let mut conns: Vec<Connection> = asks.iter().map(|_| visit.connect()).collect();
    for (conn, ask) in conns.iter_mut().zip(asks) {
        visit.write(conn, ask);
    }
    conns
        .iter_mut()
        .zip(asks)
        .map(|(conn, ask)| conn.read_reply(ask.method))
        .collect()
}
