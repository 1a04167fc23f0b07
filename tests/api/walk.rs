//! The main walk: register, sign in, verify.

use crate::support::TestApp;

#[tokio::test]
async fn a_registered_user_signs_in_and_the_token_verifies_against_the_key_set() {
    let app = TestApp::start().await;
    let password = app.register("alice").await;
    let token = app.token("/auth", "alice", &password).await;
    assert_eq!(token.claims()["sub"], "alice");
    assert!(token.verifies_against(&app.key_set().await.json()));
    let expired = app.token("/auth?expired", "alice", &password).await;
    assert!(!app.published_kids().await.contains(&expired.kid()));
}
