//! A database on PostgreSQL for three replicas. Its clock moves by hand, and each replica
//! has a user of its own, so that one can be cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jwks_server::clock::UnixTime;
use jwks_server::domain::database::Target;
use jwks_server::store::{PgEnvironment, PostgresStore, Store};

use crate::cluster::Cluster;
use crate::manual_clock::ManualClock;
use crate::simulation::START;
use crate::sql::{Client, Value};

pub const REPLICAS: usize = 3;
/// User of the commands of operators.
pub const OPERATOR: usize = REPLICAS;

/// The service asks for `clock_timestamp()` without naming a schema, and finds this one
/// before PostgreSQL's.
const CLOCK: &str = "CREATE SCHEMA by_hand;
    CREATE TABLE by_hand.reading (now BIGINT);
    INSERT INTO by_hand.reading VALUES (0);
    CREATE FUNCTION by_hand.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT to_timestamp(now) FROM by_hand.reading'";
const EMPTY: &str = "DO $$ BEGIN
        DELETE FROM keys; DELETE FROM key_events; DELETE FROM withdrawn_keys;
        DELETE FROM earlier_keys; DELETE FROM adopted_keys; DELETE FROM adopted_key_events;
        DELETE FROM service_settings; DELETE FROM auth_logs; DELETE FROM disabled_accounts;
        DELETE FROM enabled_accounts; DELETE FROM users; DELETE FROM calls; DELETE FROM commits;
        UPDATE key_version SET version = 0;
    END $$";

pub struct Postgres {
    cluster: Arc<Cluster>,
    name: String,
    pub client: Client,
}

impl Postgres {
    /// None, and said so, where it is not installed.
    pub async fn create() -> Option<Arc<Self>> {
        let cluster = Cluster::shared()?;
        let name = cluster.create_database();
        let path = format!("ALTER DATABASE {name} SET search_path = public, by_hand, pg_catalog");
        cluster.sql("postgres", &path);
        for user in 0..=OPERATOR {
            let role = format!("CREATE ROLE {name}_{user} SUPERUSER LOGIN");
            cluster.sql("postgres", &role);
        }
        cluster.sql(&name, CLOCK);
        let url = format!("postgres://postgres@127.0.0.1:{}/{name}", cluster.port);
        let client = Client::connect(url);
        let this = Self {
            cluster,
            name,
            client,
        };
        // With its tables.
        let store = this.open(OPERATOR).await;
        this.close(OPERATOR, store).await;
        Some(Arc::new(this))
    }

    pub fn clock(&self) -> ManualClock {
        let client = self.client.clone();
        let sql = "UPDATE by_hand.reading SET now = $1";
        ManualClock::followed_by(START, move |now: UnixTime| {
            client.rows(sql, &[Value::Integer(now.as_secs())]);
        })
    }

    pub async fn open(&self, user: usize) -> Store {
        let (name, port) = (&self.name, self.cluster.port);
        let url = format!("postgres://{name}_{user}@127.0.0.1:{port}/{name}");
        let target = Target::parse(&url, &PgEnvironment::default()).unwrap();
        // It compares the machine's clock with the one that moves by hand.
        let target = target.with_clock_tolerance(Duration::MAX);
        Store::Postgres(PostgresStore::open(&target).await.unwrap())
    }

    /// Returns when all that it has begun has ended.
    pub async fn close(&self, user: usize, store: Store) {
        store.close().await;
        let began = Instant::now();
        while self.sessions(user, "pid") > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "a session stays");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn clear(&self) {
        (0..=OPERATOR).for_each(|user| self.allow(user, true));
        self.client.rows(EMPTY, &[]);
    }

    /// May the user connect? Those who may not lose their connections.
    pub fn allow(&self, user: usize, may: bool) {
        let may_login = if may { "LOGIN" } else { "NOLOGIN" };
        let sql = format!("ALTER ROLE {}_{user} {may_login}", self.name);
        self.client.rows(&sql, &[]);
        while !may && self.sessions(user, "pg_terminate_backend(pid)") > 0 {}
    }

    /// Number of a user's sessions, after something was done to each.
    fn sessions(&self, user: usize, what: &str) -> i64 {
        let name = &self.name;
        let sql =
            format!("SELECT count({what}) FROM pg_stat_activity WHERE usename = '{name}_{user}'");
        self.client.rows(&sql, &[])[0][0].integer()
    }
}
