//! Roles that share a database with the service, and could put tables in front of its own.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::replicas::{Replica, run_with, sealing_key};

const PLANTED: &str = "
    CREATE FUNCTION planted(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''called''; END';
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = planted);
    CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RAISE ''called''; END';
    CREATE FUNCTION public.replace(text, text, name) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''called''; END'";

/// The database of a service whose role is `issuer`, beside the role `tenant`.
struct Shared {
    cluster: Arc<Cluster>,
    name: String,
    url: String,
    sealing_key: String,
}

impl Shared {
    fn sql(&self, sql: &str) {
        self.cluster.sql(&self.name, sql);
    }

    fn doctor(&self) -> String {
        let variables = [
            ("NOT_MY_KEY", self.sealing_key.as_str()),
            ("DATABASE_URL", &self.url),
        ];
        run_with(&variables, &["doctor"]).1
    }
}

#[tokio::test]
async fn a_role_that_could_put_tables_in_front_is_refused_and_doing_so_ends_a_replica() {
    let Some(cluster) = Cluster::shared() else {
        return;
    };
    let name = cluster.create_database();
    let shared = Shared {
        url: format!("postgres://issuer@127.0.0.1:{}/{name}", cluster.port),
        cluster,
        name,
        sealing_key: sealing_key(),
    };
    let database = &shared.name;
    shared.sql(
        "CREATE ROLE issuer LOGIN; CREATE ROLE tenant LOGIN;
         GRANT CREATE ON SCHEMA public TO issuer",
    );
    let variables = [
        ("NOT_MY_KEY", shared.sealing_key.as_str()),
        ("DATABASE_URL", &shared.url),
    ];
    let may_create = format!("CREATE ON DATABASE {database}");
    let in_new = "the role tenant may make tables and functions in a new schema";
    shared.sql(&format!("GRANT {may_create} TO tenant"));
    let (code, said) = run_with(&variables, &["serve"]);
    assert!(code == 2 && said.contains(in_new), "{said}");
    // What it may have made that fits the check better than PostgreSQL's own is not called.
    shared.sql(PLANTED);
    let (code, said) = run_with(&variables, &["serve"]);
    assert!(code == 2 && said.contains(in_new), "{said}");
    shared.sql("DROP FUNCTION planted, public.unnest, public.replace CASCADE");
    shared.sql(&format!("REVOKE {may_create} FROM tenant"));
    let replica = Replica::start_at(&shared.sealing_key, &shared.url);
    replica.until("/readyz", 200).await;
    assert!(shared.doctor().contains("ok    other roles"));

    shared.sql(&format!("GRANT {may_create} TO tenant"));
    let fails = |by: &str| {
        let report = shared.doctor();
        assert!(
            report.contains(&format!("fail  other roles     {by}")),
            "{report}"
        );
    };
    fails(in_new);
    // The path that begins with the schema of the tables leaves no room before it.
    let path = format!("ALTER ROLE issuer IN DATABASE {database} SET search_path");
    shared.sql(&format!("{path} = public"));
    assert!(shared.doctor().contains("ok    other roles"));
    shared.sql(&format!(
        "{path} TO DEFAULT; REVOKE {may_create} FROM tenant"
    ));
    assert!(shared.doctor().contains("ok    other roles"));
    let in_public = "the role tenant may make tables and functions in the schema public";
    shared.sql("GRANT CREATE ON SCHEMA public TO tenant");
    fails(in_public);
    // An emergency goes on.
    assert_eq!(run_with(&variables, &["keys", "rotate"]).0, 0);
    // One that the service may act as is no stranger, nor is one that may act as it.
    for trusted in ["tenant TO issuer", "issuer TO tenant"] {
        shared.sql(&format!("GRANT {trusted}"));
        assert!(shared.doctor().contains("ok    other roles"), "{trusted}");
        shared.sql(&format!("REVOKE {}", trusted.replace("TO", "FROM")));
        fails(in_public);
    }
    // A superuser counts as a member of all, which says nothing of them.
    let as_superuser = shared.url.replace("issuer@", "postgres@");
    let (_, report) = run_with(
        &[variables[0], ("DATABASE_URL", &as_superuser)],
        &["doctor"],
    );
    assert!(report.contains("fail  other roles"), "{report}");
    shared.sql("REVOKE CREATE ON SCHEMA public FROM tenant");

    // What a grant while it runs may lead to.
    replica.until("/readyz", 200).await;
    shared.sql(
        "CREATE SCHEMA issuer AUTHORIZATION tenant; GRANT USAGE ON SCHEMA issuer TO issuer;
         CREATE TABLE issuer.users (LIKE public.users); GRANT ALL ON issuer.users TO issuer;
         CREATE VIEW issuer.key_version AS SELECT pg_sleep(60)::text AS slept;
         GRANT SELECT ON issuer.key_version TO issuer",
    );
    assert_eq!(replica.exit_code().await, 1);
}
