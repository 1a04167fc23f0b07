//! The settings: defaults, bounds, and what is said of a value that is refused.

use std::ffi::OsString;

use ipnet::IpNet;
use jwks_server::config::{Config, ConfigError, Mode, Settings, name};
use jwks_server::crypto::fernet::SealingKeys;
use jwks_server::crypto::password::Costs;
use jwks_server::domain::database::Location;

fn config(file: &str) -> Result<Config, ConfigError> {
    let key = SealingKeys::generate();
    let text = format!("NOT_MY_KEY={}\n{file}", key.as_str());
    Config::from_settings(&Settings::from_parts([], Some(&text)).unwrap())
}

fn problems(file: &str) -> Vec<String> {
    let text = format!("NOT_MY_KEY={}\n{file}", SealingKeys::generate().as_str());
    let settings = Settings::from_parts([], Some(&text)).unwrap();
    let found = Config::check(&settings).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

fn refusal(file: &str) -> String {
    config(file)
        .err()
        .unwrap_or_else(|| panic!("{file}"))
        .to_string()
}

#[test]
fn nothing_but_a_key_is_needed() {
    let config = config("").unwrap();
    assert_eq!(
        (&*config.network.host, config.network.port),
        ("localhost", 8080)
    );
    assert_eq!(config.mode, Mode::Development);
    assert_eq!(
        config.database,
        Location::Sqlite("totally_not_my_privateKeys.db".into())
    );
    assert_eq!(config.keys.jwks_max_age.as_secs(), 300);
    assert_eq!(config.accounts.costs, Costs::DEFAULT);
    assert_eq!(config.accounts.auth_rate.get(), 10);
    assert_eq!(config.accounts.register_rate.get(), 10);
    assert!(config.network.trusted_proxies.is_empty() && config.accounts.demo_users.is_empty());
    assert_eq!(config.accounts.audit_retention, None);
    assert!(config.warnings.is_empty());
}

#[test]
fn a_missing_key_is_to_be_made_by_what_the_database_allows() {
    for (url, says_init) in [
        ("sqlite:keys.db", true),
        ("postgres://service@db.example/keys", false),
    ] {
        let text = format!("DATABASE_URL={url}");
        let settings = Settings::from_parts([], Some(&text)).unwrap();
        let said = Config::from_settings(&settings).err().unwrap().to_string();
        assert_eq!(said.contains("start with --init"), says_init, "{said}");
        assert!(
            said.contains("make one with `jwks-server keygen`"),
            "{said}"
        );
    }
}

#[test]
fn the_earlier_servers_names_keep_working() {
    assert_eq!(
        config("FLASK_ENV=production").unwrap().mode,
        Mode::Production
    );
    let odd = config("FLASK_ENV=testing").unwrap();
    assert_eq!((odd.mode, odd.warnings.len()), (Mode::Development, 1));
    let both = config("FLASK_ENV=production\nAPP_ENV=development").unwrap();
    assert_eq!(both.mode, Mode::Development);
}

#[test]
fn a_value_out_of_range_is_refused_by_name_with_what_is_allowed() {
    for line in [
        "PORT=abc is not a whole number from 0 to 65535",
        "PORT=70000 is not a whole number from 0 to 65535",
        "PORT=-1 is not a whole number from 0 to 65535",
        "PORT=8080abc is not a whole number from 0 to 65535",
        "APP_ENV=prod is not understood: it is development or production",
        "AUTH_RATE=0 is not a whole number from 1 to 1000",
        "REGISTER_RATE=1001 is not a whole number from 1 to 1000",
        "ARGON2_PASSES=54 is not a whole number from 2 to 53",
        "ARGON2_MEMORY_KIB=19455 is not a whole number from 19456 to 262144",
        "KEY_LIFETIME=3600 is not a time with a unit, such as 90s, 10m, 1h or 7d",
        "KEY_LIFETIME=1s is out of range: 1m to 365days",
        "AUDIT_RETENTION=23h is out of range: 1day to 36500days",
        "TOKEN_LIFETIME=1500ms is not in whole seconds",
        "METRICS_ADDR=9100 is not an address and a port, such as 127.0.0.1:9100 or [::1]:9100",
        "RUST_LOG=warning is not understood: it is a level such as info, or a list such as info,jwks_server=debug",
        "HOST=a,b is neither an address, such as 127.0.0.1 or ::1, nor a host name",
    ] {
        let (file, why) = line.split_once(' ').unwrap();
        let (name, value) = file.split_once('=').unwrap();
        assert_eq!(refusal(file), format!("{name}={value:?} {why}"));
        assert_eq!(problems(file), [refusal(file)]);
    }
    assert!(refusal("TRUSTED_PROXIES=10.0.0.0/8,x").starts_with("TRUSTED_PROXIES: \"x\" is not "));
    let four = "PORT=x\nAUTH_RATE=0\nKEY_LEAD=x\nCLOCK_SKEW=x";
    assert_eq!(problems(four).len(), 4);
    assert_eq!(problems("DEMO_USER=x\nISSUER=x\nKEY_LIFETIME=40m").len(), 3);
    assert_eq!(problems("").len(), 0);
}

#[test]
fn trusted_networks_of_mapped_ipv4_are_ipv4_and_all_of_the_internet_is_warned_of() {
    for (text, network) in [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        let config = config(&format!("TRUSTED_PROXIES={text}")).unwrap();
        let network: IpNet = network.parse().unwrap();
        assert_eq!(config.network.trusted_proxies, [network]);
        let warned = config.warnings.iter().any(|it| it.contains("everybody"));
        assert_eq!(warned, network.prefix_len() == 0, "{text}");
    }
}

#[test]
fn a_sealing_key_that_can_be_guessed_is_warned_of() {
    for (key, warned) in [
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", true),
        // "password" four times.
        ("cGFzc3dvcmRwYXNzd29yZHBhc3N3b3JkcGFzc3dvcmQ=", true),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", true),
        ("tcBlhbvA3b1WLtRzeqUEB3zQRLOZJLQVwA1ITaVH8HU=", false),
    ] {
        let settings = Settings::from_parts([], Some(&format!("NOT_MY_KEY={key}")));
        let config = Config::from_settings(&settings.unwrap()).unwrap();
        assert_eq!(!config.warnings.is_empty(), warned, "{key}");
    }
}

#[test]
fn times_that_do_not_fit_together_are_refused_with_the_numbers() {
    let text = refusal("KEY_LIFETIME=40m");
    assert!(text.contains("2400 s") && text.contains("2520 s"), "{text}");
    let text = refusal("JWKS_MAX_AGE=11m");
    assert!(text.contains("660 s") && text.contains("600 s"), "{text}");
    let minute = "KEY_LIFETIME=80s\nKEY_LEAD=5s\nTOKEN_LIFETIME=10s\nCLOCK_SKEW=5s";
    assert_eq!(config(minute).unwrap().keys.jwks_max_age.as_secs(), 5);
}

#[test]
fn databases_are_paths_after_a_scheme() {
    for (url, path) in [
        ("sqlite:a.db", "a.db"),
        ("sqlite://a.db", "a.db"),
        ("sqlite:///tmp/a.db", "/tmp/a.db"),
        ("sqlite:/tmp/a b%.db", "/tmp/a b%.db"),
    ] {
        let config = config(&format!("DATABASE_URL='{url}'")).unwrap();
        assert_eq!(config.database, Location::Sqlite(path.into()), "{url}");
    }
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "postgres://x",
        "a.db",
        "sqlite:a.db?mode=ro",
    ] {
        assert!(
            refusal(&format!("DATABASE_URL={url}")).starts_with("DATABASE_URL="),
            "{url}"
        );
    }
}

