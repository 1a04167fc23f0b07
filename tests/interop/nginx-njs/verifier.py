"""nginx, guarded by a script in njs (auth_request), from Debian's packages."""

from front import serve

serve(["nginx", "libnginx-mod-http-js"], ["nginx", "-e", "stderr", "-p", ".", "-c", "nginx.conf"], "nginx.conf")
