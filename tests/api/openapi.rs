//! `openapi.json` and the answers of the service agree, in both directions: each
//! route, and each status and header of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::support::{FORM, JSON, Reply, TestApp};

const PATH: &str = "/openapi.json";
const DOCUMENTS: [&str; 3] = [
    "/.well-known/jwks.json",
    "/.well-known/jwks-schedule.json",
    PATH,
];
/// There when `ISSUER` is set.
const DISCOVERY: [&str; 2] = [
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
];

async fn description(app: &TestApp) -> Value {
    let reply = app.send("GET", PATH, &[], "").await;
    assert_eq!(reply.status, 200);
    reply.json()
}

/// The object that this one is, or refers to.
fn resolved<'a>(document: &'a Value, object: &'a Value) -> &'a Value {
    match object["$ref"].as_str() {
        Some(at) => document
            .pointer(at.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("nothing is at {at}")),
        None => object,
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .map(|it| it.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// `METHOD path` of each operation, with the operation.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations.map(move |(method, it)| (format!("{} {path}", method.to_uppercase()), it))
        })
        .collect()
}

/// The router cannot be asked for its routes, so the source is: the files beside `mod.rs`,
/// for `.route(`.
#[test]
fn no_route_is_without_a_description() {
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let mut routes = 0;
    for file in std::fs::read_dir("src/http").unwrap() {
        let path = file.unwrap().path();
        // The other listener; and one statement for both documents of an issuer, beside one
        // for the key set below its path.
        let skipped = ["operators.rs", "discovery.rs"];
        if path.is_file() && !skipped.iter().any(|name| path.ends_with(name)) {
            let text = std::fs::read_to_string(&path).unwrap();
            routes += text.matches(".route(").count() - text.matches(".route()").count();
        }
    }
    let paths = document["paths"].as_object().unwrap().len();
    assert_eq!(routes + DISCOVERY.len(), paths);
}

/// The table of the contract: routes, and the statuses that they may have.
#[tokio::test]
async fn each_route_and_status_of_the_contract_is_described_and_no_other() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut expected = BTreeMap::new();
    let posts = "400 403 405 408 413 415 500 503";
    expected.insert("POST /register".to_owned(), format!("201 409 429 {posts}"));
    expected.insert("POST /auth".to_owned(), format!("200 401 429 {posts}"));
    for (path, statuses, options) in [
        (DOCUMENTS[0], "200 304 405 412 503", "204 405"),
        (DOCUMENTS[1], "200 304 405 412 503", "204 405"),
        (DOCUMENTS[2], "200 304 405 412", "204 405"),
        (DISCOVERY[0], "200 304 404 405 412", "204 404 405"),
        (DISCOVERY[1], "200 304 404 405 412", "204 404 405"),
    ] {
        expected.insert(format!("GET {path}"), statuses.to_owned());
        expected.insert(format!("HEAD {path}"), statuses.to_owned());
        expected.insert(format!("OPTIONS {path}"), options.to_owned());
    }
    for (method, statuses) in [
        ("GET", "200 405 503"),
        ("HEAD", "200 405 503"),
        ("OPTIONS", "204 405"),
    ] {
        expected.insert(format!("{method} /"), statuses.to_owned());
    }
    for (path, statuses) in [("/healthz", "200 405"), ("/readyz", "200 405 503")] {
        expected.insert(format!("GET {path}"), statuses.to_owned());
        expected.insert(format!("HEAD {path}"), statuses.to_owned());
    }
    let described = operations(&document);
    assert_eq!(
        described.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (operation, statuses) in &expected {
        let statuses: BTreeSet<_> = statuses.split(' ').collect();
        assert_eq!(
            keys(&described[operation]["responses"]),
            statuses,
            "{operation}"
        );
    }
    let names = described
        .values()
        .map(|it| it["operationId"].as_str().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>().len(), described.len());
}

