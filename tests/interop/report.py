"""The matrix, as Markdown."""

import re
import subprocess
from datetime import date

from expectations import ABSENT, EXPLAINED, NOTES
from service import MAX_AGE, TIMES, binary

COLUMNS = {
    "fresh": "fresh",
    "expired": "expired",
    "payload": "payload",
    "signature": "signature",
    "none": "none",
    "HS256": "HS256",
    "unknown kid": "kid",
    "wrong issuer": "iss",
    "wrong audience": "aud",
    "outage": "outage",
    "restart": "restart",
    "rotation": "rotation",
    "emergency": "emergency",
    "removed key": "removed key",
    "requests": "requests",
}
# Columns whose words say more than `ok`.
MEASURED = {"emergency", "removed key", "requests"}
INTRODUCTION = """\
# Interoperability

What verifiers that others wrote make of this service, each with its own way of fetching and caching the key set.

Made by `python3 tests/interop/run.py --record` on {date} with {server}; see `tests/interop/` for the programs and their
lock files, where their kind has any. All verifiers ran at once against one server with {times}.

| column | what was done |
| --- | --- |
| verifier | as it comes; "hold": told to hold the key set, or a key, for so long |
| fresh | a fresh token verifies, before and after all the bad ones |
| expired | a token of `/auth?expired` is refused, for its time or for its unknown key |
| payload, signature | a good token with another `sub`; with one bit of its signature turned, and without signature |
| none, HS256 | `alg` is `none` or `None`; `HS256` keyed with the public key, as PEM and as raw modulus |
| kid | the key's name is one that the set lacks |
| iss, aud | a token of the same key for another issuer; for another audience |
| outage | the server is gone for {outage} s, four times `max-age`; a good token a second still verifies |
| restart | the server is back: a fresh token verifies at once |
| rotation | an ordinary rotation: a fresh token a second verifies, from before the new key is published until after it signs |
| emergency | `keys rotate --now`: how long, from when the key set had changed, until a token of the new key verified |
| removed key | the same: how long a token of a key that was removed still verified |
| requests | to the key set in a minute, over the whole walk of {length:.0f} s |

"""


def render(results: list, skipped: dict, times: dict) -> tuple:
    """The page, and what nobody foresaw."""
    surprises = []
    settings = ", ".join(f"`{name}={value}`" for name, value in TIMES.items())
    page = [
        INTRODUCTION.format(
            date=date.today(), server=server_version(), times=settings,
            outage=4 * MAX_AGE, length=sum(times.values()),
        ),
        "| verifier | " + " | ".join(COLUMNS.values()) + " |\n",
        "| --- |" + " --- |" * len(COLUMNS) + "\n",
    ]
    for result in results:
        name = result.verifier.name
        cells = []
        for column in COLUMNS:
            good, words = result.cells.get(column, (False, "not done"))
            if good:
                cells.append(words if column in MEASURED else "ok")
            elif column in EXPLAINED.get(name, {}):
                cells.append("no, see below")
            else:
                cells.append("**no**")
                surprises.append(f"{name}: {column}: {words}")
        page.append(f"| {name} | " + " | ".join(cells) + " |\n")
    page.append("\n## Each of them\n")
    for folder in dict.fromkeys(result.verifier.folder for result in results):
        rows = [result for result in results if result.verifier.folder == folder]
        page.append(f"\n### {folder}\n\n{rows[0].versions}. {NOTES.get(folder, '')}\n")
        faults = []
        for result in rows:
            for column in COLUMNS:
                good, words = result.cells.get(column, (False, "not done"))
                if not good:
                    why = EXPLAINED.get(result.verifier.name, {}).get(column, "Not foreseen.")
                    faults.append(f"- {result.verifier.name}, {column}: {plain(words)}. {why}\n")
        page.extend(["\n"] * bool(faults) + faults)
    page.append("\n## How they refuse\n\n")
    page.append("| verifier | expired | payload | HS256 | unknown kid |\n| --- | --- | --- | --- | --- |\n")
    for result in results:
        if not result.verifier.hold and "expired" in result.cells:
            said = [plain(result.cells[c][1]) for c in ("expired", "payload", "HS256", "unknown kid")]
            page.append(f"| {result.verifier.name} | " + " | ".join(said) + " |\n")
    page.append("\n## Left out\n\n")
    page.extend(f"- {name}: {why}\n" for name, why in ABSENT.items())
    page.extend(f"- {name}: {plain(why)}\n" for name, why in skipped.items())
    return "".join(page), surprises


def plain(words: str) -> str:
    """Without what differs from run to run, and safe within a table."""
    words = re.sub(r"^no ", "", words)
    words = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", words)
    words = re.sub(r"https?://(?!127\.)\S+", "…", words)
    words = re.sub(r"\b\d{9,}\b", "KID", words)
    words = words.replace("|", "/").strip().rstrip(".")
    return words if len(words) < 110 else words[:110] + "…"


def server_version() -> str:
    return subprocess.check_output([binary(), "--version"], text=True).strip()
