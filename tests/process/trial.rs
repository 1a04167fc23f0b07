//! `trial` on verifiers whose faults are known.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use jwks_server::clock::{Clock as _, SystemClock};
use jwks_server::domain::verification::{Expectations, KeySet, cause, contents, verify};
use jwks_server::trial::{TrialStage, cases};
use serde_json::{Value, json};

use crate::support::{Connection, JWKS, command, own_address, program};

const PORT: u16 = 8790;
/// Between two fetches of a verifier.
const PAUSE: Duration = Duration::from_secs(1);
const AUDIENCE: &str = "api";
const OK: Option<u16> = Some(200);
const REFUSED: Option<u16> = Some(401);
const FINDINGS: i32 = 1;
const CONTROLS: i32 = 2;
const NOT_RUN: i32 = 3;

fn trial(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    command(dir.path())
        .arg("trial")
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, and the document of `--json`.
fn report(args: &[&str]) -> (i32, Value) {
    let done = trial(&[args, &["--json"]].concat());
    let document = serde_json::from_slice(&done.stdout);
    let code = done.status.code().unwrap();
    (
        code,
        document.unwrap_or_else(|_| panic!("{}", text(&done.stderr))),
    )
}

fn count(stage: TrialStage) -> usize {
    let cases = cases().unwrap();
    cases.iter().filter(|case| case.stage() == stage).count()
}

fn verdict<'a>(report: &'a Value, id: &str) -> &'a str {
    let cases = report["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["id"] == id);
    case.unwrap_or_else(|| panic!("no {id}"))["verdict"]
        .as_str()
        .unwrap()
}

/// The URL of a server that answers by a status what `judge` makes of the head of a
/// request; for none it ends the connection.
fn server(judge: impl Fn(&str) -> Option<u16> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let judge = Arc::new(judge);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let judge = Arc::clone(&judge);
            thread::spawn(move || answer_all(&stream, &*judge));
        }
    });
    url
}

fn answer_all(stream: &TcpStream, judge: &dyn Fn(&str) -> Option<u16>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(1..) => {}
                _ => return,
            }
        }
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |it| it.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        head += &text(&body);
        let Some(status) = judge(&head) else { return };
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

/// True when a right verifier accepts the token, by the key set of the issuer.
fn is_good(issuer: SocketAddr, token: &str) -> bool {
    let reply = Connection::open(issuer).try_send("GET", JWKS, &[], b"");
    let set = reply.unwrap();
    set.status == 200 && is_good_by(&set.body, issuer, token)
}

fn is_good_by(set: &[u8], issuer: SocketAddr, token: &str) -> bool {
    let Ok(set) = KeySet::parse(set) else {
        return false;
    };
    let expected = Expectations {
        issuer: Some(format!("http://{issuer}")),
        audience: Some(AUDIENCE.to_owned()),
        leeway: Duration::from_secs(60),
    };
    cause(&verify(token, &set, &expected, SystemClock::new().now())).is_none()
}

fn issuer() -> SocketAddr {
    (own_address(), PORT).into()
}

fn bearer(head: &str) -> &str {
    let is_it = |line: &&str| {
        line.to_ascii_lowercase()
            .starts_with("authorization: bearer ")
    };
    head.lines().find(is_it).map_or("", |line| &line[22..])
}

#[test]
fn a_right_verifier_has_no_finding_that_an_rfc_demands_or_advises() {
    let issuer = issuer();
    let url = server(move |head| {
        if is_good(issuer, bearer(head)) {
            OK
        } else {
            REFUSED
        }
    });
    let listen = issuer.to_string();
    let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
    let (code, report) = report(&[&given[..], &["--grade", "should"]].concat());
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(
        report["cases"].as_array().unwrap().len(),
        count(TrialStage::Tokens)
    );
    assert_eq!(verdict(&report, "aud-list-with"), "accepted");
    assert_eq!(verdict(&report, "alg-none"), "refused");
}

