#!/bin/sh
# Installs the verifiers that the tests run, at the versions and hashes locked
# beside this script, into target/verifiers. Needs Python 3.11 or newer with venv, Node
# 20 or newer with npm, and the network.
set -eu

# Up to three times, as networks fail for a moment.
fetch() {
    for pause in 10 30; do
        "$@" && return
        sleep "$pause"
    done
    "$@"
}

here=$(cd "$(dirname "$0")" && pwd)
into=$here/../../target/verifiers
mkdir -p "$into/node"

python3 -m venv --clear "$into/venv"
fetch "$into/venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: \
    -r "$here/requirements.txt"

cp "$here/package.json" "$here/package-lock.json" "$into/node/"
fetch npm ci --prefix "$into/node" --ignore-scripts --no-audit --no-fund
