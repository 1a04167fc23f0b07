"""Cases that cannot run here are left out aloud: printed, counted, and appended to the file that `LEFT_OUT_FILE`
names, where a run of several programs counts them."""

import os

cases = []


def left_out(case: str, why: str) -> str:
    cases.append(case)
    if file := os.environ.get("LEFT_OUT_FILE"):
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(f"{case}: {why}\n")
    return f"LEFT OUT ({len(cases)}): {why}"