#[test]
fn a_log_filter_is_made_of_levels_by_target_or_for_all() {
    for good in [
        "DEBUG",
        "off",
        "a=info, warn",
        "hyper=2",
        "info, jwks_server=debug",
    ] {
        let filter = config(&format!("RUST_LOG=\"{good}\"")).unwrap().log_filter;
        let is_debug = filter
            .unwrap()
            .would_enable("jwks_server::app", &tracing::Level::DEBUG);
        assert_eq!(is_debug, good.to_lowercase().contains("debug"), "{good}");
    }
    for bad in ["inof", "info,verbose", "jwks_server=loud", "jwks_server"] {
        assert!(refusal(&format!("RUST_LOG={bad}")).starts_with(&format!("RUST_LOG={bad:?} ")));
    }
}

#[test]
fn a_host_is_an_address_or_a_name() {
    let longest = "a.".repeat(127) + "a";
    for good in ["0.0.0.0", "::", "[::1]", "my_host-1.example.", &longest] {
        assert_eq!(config(&format!("HOST={good}")).unwrap().network.host, good);
    }
    let too_long = "a.".repeat(128);
    for bad in [
        "http://localhost",
        "a b",
        "*",
        "h\u{f6}st",
        "fe80::1%eth0",
        &too_long,
    ] {
        let refused = refusal(&format!("HOST=\"{bad}\""));
        assert!(
            refused.starts_with(&format!("HOST={bad:?} is neither ")),
            "{refused}"
        );
    }
}