#[test]
fn the_command_verify_of_this_service_has_no_finding_that_an_rfc_demands_or_advises() {
    let line = format!(
        "{} verify - --jwks $TRIAL_JWKS --issuer $TRIAL_ISSUER --audience $TRIAL_AUDIENCE",
        program().display()
    );
    let given = [
        "--command",
        &line,
        "--audience",
        AUDIENCE,
        "--refuse",
        "2,10-19",
    ];
    let (code, report) = report(&[&given[..], &["--grade", "should"]].concat());
    assert_eq!(code, 0, "{report:#}");
}

#[test]
fn a_verifier_that_accepts_all_has_a_finding_for_each_bad_token() {
    let (code, report) = report(&["--url", &server(|_| OK), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, FINDINGS);
    for case in report["cases"].as_array().unwrap() {
        assert_eq!(case["verdict"], "accepted", "{case}");
        let is_bad = !case["finding"].is_null();
        assert_eq!(is_bad, case["mend"].is_string(), "{case}");
    }
    assert!(
        report["findings"]["must"].as_u64().unwrap() > 70,
        "{report:#}"
    );
}

#[test]
fn nothing_is_said_of_a_verifier_that_accepts_no_good_token() {
    let silent = server(|_| {
        thread::park();
        None
    });
    let (refuses, fails, closes) = (server(|_| REFUSED), server(|_| Some(500)), server(|_| None));
    let started = Instant::now();
    let tried = |given: &[&str], said: &str| {
        let done = trial(&[given, &["--listen", "127.0.0.1:0"]].concat());
        let error = text(&done.stderr);
        assert_eq!(done.status.code(), Some(CONTROLS), "{error}");
        assert!(error.contains(said), "{error}");
        assert_eq!(text(&done.stdout).lines().count(), 2, "no case was tried");
    };
    // Side by side, since two of them only wait.
    thread::scope(|scope| {
        for (given, said) in [
            (["--url", &refuses], "refused (status 401)"),
            (["--url", &fails], "error (status 500)"),
            (["--url", &closes], "no answer ("),
            (["--url", &silent], "no answer (none within 5 s)"),
            (["--command", "kill -9 $$"], "crash (signal 9: )"),
            (
                ["--command", "echo why >&2; exit 7"],
                "crash (exit code 7: why)",
            ),
            (["--command", "exit 1"], "refused (exit code 1)"),
            (["--command", "sleep 1000"], "no answer (none within 5 s)"),
        ] {
            scope.spawn(move || tried(&given, said));
        }
    });
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_fault_is_found_by_the_case_that_is_named_for_it() {
    let issuer = issuer();
    let url = server(move |head| {
        let token = bearer(head);
        let (header, claims) = contents(token).unwrap_or_default();
        match (&header["alg"], &claims["aud"]) {
            _ if is_good(issuer, token) => OK,
            (Value::String(alg), _) if alg == "none" => OK,
            (Value::String(alg), _) if alg == "HS256" => Some(500),
            (Value::String(alg), _) if alg == "PS256" => None,
            (_, Value::Number(_)) => {
                thread::sleep(Duration::from_secs(6));
                None
            }
            (_, Value::Array(all)) if all.is_empty() => OK,
            _ if header["jku"].is_string() => {
                let url = header["jku"].as_str().unwrap();
                let (addr, _) = url["http://".len()..].split_once('/').unwrap();
                let mut attacker = Connection::open(addr.parse().unwrap());
                let set = attacker.try_send("GET", "/jwks.json", &[], b"").unwrap();
                assert_eq!(set.json()["keys"][0]["kid"], header["kid"]);
                REFUSED
            }
            _ => REFUSED,
        }
    });
    let listen = issuer.to_string();
    let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
    let (code, report) = report(&given);
    assert_eq!(code, FINDINGS);
    for (id, expected) in [
        ("alg-none", "accepted"),
        ("alg-none-title", "refused"),
        ("alg-hs256-pem", "error"),
        ("alg-ps256", "no answer"),
        ("aud-number", "no answer"),
        ("aud-empty-list", "accepted"),
        ("aud-wrong", "refused"),
        ("jku-own", "refused"),
    ] {
        assert_eq!(verdict(&report, id), expected, "{id}");
    }
    let cases = report["cases"].as_array().unwrap();
    let jku = cases.iter().find(|case| case["id"] == "jku-own").unwrap();
    assert_eq!(
        jku["finding"], "should",
        "it called the attacker's server: {jku}"
    );
}

#[test]
fn a_right_verifier_has_no_finding_in_any_key_set() {
    let issuer = issuer();
    let url = server(move |head| match is_good(issuer, bearer(head)) {
        true => OK,
        false => REFUSED,
    });
    let listen = issuer.to_string();
    let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
    let given = [&given[..], &["--stages", "sets", "--grade", "should"]].concat();
    let (code, report) = report(&given);
    assert_eq!(code, 0, "{report:#}");
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), count(TrialStage::Sets));
    for case in cases {
        assert_ne!(case["verdict"], "says nothing", "{case}");
    }
}

