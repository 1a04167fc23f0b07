//! `sandbox`: an issuer for tests, in memory.

use std::net::{Ipv4Addr, TcpListener};

use clap::Args;

use super::{Failure, print};
use crate::trial::sandbox::Sandbox;

pub(super) const ROUTES: &str = "\
Each path below http://127.0.0.1:PORT/REALM is an issuer of its own, made by the first request. Its
key set is at REALM/.well-known/jwks.json; /openapi.json describes the rest:

  POST REALM/sign       a token: {\"header\": {}, \"claims\": {}, \"fault\": \"alg-none\"}, all of it optional
  POST REALM/fault      another key set: {\"fault\": \"500\", \"times\": 1}, or {} for the right one
  POST REALM/clock      {\"advance\": 3600} or {\"now\": 1700000000}
  POST REALM/rotate     {\"alg\": \"RS256\"}, or ES256, EdDSA
  POST REALM/emergency  all keys leave the set
  GET, DELETE REALM/requests

It prints one line, with its address, when it is ready, and runs until it is killed.";

#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
    /// Port on 127.0.0.1; 0 lets the system pick one
    #[arg(long, value_name = "PORT", default_value_t = 8791)]
    port: u16,
}

pub(super) fn run(args: &SandboxArgs) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::broken(format!("port {}: {e}", args.port));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let sandbox = Sandbox::new(addr)?;
    print(&format!("http://{addr}\n"))?;
    sandbox.run(listener).map_err(failed)
}