#[test]
fn a_sealing_key_in_the_wrong_variable_is_not_shown() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for name in ["HOST", "PORT", "APP_ENV", "ISSUER", "KEY_LEAD"] {
        for value in [
            format!("a {key} b"),
            format!("8080NOT_MY_KEY={key}"),
            key.to_owned(),
        ] {
            let refused = refusal(&format!("{name}=\"{value}\""));
            let without = value.replace(&key[..43], "...");
            assert!(
                refused.contains(&format!("{name}={without:?} is ")),
                "{refused}"
            );
        }
    }
    let refused = refusal(&format!("TRUSTED_PROXIES=10.0.0.0/8,{key}"));
    assert!(
        refused.starts_with("TRUSTED_PROXIES: \"...=\" is "),
        "{refused}"
    );
}

#[test]
fn metrics_are_at_an_address_and_a_port_and_nowhere_unless_asked_for() {
    assert_eq!(config("").unwrap().network.metrics, None);
    for (text, host, port) in [
        ("127.0.0.1:9100", "127.0.0.1", 9100),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:9100", "[::1]", 9100),
        ("localhost:9100", "localhost", 9100),
    ] {
        let config = config(&format!("METRICS_ADDR={text}")).unwrap();
        assert_eq!(config.network.metrics, Some((host.to_owned(), port)));
    }
    for bad in [
        "9100",
        ":9100",
        "::1:9100",
        "localhost",
        "localhost:",
        "a:70000",
        "a b:9100",
        "http://localhost:9100",
    ] {
        let refused = refusal(&format!("METRICS_ADDR=\"{bad}\""));
        assert!(refused.starts_with("METRICS_ADDR="), "{bad}: {refused}");
    }
}

#[test]
fn demo_users_are_read_and_their_passwords_not_shown() {
    let config = config("DEMO_USER=\"userABC:password123 bob:a:b\"").unwrap();
    let names: Vec<_> = config
        .accounts
        .demo_users
        .iter()
        .map(|u| u.username.as_str())
        .collect();
    assert_eq!(names, ["userABC", "bob"]);
    assert!(!format!("{config:?}").contains("password123"));
    let too_long = format!("x:{}", "y".repeat(1025));
    for bad in ["x", "x:", ":y", &too_long] {
        assert!(
            refusal(&format!("DEMO_USER={bad}")).starts_with("DEMO_USER: "),
            "{bad}"
        );
    }
}

fn settings(environment: &[(&str, &str)], file: &str) -> Settings {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Settings::from_parts(environment, Some(file)).unwrap()
}

#[test]
fn of_two_lines_with_one_name_the_last_counts() {
    let settings = settings(&[], "PORT=1\nPORT=2\n");
    assert_eq!(settings.get(name::PORT), Some("2"));
}

#[test]
fn fr_30_the_environment_beats_the_file_unless_it_is_empty() {
    for (real, value) in [("18081", "18081"), ("", "18080"), (" 18081 ", "18081")] {
        let settings = settings(&[("PORT", real)], "PORT=18080\n");
        assert_eq!(settings.get(name::PORT), Some(value));
        assert!(settings.warnings().is_empty());
    }
    let warnings = ["PORT is empty, which counts as not set"];
    assert_eq!(settings(&[("PORT", "")], "").warnings(), warnings);
}

