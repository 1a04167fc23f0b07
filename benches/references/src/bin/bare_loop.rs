//! `bare_loop PORT FILE`: what the machine's network allows. Answers whatever
//! one read brings with the bytes of FILE, without parsing it.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args
        .next()
        .and_then(|port| port.parse().ok())
        .expect("PORT");
    let answer: Arc<[u8]> = std::fs::read(args.next().expect("FILE"))?.into();
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut asked = [0; 4096];
            while matches!(stream.read(&mut asked).await, Ok(n) if n > 0) {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}
