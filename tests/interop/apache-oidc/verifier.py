"""Apache httpd, guarded by mod_auth_openidc as a resource server (AuthType oauth20), from Debian's packages.

Starts a server in this folder and asks it for a page with each token. It finds the key set by
discovery, since it takes no address of a key set without TLS.
"""

import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

MODULES = "mpm_event authn_core authz_core authz_user auth_openidc"
CONFIGURATION = """\
ServerRoot {here}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {here}/pid
DefaultRuntimeDir {here}
ErrorLog /dev/stderr
LogLevel warn
User www-data
Group www-data
DocumentRoot {here}/pages
OIDCOAuthServerMetadataURL {issuer}/.well-known/openid-configuration
<Location />
  AuthType oauth20
  <RequireAll>
    Require claim iss:{issuer}
    Require claim aud:{audience}
  </RequireAll>
</Location>
"""


def main():
    here = Path.cwd()
    (here / "pages").mkdir(exist_ok=True)
    (here / "pages" / "page").write_text("ok\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Left by a server that was killed; its number may be another process's by now.
    (here / "pid").unlink(missing_ok=True)
    configuration = here / "httpd.conf"
    configuration.write_text(
        modules()
        + CONFIGURATION.format(
            here=here, port=port, issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"]
        )
    )
    server = subprocess.Popen(["apache2", "-f", configuration, "-DFOREGROUND"])
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            if server.poll() is not None:
                sys.exit("apache2 did not start")
            time.sleep(0.1)
    print("ready", ", ".join(map(version, ["apache2", "libapache2-mod-auth-openidc"])), flush=True)
    for line in sys.stdin:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/page", headers={"Authorization": f"Bearer {line.strip()}"})
        answer = connection.getresponse()
        challenge = answer.headers.get("WWW-Authenticate", "")
        print("ok" if answer.status == 200 else f"no {answer.status} {challenge}", flush=True)
        connection.close()
    server.terminate()


def modules() -> str:
    folder = Path("/usr/lib/apache2/modules")
    # Some are built in.
    return "".join(
        f"LoadModule {name}_module {folder}/mod_{name}.so\n"
        for name in MODULES.split()
        if (folder / f"mod_{name}.so").exists()
    )


def version(package: str) -> str:
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}", package]
    return subprocess.check_output(query, text=True)


main()
