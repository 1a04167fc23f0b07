//! Accounts that operators change beside running servers: against a model, through two
//! servers with connections of their own.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use jwks_server::crypto::password::Costs;
use jwks_server::domain::account_admin::{AccountError, AccountOperations};
use jwks_server::domain::database;
use jwks_server::domain::names::Username;
use jwks_server::store::Store;
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};

use crate::long::times;
use crate::support::TestApp;

const CHEAP: Costs = Costs {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

/// As a command opens it: a store of its own.
fn operations(app: &TestApp) -> AccountOperations {
    AccountOperations {
        store: Store::open(&app.database()).unwrap(),
        costs: CHEAP,
        clock: Arc::clone(&app.clock) as _,
    }
}

/// Another server on the database of `app`.
fn second_server(app: &TestApp) -> TestApp {
    let dir = tempfile::tempdir().unwrap();
    symlink(app.database(), dir.path().join("keys.db")).unwrap();
    let key = app.database().with_file_name("key");
    std::fs::copy(key, dir.path().join("key")).unwrap();
    TestApp::at(dir, "", Arc::clone(&app.clock))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    Reset,
    Disable,
    Enable,
    Delete,
    /// With the last password of the name, or with the one before.
    SignIn {
        server: usize,
        is_right: bool,
    },
}

#[derive(Default)]
struct Model {
    exists: bool,
    is_disabled: bool,
    password: String,
    before: String,
}

impl Model {
    fn set(&mut self, password: &SecretString) {
        let new = password.expose_secret().to_owned();
        self.before = std::mem::replace(&mut self.password, new);
    }
}

async fn play(steps: &[(usize, Step)]) {
    let mut app = TestApp::start().await;
    let mut other = second_server(&app);
    app.rotate().await;
    other.rotate().await;
    let operator = operations(&app);
    let mut models: BTreeMap<&str, Model> = BTreeMap::new();
    for (name, step) in steps {
        let name = ["alice", "Alice", "zoë"][*name];
        let model = models.entry(name).or_default();
        let unknown = |error| matches!(error, AccountError::Unknown);
        app.advance(Duration::from_secs(1));
        match step {
            Step::Add => match operator
                .add(Username::parse(name).unwrap(), None, None)
                .await
            {
                Ok(password) => {
                    assert!(!model.exists);
                    model.exists = true;
                    model.set(&password);
                }
                Err(AccountError::NameTaken) => assert!(model.exists),
                Err(e) => panic!("{e}"),
            },
            Step::Reset => match operator.reset(name, None).await {
                Ok((_, password)) => {
                    assert!(model.exists);
                    model.set(&password);
                }
                Err(e) => assert!(unknown(e) && !model.exists),
            },
            Step::Disable => match operator.disable(name, "why".to_owned()).await {
                Ok(_) => {
                    assert!(model.exists && !model.is_disabled);
                    model.is_disabled = true;
                }
                Err(AccountError::IsDisabled) => assert!(model.is_disabled),
                Err(e) => assert!(unknown(e) && !model.exists),
            },
            Step::Enable => match operator.enable(name, None).await {
                Ok(_) => {
                    assert!(model.is_disabled);
                    model.is_disabled = false;
                }
                Err(AccountError::IsEnabled) => assert!(model.exists && !model.is_disabled),
                Err(e) => assert!(unknown(e) && !model.exists),
            },
            Step::Delete => match operator.delete(name, false).await {
                Ok(_) => {
                    assert!(model.exists);
                    (model.exists, model.is_disabled) = (false, false);
                }
                Err(e) => assert!(unknown(e) && !model.exists),
            },
            Step::SignIn { server, is_right } => {
                let password = if *is_right {
                    &model.password
                } else {
                    &model.before
                };
                let reply = [&app, &other][*server]
                    .sign_in("/auth", name, password)
                    .await;
                let may = model.exists && !model.is_disabled && *is_right;
                let expected = if may {
                    StatusCode::OK
                } else {
                    StatusCode::UNAUTHORIZED
                };
                assert_eq!(reply.status, expected, "{}", reply.text());
            }
        }
        let listed = database::account(&app.location(), name).unwrap();
        assert_eq!(listed.is_some(), model.exists);
        assert_eq!(
            listed.is_some_and(|it| it.disabled.is_some()),
            model.is_disabled
        );
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Add),
        1 => Just(Step::Reset),
        2 => Just(Step::Disable),
        1 => Just(Step::Enable),
        1 => Just(Step::Delete),
        6 => (0..2_usize, any::<bool>()).prop_map(|(server, is_right)| Step::SignIn { server, is_right }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: u32::try_from(times(6, 100)).unwrap(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn servers_follow_operators_at_once_whatever_the_order(steps in prop::collection::vec((0..3_usize, step()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&steps));
    }
}

#[tokio::test]
async fn a_disabled_account_signs_in_like_an_unknown_one() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let operator = operations(&app);
    operator.disable("alice", "left".to_owned()).await.unwrap();
    app.advance(Duration::from_secs(1));
    let disabled = app.sign_in("/auth", "alice", &password).await;
    let unknown = app.sign_in("/auth", "nobody", &password).await;
    assert_eq!(disabled.status, StatusCode::UNAUTHORIZED);
    assert_eq!(disabled.text(), unknown.text());
    assert_eq!(app.rows("SELECT * FROM auth_logs"), [""; 0]);
}

#[tokio::test]
async fn an_account_of_the_earlier_server_is_listed_as_it_was_stored() {
    let app = TestApp::start().await;
    let hash = "$argon2id$v=19$m=65536,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$WeUbGcYNQJQYEQwLQQkvMMuaCFKAYZcDhaW6fMoHlNM";
    app.execute(&format!(
        "INSERT INTO users (username, password_hash, email, date_registered, last_login) VALUES
             ('bob smith', '{hash}', 'Bob@Example.com', '2024-02-03 04:05:06', '2024-02-03 04:05:07.25'),
             (x'ff00', 'x', NULL, 'yesterday', 12345)"
    ));
    let operator = operations(&app);
    let bob = database::account(&app.location(), "bob smith")
        .unwrap()
        .unwrap();
    assert_eq!(bob.email.as_deref(), Some("Bob@Example.com"));
    assert_eq!(bob.registered.unwrap().rfc3339(), "2024-02-03T04:05:06Z");
    assert_eq!(bob.last_sign_in.unwrap().rfc3339(), "2024-02-03T04:05:07Z");
    let (_, password) = operator.reset("bob smith", None).await.unwrap();
    let token = app
        .token("/auth", "bob smith", password.expose_secret())
        .await;
    assert_eq!(token.claims()["sub"], "bob smith");
    let filter = database::AccountFilter {
        pattern: None,
        disabled: false,
        after: bob.id.as_i64(),
        limit: 5,
    };
    let odd = database::list_accounts(&app.location(), &filter)
        .unwrap()
        .remove(0);
    assert_eq!((odd.registered, odd.last_sign_in), (None, None));
    operator.delete("bob smith", false).await.unwrap();
    let logged = app.rows("SELECT request_ip <> '', user_id FROM auth_logs");
    assert_eq!(logged, ["1|"]);
}
