#!/bin/sh
# install.sh [python|node]...: installs the verifiers that the tests run, at the
# versions and hashes locked beside this script, into target/verifiers; nothing
# when they are there. The tests call it. Needs Python 3.11 or newer with venv,
# Node 20 or newer with npm, and the network the first time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
into=$here/../../target/verifiers
mkdir -p "$into"

# Up to three times, as networks fail for a moment.
fetch() {
    for pause in 10 30; do
        "$@" && return
        sleep "$pause"
    done
    "$@"
}

# need COMMAND...: ends here when it does not work.
need() {
    "$@" >/dev/null 2>&1 || { echo "$1 is missing or too old" >&2; exit 1; }
}

install_python() {
    need python3 -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)'
    lock=$here/requirements.txt
    cmp -s "$lock" "$into/venv/installed.txt" && return
    python3 -m venv --clear "$into/venv"
    fetch "$into/venv/bin/python" -m pip install --quiet --require-hashes --only-binary :all: -r "$lock"
    cp "$lock" "$into/venv/installed.txt"
}

install_node() {
    need node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'
    need npm --version
    cmp -s "$here/package-lock.json" "$into/node/installed.json" && return
    mkdir -p "$into/node"
    cp "$here/package.json" "$here/package-lock.json" "$into/node/"
    fetch npm ci --prefix "$into/node" --ignore-scripts --no-audit --no-fund
    cp "$here/package-lock.json" "$into/node/installed.json"
}

# One at a time, also when two test programs run at once.
exec 9>"$into/lock"
need flock 9
for tool in "${@:-}"; do
    case $tool in
        python | node) "install_$tool" ;;
        '') install_python; install_node ;;
        *) echo "usage: $0 [python|node]..." >&2; exit 2 ;;
    esac
done
