#!/usr/bin/env python3
"""`jwks-server check` on issuers that others wrote, each as it comes from its registry.

    python3 tests/trial/issuers.py [NAME...]

Needs the release binary, or JWKS_SERVER, Node, Python, Go, Maven, and the network; installs into target/issuers. Prints
what is not ok; ends with 1 when an issuer did not start, a check fails, or its warnings are others than expected.
"""

import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.server import ROOT, binary  # noqa: E402

INTO = ROOT / "target" / "issuers"
SERVER = str(binary())
# Longest wait for an issuer, in seconds: a cold virtual machine on a busy one.
START = 120
GO = """package main

import (
	"net"

	"github.com/oauth2-proxy/mockoidc"
)

func main() {
	server, err := mockoidc.NewServer(nil)
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:8814")
	if err != nil {
		panic(err)
	}
	if err := server.Start(listener, nil); err != nil {
		panic(err)
	}
	select {}
}
"""
PROVIDER = """import Provider from 'oidc-provider';
new Provider('http://127.0.0.1:8811', { clients: [] }).listen(8811, '127.0.0.1');
"""
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent>
    <groupId>org.springframework.boot</groupId>
    <artifactId>spring-boot-starter-parent</artifactId>
    <version>4.1.2</version>
  </parent>
  <groupId>example</groupId>
  <artifactId>issuer</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.springframework.boot</groupId>
      <artifactId>spring-boot-starter-security-oauth2-authorization-server</artifactId>
    </dependency>
    <dependency>
      <groupId>org.springframework.boot</groupId>
      <artifactId>spring-boot-starter-webmvc</artifactId>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.springframework.boot</groupId>
        <artifactId>spring-boot-maven-plugin</artifactId>
      </plugin>
    </plugins>
  </build>
</project>
"""
JAVA = """package example;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

@SpringBootApplication
public class Issuer {
    public static void main(String[] args) {
        SpringApplication.run(Issuer.class, args);
    }
}
"""
PROPERTIES = """server.address=127.0.0.1
server.port=8815
spring.security.oauth2.authorizationserver.client.c.registration.client-id=c
spring.security.oauth2.authorizationserver.client.c.registration.client-secret={noop}unused
spring.security.oauth2.authorizationserver.client.c.registration.client-authentication-methods=client_secret_basic
spring.security.oauth2.authorizationserver.client.c.registration.authorization-grant-types=client_credentials
"""
NPM = "npm install --ignore-scripts --no-audit --no-fund "
# Files, commands that install, the command that runs, and the issuer.
ISSUERS = {
    "npm oidc-provider 9.13.3": ({"main.mjs": PROVIDER}, [NPM + "oidc-provider@9.13.3"], "node main.mjs", "http://127.0.0.1:8811"),
    "npm oauth2-mock-server 8.2.3": (
        {}, [NPM + "oauth2-mock-server@8.2.3"], "node_modules/.bin/oauth2-mock-server -a 127.0.0.1 -p 8812", "http://localhost:8812",
    ),
    "PyPI oidc-provider-mock 0.3.4": (
        {}, ["python3 -m venv venv", "venv/bin/pip install -q oidc-provider-mock==0.3.4"],
        "venv/bin/oidc-provider-mock --port 8813", "http://127.0.0.1:8813",
    ),
    "Go mockoidc": (
        {"main.go": GO, "go.mod": "module issuer\n\ngo 1.22\n"},
        ["go get github.com/oauth2-proxy/mockoidc@v0.0.0-20240214162133-caebfff84d25", "go build -o issuer ."],
        "./issuer", "http://127.0.0.1:8814/oidc",
    ),
    "Maven Spring Authorization Server, Boot 4.1.2": (
        {
            "pom.xml": POM, "src/main/java/example/Issuer.java": JAVA,
            "src/main/resources/application.properties": PROPERTIES,
        },
        ["mvn -q -B package"], "java -jar target/issuer-1.jar", "http://127.0.0.1:8815",
    ),
}

# Beginnings of the warnings at each, after its name and that of a key.
CACHING, ETAG, CORS, HEAD = "Cache-Control is ", "no ETag: ", "no Access-Control-Allow-Origin: ", "status 302"
USE, ALG = "it has no use, ", "it has no alg, "
WARNINGS = {
    "npm oidc-provider": [CACHING, ETAG],
    "npm oauth2-mock-server": [CACHING, USE],
    "PyPI oidc-provider-mock": [CORS, CACHING, ETAG, ALG, USE],
    "Go mockoidc": [CORS, CACHING, ETAG],
    "Maven Spring": [CORS, CACHING, ETAG, HEAD, ALG, USE],
}


def is_up(url: str) -> bool:
    try:
        urllib.request.urlopen(url + "/.well-known/openid-configuration", timeout=2).close()
        return True
    except OSError:
        return False


@contextmanager
def running(name: str):
    """The issuer's URL while it runs, or nothing when it did not start."""
    files, install, run, url = ISSUERS[name]
    folder = INTO / name.replace(",", "").replace(" ", "-")
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        for command in install:
            subprocess.run(command.split(), cwd=folder, check=True, timeout=600, stdout=subprocess.DEVNULL)
        (folder / "ready").touch()
    with open(folder / "log", "wb") as log:
        issuer = subprocess.Popen(run.split(), cwd=folder, stdout=log, stderr=log)
    try:
        since = time.monotonic()
        while not is_up(url) and issuer.poll() is None and time.monotonic() - since < START:
            time.sleep(0.2)
        is_there = issuer.poll() is None and is_up(url)
        if not is_there:
            print(f"{name}: did not start, see {folder}/log")
        yield url if is_there else None
    finally:
        issuer.kill()
        issuer.wait()


def checked(name: str) -> bool:
    with running(name) as url:
        if not url:
            return False
        done = subprocess.run([SERVER, "check", url], capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    print(f"{name}: {sum(line.startswith('ok ') for line in lines)} of {len(lines)} checks are ok", flush=True)
    print("".join(f"  {line}\n" for line in lines if not line.startswith("ok ")), end="", flush=True)
    found = [line.split(maxsplit=2)[2] for line in lines if line.startswith("warn ")]
    found = [text.partition('": ')[2] if text.startswith('key "') else text for text in found]
    wanted = next(wanted for word, wanted in WARNINGS.items() if word in name)
    is_so = len(found) == len(wanted) and all(map(str.startswith, found, wanted))
    if not is_so:
        print(f"  FAIL: expected {wanted}", flush=True)
    return done.returncode == 0 and is_so


def main() -> int:
    names = [name for name in ISSUERS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    if not names:
        sys.exit(f"no issuer is named so; there are {', '.join(ISSUERS)}")
    return int(not all([checked(name) for name in names]))


if __name__ == "__main__":
    sys.exit(main())
