"""Apache httpd, guarded by mod_auth_openidc as a resource server (AuthType oauth20), from Debian's packages.

It finds the key set by discovery, since it takes no address of a key set without TLS.
"""

from pathlib import Path

from front import serve

serve(
    ["apache2-bin", "libapache2-mod-auth-openidc"],
    ["apache2", "-f", Path("httpd.conf").absolute(), "-DFOREGROUND"],
    "httpd.conf",
)