#[tokio::test]
async fn the_headers_of_the_contract_are_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let described = operations(&document);
    let always = ["x-content-type-options"];
    let cached = [
        "access-control-allow-origin",
        "access-control-expose-headers",
        "cache-control",
        "etag",
    ];
    for (operation, status, more) in [
        ("POST /register", "201", &["cache-control"][..]),
        ("POST /auth", "200", &["cache-control"]),
        ("POST /auth", "400", &["cache-control"]),
        ("POST /auth", "401", &["cache-control", "www-authenticate"]),
        ("POST /auth", "405", &["allow", "cache-control"]),
        ("POST /auth", "429", &["cache-control", "retry-after"]),
        ("POST /auth", "503", &["cache-control", "retry-after"]),
        ("POST /register", "503", &["cache-control", "retry-after"]),
        ("HEAD /healthz", "200", &["cache-control"]),
        ("GET /readyz", "405", &["allow", "cache-control"]),
        ("GET /readyz", "503", &["cache-control", "retry-after"]),
        ("GET /.well-known/jwks.json", "200", &cached),
        ("HEAD /.well-known/jwks.json", "304", &cached),
        (
            "GET /.well-known/jwks.json",
            "412",
            &["access-control-allow-origin", "cache-control"],
        ),
        (
            "GET /.well-known/jwks.json",
            "405",
            &["access-control-allow-origin", "allow", "cache-control"],
        ),
        (
            "GET /.well-known/jwks.json",
            "503",
            &[
                "access-control-allow-origin",
                "cache-control",
                "retry-after",
            ],
        ),
        (
            "OPTIONS /.well-known/jwks.json",
            "204",
            &[
                "access-control-allow-headers",
                "access-control-allow-methods",
                "access-control-allow-origin",
                "access-control-max-age",
                "allow",
            ],
        ),
    ] {
        let response = resolved(&document, &described[operation]["responses"][status]);
        let headers = &response["headers"];
        // Caches would give one client's id to others.
        let id = (!more.contains(&"etag")).then_some("x-request-id");
        let expected = always.into_iter().chain(id);
        let expected = expected.chain(more.iter().copied()).collect();
        assert_eq!(keys(headers), expected, "{operation} {status}");
        for (name, header) in headers.as_object().unwrap() {
            assert_eq!(resolved(&document, header)["required"], true, "{name}");
        }
    }
}

/// Compares one answer with its description.
#[track_caller]
fn is_described(document: &Value, operation: &str, reply: &Reply) {
    let status = reply.status.as_str();
    let described = &operations(document)[operation]["responses"][status];
    let described = resolved(document, described);
    assert!(described.is_object(), "{operation} {status}");
    let own = |name: &&str| !["content-length", "content-type", "connection"].contains(name);
    let sent: BTreeSet<_> = reply
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(own)
        .collect();
    assert_eq!(keys(&described["headers"]), sent, "{operation} {status}");
    for (name, header) in described["headers"].as_object().unwrap() {
        let schema = &resolved(document, header)["schema"];
        if let Some(values) = schema["enum"].as_array() {
            let sent = reply.header(name).into();
            assert!(values.contains(&sent), "{operation} {status} {name}");
        }
        if schema["pattern"] == "^public, max-age=[0-9]+$" {
            assert_eq!(reply.header(name), "public, max-age=300");
        }
    }
    let Some(schema) = described["content"]["application/json"].get("schema") else {
        assert_eq!(reply.text(), "", "{operation} {status}");
        return;
    };
    assert_eq!(reply.header("content-type"), "application/json");
    let schema = resolved(document, schema);
    let members = reply.json();
    let required = schema["required"].as_array().unwrap().iter();
    assert!(
        keys(&members).is_subset(&keys(&schema["properties"]))
            || schema["properties"]["openapi"].is_object()
    );
    for name in required {
        assert!(
            members.get(name.as_str().unwrap()).is_some(),
            "{operation} {status} {name}"
        );
    }
}

