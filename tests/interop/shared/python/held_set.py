"""For libraries that fetch nothing themselves: holds the key set for the max-age that came with it,
then asks whether it has changed (If-None-Match), and keeps it while the server cannot be reached.
"""

import time
import urllib.error
import urllib.request


class HeldSet:
    """`parse` makes the library's key set of the document."""

    def __init__(self, url, parse):
        self.url, self.parse = url, parse
        self.keys, self.etag, self.until = None, None, 0.0

    def current(self):
        if time.monotonic() >= self.until:
            try:
                self.fetch()
            except OSError:
                if self.keys is None:
                    raise
        return self.keys

    def fetch(self):
        request = urllib.request.Request(self.url)
        if self.etag:
            request.add_header("If-None-Match", self.etag)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.keys = self.parse(answer.read())
                headers = answer.headers
        except urllib.error.HTTPError as answer:
            if answer.code != 304:
                raise
            headers = answer.headers
        self.etag = headers["ETag"]
        max_age = (headers["Cache-Control"] or "").partition("max-age=")[2]
        self.until = time.monotonic() + int(max_age or 0)
