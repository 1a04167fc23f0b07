//! `minimal_axum PORT FILE`: a router with one route that answers the bytes of
//! FILE as JSON, and nothing around it.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args
        .next()
        .and_then(|port| port.parse().ok())
        .expect("PORT");
    let body = Bytes::from(std::fs::read(args.next().expect("FILE"))?);
    let answer = move || async move { ([(CONTENT_TYPE, "application/json")], body.clone()) };
    let routes = Router::new().route("/.well-known/jwks.json", get(answer));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, routes).await
}