#[tokio::test]
async fn what_a_post_is_answered_is_described() {
    let app = TestApp::with_settings("REGISTER_RATE=10").await;
    let document = description(&app).await;
    let password = app.register("alice").await;
    let alice = format!(r#"{{"username":"alice","password":"{password}"}}"#);
    let (bob, taken) = (
        r#"{"username":"bob","email":"bob@example.com"}"#,
        r#"{"username":"alice","email":"bob@example.com"}"#,
    );
    let xml = ("content-type", "text/xml");
    let large = "x".repeat(16 * 1024 + 1);
    let mut seen = BTreeSet::new();
    for (path, header, body, status) in [
        ("/register", JSON, bob, 201),
        ("/register", JSON, taken, 409),
        ("/register", JSON, "{}", 400),
        ("/register", FORM, &large, 413),
        ("/register", xml, "x", 415),
        ("/auth", JSON, &alice, 200),
        ("/auth?expired", JSON, &alice, 200),
        ("/auth", FORM, "username=alice&password=x", 401),
        ("/auth", JSON, "{}", 400),
        ("/auth", FORM, "", 401),
        ("/auth", FORM, &large, 413),
        ("/auth", xml, "x", 415),
    ] {
        let reply = app.send("POST", path, &[header], body.to_owned()).await;
        assert_eq!(reply.status, status, "{path} {body}");
        let operation = format!("POST {}", path.trim_end_matches("?expired"));
        is_described(&document, &operation, &reply);
        seen.insert(reply.status);
    }
    for path in ["/auth", "/register"] {
        let elsewhere = [("sec-fetch-site", "cross-site")];
        let reply = app.send("POST", path, &elsewhere, "").await;
        assert_eq!(reply.status, 403);
        is_described(&document, &format!("POST {path}"), &reply);
        let reply = app.send("DELETE", path, &[], "").await;
        is_described(&document, &format!("POST {path}"), &reply);
    }
    for path in ["/auth", "/register"] {
        for _ in 0..10 {
            app.send("POST", path, &[], "").await;
        }
        let refused = app.send("POST", path, &[], "").await;
        assert_eq!(refused.status, 429);
        is_described(&document, &format!("POST {path}"), &refused);
    }
    // Without a database, for both routes.
    app.advance(Duration::from_secs(2));
    app.store.clone().close().await;
    for (path, body) in [("/register", bob), ("/auth", &alice)] {
        let reply = app.send("POST", path, &[JSON], body.to_owned()).await;
        assert!(reply.status.is_server_error(), "{path} {}", reply.status);
        is_described(&document, &format!("POST {path}"), &reply);
    }
}

#[tokio::test]
async fn what_a_document_is_answered_is_described() {
    let app = TestApp::with_settings("ISSUER=https://issuer.example").await;
    let document = description(&app).await;
    for path in DOCUMENTS.into_iter().chain(DISCOVERY) {
        for (method, headers, status) in [
            ("GET", &[][..], 200),
            ("GET", &[("if-none-match", "*")], 304),
            ("HEAD", &[("if-none-match", "*")], 304),
            ("GET", &[("if-match", "\"other\"")], 412),
            ("HEAD", &[("if-match", "\"other\"")], 412),
            ("OPTIONS", &[], 204),
        ] {
            let reply = app.send(method, path, headers, "").await;
            assert_eq!(reply.status, status, "{method} {path}");
            is_described(&document, &format!("{method} {path}"), &reply);
        }
        let head = app.send("HEAD", path, &[], "").await;
        is_described(&document, &format!("HEAD {path}"), &head);
        assert_eq!(
            head.header("etag"),
            app.send("GET", path, &[], "").await.header("etag")
        );
        let wrong = app.send("PUT", path, &[], "").await;
        is_described(&document, &format!("GET {path}"), &wrong);
    }
}

#[tokio::test]
async fn without_an_issuer_its_documents_are_missing_as_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    for path in DISCOVERY {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let reply = app.send(method, path, &[], "").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            is_described(&document, &format!("{method} {path}"), &reply);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_without_keys_is_answered_as_described() {
    let app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    let document = description(&app).await;
    for path in &DOCUMENTS[..2] {
        let reply = app.send("GET", path, &[], "").await;
        assert_eq!(reply.status, 503, "{path}");
        is_described(&document, &format!("GET {path}"), &reply);
    }
}

#[tokio::test]
async fn what_is_said_of_health_is_described() {
    let app = TestApp::without_keys(tempfile::tempdir().unwrap(), "");
    let document = description(&app).await;
    for (method, path, status) in [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 503),
        ("HEAD", "/readyz", 503),
    ] {
        let reply = app.send(method, path, &[], "").await;
        assert_eq!(reply.status, status, "{method} {path}");
        is_described(&document, &format!("{method} {path}"), &reply);
        let wrong = app.send("OPTIONS", path, &[], "").await;
        is_described(&document, &format!("GET {path}"), &wrong);
    }
    let app = TestApp::start().await;
    for method in ["GET", "HEAD"] {
        let reply = app.send(method, "/readyz", &[], "").await;
        assert_eq!(reply.status, 200);
        is_described(&document, &format!("{method} /readyz"), &reply);
    }
}

#[tokio::test]
async fn the_list_of_routes_is_answered_as_described_and_the_page_has_the_same_headers() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    for (method, of, status) in [
        ("GET", "GET", 200),
        ("HEAD", "HEAD", 200),
        ("OPTIONS", "OPTIONS", 204),
        ("POST", "GET", 405),
    ] {
        let reply = app.send(method, "/", &[], "").await;
        assert_eq!(reply.status, status, "{method}");
        is_described(&document, &format!("{of} /"), &reply);
    }
    let page = app.send("GET", "/", &[("accept", "text/html")], "").await;
    let described = keys(&operations(&document)["GET /"]["responses"]["200"]["headers"]);
    for name in described {
        assert!(page.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_the_routes_take_is_described() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    for (operation, needed, schema, fields) in [
        ("POST /register", true, "NewAccount", ["email", "username"]),
        ("POST /auth", false, "Credentials", ["password", "username"]),
    ] {
        let body = &operations(&document)[operation]["requestBody"];
        assert_eq!(body["required"], needed);
        let types = ["application/json", "application/x-www-form-urlencoded"];
        assert_eq!(keys(&body["content"]), types.into());
        let at = format!("#/components/schemas/{schema}");
        for kind in types {
            let schema = &body["content"][kind]["schema"];
            let first = schema["anyOf"].get(0).unwrap_or(schema);
            assert_eq!(first["$ref"], at);
        }
        let described = &document["components"]["schemas"][schema];
        assert_eq!(keys(&described["properties"]), fields.into());
        assert_eq!(described["required"].as_array().unwrap().len(), 2);
    }
    let auth = operations(&document)["POST /auth"];
    let taken = auth["parameters"].as_array().unwrap().iter();
    let taken = taken.map(|it| resolved(&document, it)["name"].as_str().unwrap());
    assert_eq!(taken.collect::<Vec<_>>(), ["x-request-id", "expired"]);
    assert_eq!(auth["security"], serde_json::json!([{}, {"basic": []}]));
    let basic = &document["components"]["securitySchemes"]["basic"];
    assert_eq!(
        (&basic["type"], &basic["scheme"]),
        (&"http".into(), &"basic".into())
    );
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_component_is_used() {
    let app = TestApp::start().await;
    let document = description(&app).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let mut parts = BTreeSet::new();
    for kind in ["schemas", "headers", "parameters", "responses"] {
        for name in keys(&document["components"][kind]) {
            parts.insert(format!("#/components/{kind}/{name}"));
        }
    }
    assert_eq!(found, parts.iter().map(String::as_str).collect());
}

#[tokio::test]
async fn the_description_is_the_same_bytes_after_a_restart_and_with_an_issuer() {
    let app = TestApp::start().await;
    let first = app.send("GET", PATH, &[], "").await;
    assert_eq!(first.header("cache-control"), "public, max-age=300");
    let again = app.restart().await.send("GET", PATH, &[], "").await;
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("etag"), again.header("etag"));
    let with_issuer = TestApp::with_settings("ISSUER=https://issuer.example/t/1").await;
    let same = with_issuer.send("GET", PATH, &[], "").await;
    assert_eq!(first.body, same.body);
}
