//! A module of `src/store/postgres/hosts.rs`.

use super::*;

#[tokio::test]
async fn each_address_gets_all_that_the_url_says() {
    // Its label is too long for a question to a name server.
    let nobody = "a".repeat(64);
    let rest = "db?application_name=a&options=-c%20x%3D1&sslmode=require&sslnegotiation=direct\
         &connect_timeout=7&tcp_user_timeout=3&keepalives=0&keepalives_idle=5&keepalives_interval=6\
         &keepalives_retries=4&target_session_attrs=read-only&channel_binding=require\
         &load_balance_hosts=random";
    let url = |hosts: &str| format!("postgres://me:secret@{hosts}/{rest}");
    let parsed = |hosts: &str, address: Option<&str>| {
        let mut config: Config = url(hosts).parse().unwrap();
        if let Some(address) = address {
            config.hostaddr(address.parse().unwrap());
        }
        config.connect_timeout(Duration::from_secs(28));
        config
    };
    let config: Config = url(&format!("127.0.0.1:1,{nobody}:2,%2Frun:3"))
        .parse()
        .unwrap();
    let wanted = [
        parsed("127.0.0.1:1", Some("127.0.0.1")),
        parsed(&format!("{nobody}:2"), None),
        parsed("%2Frun:3", None),
    ];
    assert_eq!(addresses(&config).await, wanted);
    let mut config: Config = url("one:9,two:9").parse().unwrap();
    config.hostaddr("192.0.2.1".parse().unwrap());
    config.hostaddr("192.0.2.2".parse().unwrap());
    let wanted = [
        parsed("one:9", Some("192.0.2.1")),
        parsed("two:9", Some("192.0.2.2")),
    ];
    assert_eq!(addresses(&config).await, wanted);
}