#[test]
fn a_fault_with_key_sets_is_found_by_the_case_that_is_named_for_it() {
    let issuer = issuer();
    // Accepts all tokens while there is no key, fails at an unknown kty, and takes a
    // set of any status and a key for any use.
    let url = server(move |head| {
        let fetched = Connection::open(issuer).try_send("GET", JWKS, &[], b"");
        let set = fetched.unwrap().text().replace("\"enc\"", "\"sig\"");
        match set.contains("\"XYZ\"") {
            true => Some(500),
            false if set == r#"{"keys":[]}"# => OK,
            false if is_good_by(set.as_bytes(), issuer, bearer(head)) => OK,
            false => REFUSED,
        }
    });
    let listen = issuer.to_string();
    let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
    let (code, report) = report(&[&given[..], &["--stages", "sets"]].concat());
    assert_eq!(code, FINDINGS);
    for (id, expected) in [
        ("set-unknown-kty", "error"),
        ("set-empty", "accepted"),
        ("set-use-enc", "accepted"),
        ("set-500", "accepted"),
        ("set-alg-other", "refused"),
        ("set-html", "refused"),
    ] {
        assert_eq!(verdict(&report, id), expected, "{id}");
    }
    assert_eq!(report["findings"]["must"], 1, "{report:#}");
}

fn walks(url: &str, listen: &str, within: &str) -> Value {
    let stages = [
        "--stages",
        "flood,outage,rotation,emergency",
        "--within",
        within,
    ];
    let given = ["--url", url, "--listen", listen, "--audience", AUDIENCE];
    report(&[&given[..], &stages, &["--grade", "policy"]].concat()).1
}

