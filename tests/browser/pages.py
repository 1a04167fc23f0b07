"""The pages that the service shows to browsers, in Chromium: at 320, 768 and 1440 px, light and dark, nothing scrolls
sideways, no kid is under its state, axe finds nothing, the console and the content security policy are quiet, and the
bars of the drawing are where the timetable says.

    cargo build --release && python3 tests/browser/pages.py

takes about 40 seconds and needs Debian's `chromium`, Node with npm, and the network the first time. The screenshots
are in target/browser."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from harness.left_out import left_out  # noqa: E402
from harness.server import DATABASE, PATIENCE, ROOT, Process, binary, sealing_key  # noqa: E402

TOOLS = ROOT / "target/browser"
SCHEDULE = "/.well-known/jwks-schedule.json"
# Seconds since each key was created: one that retires, one that signs, one that is announced, as the default times make
# them.
AGES = (2676, 1538, 400)
LEAD, LIFE = 602, 3600


def install() -> None:
    """The npm packages, at the versions and hashes locked beside this script."""
    lock, mark = HERE / "package-lock.json", TOOLS / "installed.json"
    if mark.exists() and mark.read_bytes() == lock.read_bytes():
        return
    TOOLS.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, TOOLS / name)
    # Networks fail for a moment.
    for pause in (10, 30, None):
        command = ["npm", "ci", "--prefix", TOOLS, "--ignore-scripts", "--no-audit", "--no-fund"]
        if subprocess.run(command, check=pause is None).returncode == 0:
            break
        time.sleep(pause)
    shutil.copy(lock, mark)


def prepare(folder: Path, settings: dict) -> None:
    """A database with a key of each kind, one of them another issuer's, with a long kid."""
    with Process(folder, settings) as server:
        # Waits for the first key.
        fetch(f"http://127.0.0.1:{server.port}{SCHEDULE}")
        server.stop()
    for _ in AGES[1:]:
        command = [binary(), "keys", "rotate"]
        subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL)
    now = int(time.time())
    with sqlite3.connect(folder / DATABASE) as database:
        query = "SELECT kid FROM key_times JOIN keys USING (kid) WHERE exp > ? ORDER BY serial"
        kids = [kid for (kid,) in database.execute(query, [now])]
        assert len(kids) == len(AGES), kids
        for kid, age in zip(kids, AGES, strict=True):
            born = now - age
            database.execute(
                "UPDATE key_times SET created_at = ?, signs_from = ? WHERE kid = ?", [born, born + LEAD, kid]
            )
            database.execute("UPDATE keys SET exp = ? WHERE kid = ?", [born + LIFE, kid])
    key = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": f"urn:example:{'long' * 100}"}
    (folder / "other.json").write_text(json.dumps({"keys": [key]}))
    command = [binary(), "keys", "adopt", "other.json", "--until", "30m", "--reason", "moving"]
    subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL)


def fetch(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)


def look(url: str, name: str, profile: Path) -> list[dict]:
    command = ["node", HERE / "pages.mjs", url, TOOLS, name, profile]
    return json.loads(subprocess.check_output(command, text=True, timeout=2 * PATIENCE))


def compare(drawn: dict, schedule: dict) -> None:
    """Each bar begins and ends at a time of the timetable, and is drawn there, to the pixel."""
    bars = {key["kid"]: {part["part"]: part for part in key["parts"]} for key in drawn["keys"]}
    keys = {key["kid"]: key for key in schedule["keys"]}
    assert set(bars) == {*keys, None}, bars
    states = [key["state"] for key in schedule["keys"]]
    assert states == ["retiring", "signing", "announced", "adopted"], states
    for kid, key in keys.items():
        parts = bars[kid]
        if key["state"] == "adopted":
            ends = (key["published_from"]["epoch"], key["unpublished_at"]["epoch"])
            assert [(part["from"], part["to"]) for part in parts.values()] == [ends]
            continue
        assert parts["announced"]["from"] == key["published_from"]["epoch"]
        assert parts["announced"]["to"] == parts["signing"]["from"] == key["signs_from"]["epoch"]
        assert parts["signing"]["to"] == parts["retiring"]["from"]
        if stops := key.get("stops_signing"):
            assert parts["signing"]["to"] == stops["epoch"]
        assert parts["retiring"]["to"] == key["unpublished_at"]["epoch"]
    assert bars[schedule["keys"][0]["kid"]]["signing"]["to"] == schedule["keys"][1]["signs_from"]["epoch"]
    assert bars[None]["announced"]["from"] == schedule["next_rotation"]["epoch"]
    length = drawn["to"] - drawn["from"]
    for part in (part for parts in bars.values() for part in parts.values()):
        for end, at in zip(part["drawn"], (part["from"], part["to"]), strict=True):
            off = abs(end - (at - drawn["from"]) / length) * drawn["width"]
            assert off < 1.5, f"{part} is {off:.1f} px off at {drawn['width']} px"


def check(name: str, looks: list[dict], schedule: dict) -> None:
    assert len(looks) == 6
    for seen in looks:
        assert not seen["wrong"], f"{name} at {seen['width']} px, {seen['scheme']}: {seen['wrong']}"
        compare(seen["drawn"], schedule)
    print(f"ok    {name}: " + ", ".join(f"{seen['width']} {seen['scheme']}" for seen in looks))


def main() -> None:
    for program in ("chromium", "node", "npm"):
        if not shutil.which(program):
            print(left_out("pages", f"{program} is not installed"))
            return
    install()
    with tempfile.TemporaryDirectory(prefix="pages-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        settings = {"NOT_MY_KEY": sealing_key(), "HOST": "127.0.0.1", "PORT": "0"}
        prepare(folder, settings)
        names = {"ISSUER": "https://login.example.org/realms/one", "AUDIENCE": "api, </code><script>"}
        with Process(folder, settings | names | {"METRICS_ADDR": "127.0.0.1:0"}) as server:
            service = f"http://127.0.0.1:{server.port}"
            schedule = fetch(service + SCHEDULE)
            check("the page", look(f"{service}/", "page", folder / "browser"), schedule)
            metrics = re.search(r"metrics are at (\S+)/metrics", server.log())[1]
            check("the operators' page", look(f"{metrics}/", "operators", folder / "browser"), schedule)
            server.stop()


if __name__ == "__main__":
    main()