#[test]
fn every_setting_comes_from_the_environment_and_the_file_and_is_in_the_example() {
    let example = include_str!("../../.env.example");
    for &name in name::ALL {
        for from in [
            settings(&[(&name.to_string(), "x")], ""),
            settings(&[], &format!("{name}=x")),
        ] {
            assert_eq!(from.get(name), Some("x"), "{name}");
        }
        let is_shown = example.contains(&format!("{name}="));
        assert!(is_shown || name == name::FLASK_ENV, "{name}");
    }
}

#[test]
fn every_setting_is_read() {
    let key = SealingKeys::generate();
    let common = format!(
        "NOT_MY_KEY={}\nDATABASE_URL=postgres://a@b.example/c\n",
        key.as_str()
    );
    let read = |more: String| {
        let settings = Settings::from_parts([], Some(&format!("{common}{more}"))).unwrap();
        format!("{:?}", Config::check(&settings))
    };
    let unset = read(String::new());
    // Shown nowhere; and read with the file of settings.
    let hidden = [name::PGPASSWORD, name::NOT_MY_KEY_FILE];
    for &name in name::ALL.iter().filter(|name| !hidden.contains(name)) {
        let differs = ["wrong", "production"].map(|value| read(format!("{name}={value}")) != unset);
        assert!(differs.contains(&true), "{name}");
    }
}

#[test]
fn the_table_in_readme_has_every_setting_and_no_other() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("\n| variable | default | |\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let shown = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    // Stands in the row of APP_ENV.
    let mut shown: Vec<_> = shown.chain(["FLASK_ENV"]).map(str::to_owned).collect();
    let mut all: Vec<_> = name::ALL.iter().map(ToString::to_string).collect();
    shown.sort_unstable();
    all.sort_unstable();
    assert_eq!(shown, all);
}

#[test]
fn a_name_in_the_file_that_is_nearly_a_setting_is_warned_of() {
    for (wrong, meant) in [
        ("APP_EVN", Some("APP_ENV")),
        ("port", Some("PORT")),
        ("KEYLIFETIME", Some("KEY_LIFETIME")),
        ("AUTH_RATES", Some("AUTH_RATE")),
        ("TRUSTED_PROXY", Some("TRUSTED_PROXIES")),
        ("TOKEN_LIFE_TIME", Some("TOKEN_LIFETIME")),
        ("ISSUER_URL", Some("ISSUER")),
        ("KEY_LEAD_SECONDS", Some("KEY_LEAD")),
        ("DATABASE_USER", None),
        ("ROOT", None),
        ("DATABASE_PASSWORD", None),
    ] {
        let said = settings(&[], &format!("{wrong}=1")).warnings().pop();
        let meant = meant
            .map(|name| format!(".env sets {wrong}, which is not a setting: did you mean {name}?"));
        assert_eq!(said, meant);
    }
}

#[test]
fn fr_30_every_way_of_writing_a_line_gives_the_value_that_is_written() {
    for (text, value) in [
        ("A=a$B", "a$B"),
        ("A=a${B}$$1$", "a${B}$$1$"),
        ("A=\"a b$B\"", "a b$B"),
        ("A='a b$B\\n'", "a b$B\\n"),
        ("A=\"a\\$B\"", "a$B"),
        ("  export A = \"b \\\" '\"\t\t# it's \"mine", "b \" '"),
        ("# it's\n\n  # \"\nA=1  # it's\r\n", "1"),
        ("A='1  # 2'", "1  # 2"),
        ("A=1#2   ", "1#2"),
        ("A= # empty", ""),
    ] {
        let read = settings(&[], &text.replacen('A', "ISSUER", 1));
        assert_eq!(read.get(name::ISSUER).unwrap_or_default(), value, "{text}");
    }
}

#[test]
fn a_malformed_line_is_named_by_its_number_and_not_shown() {
    for (text, line) in [
        ("SECRET\nA=1", 1),
        ("A=1\n\n# x\nSECRET one\n", 4),
        ("A=1\nB=SECRET# mine\n", 2),
        ("A=1\nB=\"SECRET\nC=x\"\n", 2),
        ("A=it's SECRET\nB=it's\n", 1),
        ("A=1\r\n=SECRET", 2),
        ("1SECRET=2", 1),
        ("A=SECRET\\", 1),
    ] {
        let error = Settings::from_parts([], Some(text)).err().unwrap();
        let error = error.to_string();
        let start = format!(".env line {line} is not ");
        assert!(error.starts_with(&start), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
    }
}