fn finding<'a>(report: &'a Value, id: &str) -> (&'a Value, &'a str) {
    let cases = report["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["id"] == id).unwrap();
    (&case["finding"], case["detail"].as_str().unwrap())
}

#[test]
fn a_verifier_that_always_fetches_follows_each_change_and_fails_with_its_issuer() {
    let issuer = issuer();
    let url = server(move |head| match is_good(issuer, bearer(head)) {
        true => OK,
        false => REFUSED,
    });
    let report = walks(&url, &issuer.to_string(), "1s");
    let (grade, detail) = finding(&report, "flood");
    assert_eq!(grade, "policy", "{detail}");
    assert!(detail.contains("; 100 fetches"), "{detail}");
    let (grade, detail) = finding(&report, "outage");
    assert_eq!(grade, "policy", "{detail}");
    assert!(
        detail.contains("the new key was known after 0."),
        "{detail}"
    );
    for id in ["rotation", "emergency"] {
        let (grade, detail) = finding(&report, id);
        assert!(grade.is_null(), "{detail}");
        assert!(detail.contains("known after 0."), "{detail}");
    }
}

#[test]
fn a_verifier_that_keeps_what_it_has_learnt_never_forgets_a_key() {
    let issuer = issuer();
    let held = Mutex::new(Vec::<Value>::new());
    let url = server(move |head| {
        let token = bearer(head);
        let (header, _) = contents(token).unwrap_or_default();
        let mut held = held.lock().unwrap();
        if held.iter().all(|key| key["kid"] != header["kid"]) && !token.is_empty() {
            let set = Connection::open(issuer)
                .try_send("GET", JWKS, &[], b"")
                .unwrap();
            if set.status == 200 {
                held.extend(set.json()["keys"].as_array().unwrap().iter().cloned());
            }
        }
        let set = json!({ "keys": *held }).to_string();
        match is_good_by(set.as_bytes(), issuer, token) {
            true => OK,
            false => REFUSED,
        }
    });
    let report = walks(&url, &issuer.to_string(), "1s");
    for id in ["outage", "rotation"] {
        let (grade, detail) = finding(&report, id);
        assert!(grade.is_null(), "{detail}");
    }
    let (grade, detail) = finding(&report, "emergency");
    assert_eq!(grade, "should", "{detail}");
    assert!(
        detail.ends_with("the old one was not forgotten in time"),
        "{detail}"
    );
}

#[test]
fn a_verifier_that_fetches_no_more_stops_at_the_first_rotation() {
    // After the two controls, or once more for the first token of the stage.
    for (most, expected) in [
        (
            2,
            "the first key was not known in time; a token of the key before it: accepted",
        ),
        (3, "; the new key was not known in time; 0 of "),
    ] {
        let issuer = issuer();
        let held = Mutex::new((0, Vec::new()));
        let url = server(move |head| {
            let mut held = held.lock().unwrap();
            if held.0 < most {
                let set = Connection::open(issuer).try_send("GET", JWKS, &[], b"");
                *held = (held.0 + 1, set.unwrap().body);
            }
            match is_good_by(&held.1, issuer, bearer(head)) {
                true => OK,
                false => REFUSED,
            }
        });
        let listen = issuer.to_string();
        let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
        let stages = [
            "--stages", "rotation", "--within", "1s", "--grade", "should",
        ];
        let (code, report) = report(&[&given[..], &stages].concat());
        assert_eq!(code, FINDINGS, "{report:#}");
        let (grade, detail) = finding(&report, "rotation");
        assert_eq!(grade, "should", "{detail}");
        assert!(detail.contains(expected), "{detail}");
    }
}

#[test]
fn a_verifier_that_pauses_between_fetches_is_waited_for() {
    let issuer = issuer();
    let held = Mutex::new((Instant::now() - PAUSE, json!([])));
    let url = server(move |head| {
        let token = bearer(head);
        let (header, _) = contents(token).unwrap_or_default();
        let mut held = held.lock().unwrap();
        let is_known = |key: &Value| key["kid"] == header["kid"];
        let is_new = !held.1.as_array().unwrap().iter().any(is_known);
        if is_new && !header.is_null() && held.0.elapsed() >= PAUSE {
            let set = Connection::open(issuer).try_send("GET", JWKS, &[], b"");
            let set = set.unwrap();
            if set.status == 200 {
                *held = (Instant::now(), set.json()["keys"].clone());
            }
        }
        let set = json!({ "keys": held.1 }).to_string();
        match is_good_by(set.as_bytes(), issuer, token) {
            true => OK,
            false => REFUSED,
        }
    });
    let report = walks(&url, &issuer.to_string(), "6s");
    for id in ["flood", "outage", "rotation", "emergency"] {
        let (grade, detail) = finding(&report, id);
        // A flood that takes long on a busy machine causes as many fetches.
        assert!(grade.is_null() || id == "flood", "{detail}");
        assert_eq!(verdict(&report, id), "accepted", "{detail}");
        let waited = detail.strip_prefix("the first key was known after ");
        let seconds = waited.and_then(|it| it.split(' ').next()?.parse::<f64>().ok());
        assert!(seconds.is_some_and(|it| it < 6.0), "{detail}");
    }
}

#[test]
fn a_verifier_that_is_not_there_cannot_be_tried() {
    let url = "http://127.0.0.1:1/me";
    let done = trial(&["--url", url, "--listen", "127.0.0.1:0"]);
    let error = text(&done.stderr);
    assert_eq!(done.status.code(), Some(NOT_RUN), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let expected = format!("the verifier cannot be reached: {url}: Connection refused");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_bad_token_that_makes_the_verifier_fail_has_one_grade_in_all_reports() {
    let issuer = issuer();
    let url = server(move |head| match is_good(issuer, bearer(head)) {
        true => OK,
        false => Some(500),
    });
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name).to_str().unwrap().to_owned();
    let (listen, junit, sarif) = (issuer.to_string(), path("junit.xml"), path("trial.sarif"));
    // Of grades policy and must.
    let only = ["--only", "kid-missing,alg-none", "--grade", "should"];
    let files = ["--junit", &junit, "--sarif", &sarif];
    let given = ["--url", &url, "--listen", &listen, "--audience", AUDIENCE];
    let given = [&given[..], &only, &files].concat();
    let terminal = text(&trial(&given).stdout);
    let markdown = text(&trial(&[&given[..], &["--markdown"]].concat()).stdout);
    let (code, report) = report(&given);
    assert_eq!(code, FINDINGS);
    let (junit, sarif) = [junit, sarif]
        .map(|it| std::fs::read_to_string(it).unwrap())
        .into();
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    for (at, id) in ["alg-none", "kid-missing"].into_iter().enumerate() {
        let line = format!("FAIL  error        should {id} ");
        assert!(terminal.contains(&line), "{terminal}");
        let found = format!("{id} (should, RFC 6750 3.1): error: ");
        assert!(terminal.contains(&found), "{terminal}");
        let row = format!("| {id} | should (RFC 6750 3.1) | error | ");
        assert!(markdown.contains(&row), "{markdown}");
        let case = &report["cases"][at];
        assert_eq!(
            [&case["id"], &case["grade"], &case["finding"], &case["rfc"]],
            [id, "should", "should", "RFC 6750 3.1"]
        );
        let failure = format!("name=\"{id}\"><failure message=\"error: ");
        let failure = junit.lines().find(|it| it.contains(&failure)).unwrap();
        assert!(failure.contains(" (should, RFC 6750 3.1)\""), "{failure}");
        assert_eq!(sarif["runs"][0]["results"][at]["level"], "warning");
    }
}

#[test]
fn nothing_is_said_of_key_sets_that_the_verifier_does_not_fetch() {
    let given = ["--url", &server(|_| OK), "--listen", "127.0.0.1:0"];
    let (code, report) = report(&[&given[..], &["--stages", "sets"]].concat());
    assert_eq!(code, CONTROLS);
    for case in report["cases"].as_array().unwrap() {
        assert_eq!(case["verdict"], "says nothing", "{case}");
    }
}

#[test]
fn a_case_beside_which_a_good_token_is_refused_says_nothing() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    // A quota: the first two requests are the controls.
    let url = server(
        move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0..10 => OK,
            _ => Some(429),
        },
    );
    let (_, report) = report(&["--url", &url, "--listen", "127.0.0.1:0"]);
    let cases = report["cases"].as_array().unwrap();
    let says_nothing = |case: &&Value| case["verdict"] == "says nothing";
    assert_eq!(cases.iter().position(|it| says_nothing(&it)), Some(4));
    assert_eq!(cases.iter().filter(says_nothing).count(), cases.len() - 4);
}

