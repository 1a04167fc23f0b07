//! Starting and stopping.

use crate::support::{Server, folder};

#[test]
fn it_listens_answers_and_stops_cleanly() {
    let dir = folder("");
    let server = Server::start(dir.path(), &[]);
    let password = server.register("alice");
    assert_eq!(server.sign_in("/auth", "alice", &password).status, 200);
    assert_eq!(server.key_set().status, 200);
    assert!(server.stop().success());
    assert!(
        !dir.path()
            .join("totally_not_my_privateKeys.db-wal")
            .exists()
    );
}
