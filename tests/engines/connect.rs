//! The way to a server: TLS, versions, rights, passwords, and what each kind of call has
//! to itself.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jwks_server::client_key::ClientKey;
use jwks_server::store::{Admission, PostgresStore, StoreError};
use socket2::{Domain, Socket, Type};
use tokio_postgres::NoTls;

use crate::cluster::Cluster;
use crate::engine::target;
use crate::proxy::{Fault, Proxy};
use crate::replicas::{Replica, run_with, sealing_key, url};

const CONNECTED: &str = "start the service once";

/// What a command says that is refused in one line: that the database is empty, when the
/// connection is made.
fn refused(url: &str, variables: &[(&str, &str)], command: &[&str]) -> String {
    let key = sealing_key();
    let mut all = vec![("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", url)];
    all.extend(variables);
    let (code, text) = run_with(&all, command);
    assert_eq!((code, text.lines().count()), (2, 1), "{text}");
    text
}

#[test]
fn the_servers_certificate_is_verified_in_full() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let at = |host: &str, more: &str| {
        format!(
            "postgres://postgres@{host}:{}/{name}?sslmode=verify-full{more}",
            cluster.port
        )
    };
    let authority = cluster.authority.to_str().unwrap();
    let root = [("PGSSLROOTCERT", authority)];
    let list = ["keys", "list"];
    let said = refused(&at("localhost", ""), &root, &list);
    assert!(said.contains(CONNECTED), "{said}");
    let in_url = format!("&sslrootcert={authority}");
    let said = refused(&at("localhost", &in_url), &[], &list);
    assert!(said.contains(CONNECTED), "{said}");
    for (url, variables, why) in [
        (
            at("127.0.0.1", ""),
            root.as_slice(),
            "as its certificate does",
        ),
        (at("localhost", ""), &[], "in PGSSLROOTCERT"),
        (
            at("localhost", ""),
            &[("PGSSLROOTCERT", "/nowhere.pem")],
            "PGSSLROOTCERT /nowhere.pem",
        ),
        (
            at("localhost", ""),
            &[("PGSSLROOTCERT", "/dev/zero")],
            "PGSSLROOTCERT /dev/zero: it is over 4194304 bytes",
        ),
        (
            at("localhost", ""),
            &[(
                "PGSSLROOTCERT",
                concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE"),
            )],
            "no certificate",
        ),
    ] {
        let said = refused(&url, variables, &["serve"]);
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let proxy = Proxy::start(cluster.port).await;
    proxy.set(Fault::OldVersion);
    let said = refused(&url(proxy.port, &name), &[], &["serve"]);
    let wanted = "its version 12 is too old: use PostgreSQL 13 or newer";
    assert!(said.contains(wanted), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_may_demand_tls() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let (name, pgbouncer) = (cluster.create_database(), cluster.pgbouncer_over_tls());
    let verified = format!(
        "sslmode=verify-full&sslrootcert={}",
        cluster.authority.display()
    );
    let at = |host: &str, tls: &str| {
        format!("postgres://postgres@{host}:{}/{name}?{tls}", pgbouncer.port)
    };
    let (key, url) = (sealing_key(), at("localhost", &verified));
    let replica = Replica::start_at(&key, &url);
    replica.until("/readyz", 200).await;
    let json = r#"{"username":"alice","email":"alice@x.example"}"#;
    let (status, _, body) = replica.post("/register", json).await;
    assert_eq!(status, 201, "{body}");
    let password = body.split('"').nth(3).unwrap();
    let json = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    assert_eq!(replica.post("/auth", &json).await.0, 200);
    let variables = [("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", &url)];
    let (_, text) = run_with(&variables, &["doctor"]);
    for line in [
        "ok    tls             the connection is encrypted",
        "ok    pooler          one in transaction mode",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let list = ["keys", "list"];
    let said = refused(&at("127.0.0.1", &verified), &[], &list);
    assert!(said.contains("as its certificate does"), "{said}");
    let said = refused(&at("127.0.0.1", "sslmode=disable"), &[], &list);
    assert!(said.contains("SSL required"), "{said}");
}

/// A host whose packets are lost: the queue of connections is full.
struct Unreachable {
    listener: Socket,
    _queued: TcpStream,
}

impl Unreachable {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let this = listener.local_addr().unwrap().as_socket().unwrap();
        Self {
            listener,
            _queued: TcpStream::connect(this).unwrap(),
        }
    }

    fn port(&self) -> u16 {
        let address = self.listener.local_addr().unwrap();
        address.as_socket().unwrap().port()
    }
}

#[test]
fn a_host_that_never_answers_is_given_up() {
    let unreachable = Unreachable::new();
    // Its connections are made, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let tls = "&sslmode=verify-full";
    let key = sealing_key();
    let wanted = "no host has answered within 2s: check that PostgreSQL runs";
    let tried = |port: u16, more: &str, command: &[&str]| {
        let began = Instant::now();
        let url = format!("postgres://me@127.0.0.1:{port}/db?connect_timeout=1{more}");
        if command == ["doctor"] {
            let variables = [("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", &url)];
            let (code, text) = run_with(&variables, command);
            assert_eq!((code, text.matches(wanted).count()), (1, 1), "{text}");
        } else {
            let said = refused(&url, &[], command);
            assert!(said.contains(wanted), "{said}");
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{command:?}");
    };
    let tried = &tried;
    thread::scope(|scope| {
        for (port, more) in [(unreachable.port(), ""), (silent, ""), (silent, tls)] {
            for command in [["serve"].as_slice(), &["keys", "list"], &["doctor"]] {
                scope.spawn(move || tried(port, more, command));
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_answers_does_not_keep_a_replica_from_the_next_one() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let unreachable = Unreachable::new();
    let proxy = Proxy::start(cluster.port).await;
    let hosts = [unreachable.port(), proxy.port, cluster.port];
    let hosts = hosts.map(|port| format!("127.0.0.1:{port}")).join(",");
    let url = format!("postgres://postgres@{hosts}/{name}");
    let replica = Replica::start_at(&sealing_key(), &url);
    replica.until("/readyz", 200).await;
    let json = r#"{"username":"alice","password":"x"}"#;
    assert_eq!(replica.post("/auth", json).await.0, 401);
    // The one that it uses is silent from now on, as a machine that has lost its power.
    proxy.set(Fault::Silence);
    replica.until("/readyz", 503).await;
    let took = replica.until("/readyz", 200).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(replica.post("/auth", json).await.0, 401);
}

#[tokio::test]
async fn tables_that_another_role_has_made_or_put_a_trigger_on_are_refused() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let sql = |sql: &str| cluster.sql(&name, sql);
    sql("CREATE ROLE service LOGIN; CREATE ROLE mallory LOGIN; CREATE SCHEMA mallory AUTHORIZATION mallory;
         GRANT CREATE ON SCHEMA public TO service, mallory");
    let store = PostgresStore::open(&target(cluster.port, &name)).await;
    store.unwrap().close().await;
    let url = format!("postgres://service@127.0.0.1:{}/{name}", cluster.port);
    let key = sealing_key();
    let variables = [("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", &url)];
    let says = |part: &str| {
        let said = refused(&url, &[], &["serve"]);
        assert!(said.contains(part), "{said}");
        let (_, text) = run_with(&variables, &["doctor"]);
        assert!(
            text.contains("fail  schema") && text.contains(part),
            "{text}"
        );
    };
    sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO service");
    sql("ALTER TABLE users OWNER TO mallory");
    says("its table users belongs to the role mallory");
    sql("GRANT mallory TO service");
    let (_, text) = run_with(&variables, &["doctor"]);
    assert!(text.contains("ok    schema"), "{text}");
    sql(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER noted BEFORE INSERT ON users EXECUTE FUNCTION noted()",
    );
    says("its table users has a trigger or rule");
    sql("DROP TRIGGER noted ON users; CREATE RULE noted AS ON INSERT TO keys DO ALSO NOTHING");
    says("its table keys has a trigger or rule");
    sql(
        "DROP RULE noted ON keys; REVOKE mallory FROM service; ALTER TABLE users OWNER TO postgres;
         ALTER FUNCTION record_sign_ins(uuid, bigint[], text[], text[], text[], bigint[])
             OWNER TO mallory",
    );
    says("its function record_sign_ins belongs to the role mallory");
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_to_grant() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let sql = |sql: &str| cluster.sql(&name, sql);
    sql("CREATE ROLE weak LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let as_weak = format!("postgres://weak@127.0.0.1:{}/{name}", cluster.port);
    let create = "the user may not make the tables of its schema: grant the user CREATE and USAGE";
    let said = refused(&as_weak, &[], &["serve"]);
    assert!(said.contains(create), "{said}");
    let key = sealing_key();
    let variables = [("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", &as_weak)];
    let (_, text) = run_with(&variables, &["doctor"]);
    assert!(
        text.contains("fail  rights") && text.contains("make the tables that the next start"),
        "{text}"
    );
    sql("REVOKE USAGE ON SCHEMA public FROM PUBLIC");
    let said = refused(&as_weak, &[], &["serve"]);
    assert!(said.contains(create), "{said}");
    sql("GRANT USAGE ON SCHEMA public TO PUBLIC");
    let store = PostgresStore::open(&target(cluster.port, &name)).await;
    store.unwrap().close().await;
    let grant = "grant the user SELECT, INSERT, UPDATE and DELETE";
    let said = refused(&as_weak, &[], &["serve"]);
    assert!(said.contains(grant), "{said}");
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weak");
    sql("REVOKE SELECT ON auth_logs FROM weak");
    let said = refused(&as_weak, &[], &["serve"]);
    assert!(
        said.contains("may not use auth_logs:") && said.contains(grant),
        "{said}"
    );
    sql("GRANT SELECT ON auth_logs TO weak; REVOKE DELETE ON users FROM weak");
    let (_, text) = run_with(&variables, &["doctor"]);
    assert!(
        text.contains("fail  rights") && text.contains("or call, users"),
        "{text}"
    );
    sql("GRANT DELETE ON users TO weak; REVOKE EXECUTE ON FUNCTION admit_call FROM PUBLIC");
    let said = refused(&as_weak, &[], &["serve"]);
    assert!(
        said.contains("may not use admit_call:") && said.contains("EXECUTE on all functions"),
        "{said}"
    );
    sql("GRANT EXECUTE ON FUNCTION admit_call TO weak");
    let (_, text) = run_with(&variables, &["doctor"]);
    for line in [
        "ok    server          PostgreSQL",
        "ok    tls             the connection is not encrypted",
        "fail  durability      fsync is off",
        "warn  standbys",
        "ok    pooler          each connection has a session of its own",
        "ok    rights",
        "ok    database clock",
        "ok    schema",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let through = url(cluster.pgbouncer_port, &name);
    let variables = [("NOT_MY_KEY", key.as_str()), ("DATABASE_URL", &through)];
    let (_, text) = run_with(&variables, &["doctor"]);
    let line = "ok    pooler          one in transaction mode";
    assert!(text.contains(line), "{text}");
}

#[test]
fn passwords_are_found_as_libpq_finds_them() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    cluster.sql(&name, r"CREATE ROLE guarded LOGIN PASSWORD 'a:b\c'");
    let url = format!("postgres://guarded@127.0.0.1:{}/{name}", cluster.port);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let home = dir.path().to_str().unwrap();
    let tried = |variables: &[(&str, &str)], why: &str| {
        let said = refused(&url, variables, &["keys", "list"]);
        assert!(said.contains(why) && !said.contains("a:b"), "{why}: {said}");
    };
    tried(&[], "set PGPASSWORD or PGPASSFILE");
    tried(
        &[("PGPASSWORD", "wrong")],
        "correct the user in DATABASE_URL, or PGPASSWORD",
    );
    tried(&[("PGPASSWORD", r"a:b\c")], CONNECTED);
    // The first line that fits counts.
    let port = cluster.port;
    let lines = format!(
        "# a comment\nother:*:*:guarded:wrong\n127.0.0.1:1:*:*:wrong\n127.0.0.1:{port}:*:guarded:a\\:b\\\\c\n*:*:*:*:wrong\n"
    );
    let good = file("good", &lines, 0o600);
    tried(&[("PGPASSFILE", &good)], CONNECTED);
    tried(
        &[("PGPASSFILE", &file("all", "*:*:*:*:a\\:b\\\\c", 0o400))],
        CONNECTED,
    );
    tried(&[("PGPASSFILE", &file("open", &lines, 0o640))], "chmod 600");
    tried(
        &[("PGPASSFILE", "/nowhere")],
        "the file of passwords /nowhere",
    );
    file(".pgpass", &lines, 0o600);
    tried(&[("HOME", home)], CONNECTED);
    // Named, it goes before the usual one.
    let wrong = file("wrong", "*:*:*:*:wrong", 0o600);
    tried(
        &[("HOME", home), ("PGPASSFILE", &wrong)],
        "correct the user",
    );
    file(".pgpass", &lines, 0o644);
    tried(&[("HOME", home)], "chmod 600");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_while_sign_ins_wait_and_what_was_given_up_ends() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let store = PostgresStore::open(&target(cluster.port, &name))
        .await
        .unwrap();
    let url = url(cluster.port, &name);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .unwrap();
    // The number of statements that wait for the lock is looked up until it is right.
    let until = async |is_right: fn(usize) -> bool| {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
        );
        loop {
            let (cluster, sql) = (Arc::clone(&cluster), sql.clone());
            let look = move || cluster.sql("postgres", &sql).parse::<usize>().unwrap();
            if is_right(tokio::task::spawn_blocking(look).await.unwrap()) {
                return;
            }
        }
    };
    let sign_in = async || loop {
        let found = store.account_by_name("alice".into(), "alice".into()).await;
        assert!(
            matches!(found, Err(StoreError::Unavailable(_))),
            "{found:?}"
        );
    };
    let counted = async {
        until(|waiting| waiting >= 5).await;
        let alice = ClientKey::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let admitted = store.admit_call("auth", alice, 10).await;
        assert_eq!(admitted.unwrap(), Admission::Admitted);
        store.change_counter().await.unwrap();
        assert!(store.is_writable());
    };
    tokio::select! {
        _ = join_all((0..40).map(|_| sign_in())) => {}
        () = counted => {}
    }
    let ended = until(|waiting| waiting == 0);
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    let found = store.account_by_name("alice".into(), "alice".into()).await;
    assert_eq!(found.unwrap(), None);
}