#[test]
fn a_token_goes_where_it_was_told_to() {
    for (option, mark) in [
        ("--header", "\r\nx-token: eyJ"),
        ("--cookie", "\r\ncookie: x-token=eyJ"),
        ("--query", "GET /?x-token=eyJ"),
        ("--form", "\r\n\r\nx-token=eyJ"),
    ] {
        let url = server(move |head| if head.contains(mark) { OK } else { REFUSED });
        let given = ["--url", &url, option, "x-token", "--listen", "127.0.0.1:0"];
        let (code, report) = report(&[&given[..], &["--only", "alg-none"]].concat());
        assert_eq!((code, verdict(&report, "alg-none")), (FINDINGS, "accepted"));
    }
}

#[test]
fn a_finding_is_accepted_with_a_reason_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("known");
    let path = file.to_str().unwrap();
    let url = server(|_| OK);
    let given = [
        "--url",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--only",
        "alg-none",
    ];
    let given = [&given[..], &["--known", path]].concat();
    for (known, expected) in [
        ("# none\n", FINDINGS),
        ("alg-none a gateway refuses it\n", 0),
        ("alg-none\n", NOT_RUN),
        ("no-case a reason\n", NOT_RUN),
    ] {
        std::fs::write(&file, known).unwrap();
        let done = trial(&given);
        assert_eq!(done.status.code(), Some(expected), "{}", text(&done.stderr));
    }
}

#[test]
fn the_reports_for_other_programs_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name).to_str().unwrap().to_owned();
    let (junit, sarif, known) = (path("junit.xml"), path("trial.sarif"), path("known"));
    std::fs::write(&known, "alg-none a <gateway> refuses it\n").unwrap();
    let line = "echo '<b>|& ~a~ @b http://c' >&2; exit 0";
    let only = ["--only", "alg-none,alg-lower,kid-missing,header-unknown"];
    let files = ["--junit", &junit, "--sarif", &sarif, "--known", &known];
    let given = [&["--command", line, "--markdown"][..], &only, &files].concat();
    let done = trial(&given);
    assert_eq!(done.status.code(), Some(FINDINGS), "{}", text(&done.stderr));

    let markdown = text(&done.stdout);
    assert!(
        markdown.contains("4 cases; findings: 1 must, 0 should, 1 policy"),
        "{markdown}"
    );
    let row = "| alg-lower | must (RFC 7515 4.1.1) | accepted |";
    assert_eq!(markdown.lines().filter(|it| it.starts_with(row)).count(), 1);
    assert!(
        markdown.contains(r"\<b\>\|\& \~a\~ \@b http\://c"),
        "{markdown}"
    );
    assert!(
        markdown.contains(r"accepted: a \<gateway\> refuses it"),
        "{markdown}"
    );

    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(
        junit.contains(r#"tests="4" failures="1" errors="0" skipped="1""#),
        "{junit}"
    );
    let failed =
        r#"<testcase classname="trial.tokens" name="alg-lower"><failure message="accepted: "#;
    assert!(junit.contains(failed), "{junit}");
    assert!(
        junit.contains("&lt;b&gt;|&amp; ~a~") && junit.contains("&lt;gateway&gt;"),
        "{junit}"
    );

    let sarif: Value = serde_json::from_str(&std::fs::read_to_string(sarif).unwrap()).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 4);
    let results = run["results"].as_array().unwrap();
    let levels = results.iter().map(|it| (&it["ruleId"], &it["level"]));
    let levels: Vec<_> = levels
        .map(|(id, level)| (id.as_str(), level.as_str()))
        .collect();
    let expected = [
        ("alg-none", "error"),
        ("alg-lower", "error"),
        ("kid-missing", "note"),
    ];
    assert_eq!(levels, expected.map(|(id, level)| (Some(id), Some(level))));
    let reasons = results
        .iter()
        .map(|it| it["suppressions"].as_array().unwrap().len());
    assert_eq!(reasons.collect::<Vec<_>>(), [1, 0, 0]);
}

#[test]
fn what_a_verifier_says_cannot_change_a_terminal() {
    let line = r#"printf 'a\342\200\256b\033[31mc\342\200\213d\302\233e "f\\g"' >&2; exit 0"#;
    let done = trial(&["--command", line, "--only", "alg-none"]);
    let said = text(&done.stdout);
    assert!(said.contains(r#"a b [31mc d e "f\g""#), "{said}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said}");
}

#[test]
fn nothing_is_sent_to_another_machine_unless_the_user_may() {
    for url in [
        "http://192.0.2.1/",
        "http://localhost.example/",
        "ftp://localhost/",
    ] {
        let done = trial(&["--url", url, "--listen", "127.0.0.1:0"]);
        assert_ne!(done.status.code(), Some(0), "{url}");
        assert_eq!(text(&done.stdout), "", "{url}");
    }
    for wrong in ["--only", "--except"] {
        let url = server(|_| OK);
        let done = trial(&["--url", &url, wrong, "no-case", "--listen", "127.0.0.1:0"]);
        assert_eq!(done.status.code(), Some(NOT_RUN));
    }
}
