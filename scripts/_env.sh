# shellcheck shell=bash
# The scripts beside this file source it. It makes the Python environment that they run in, once.
#
# The environment is CACHE/env-KEY. KEY is a hash of requirements.lock and of the Python version, so
# all checkouts with the same lock share an environment. It has the project's metadata, but not its
# code: that comes from the checkout, by PYTHONPATH.
#
#   LLM42_CACHE    the cache folder (default: $XDG_CACHE_HOME/llm42, else ~/.cache/llm42)
#   LLM42_PYTHON   the Python that makes the environment (default: python3; 3.11 or newer)
#   LLM42_UV=0     install with pip, not with uv
#
# All messages go to stderr. Stdout is for the command that is run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PYTHON=${LLM42_PYTHON:-python3}
LOCK=$ROOT/requirements.lock
QUIET_S=20  # seconds without a line, after which a message says that the installer is at work

say() { printf 'llm42: %s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

usage_error() {
    say "error: $*"
    exit 2
}

# Make the environment of this checkout if need be, and put it first in PATH.
enter_env() {
    find_cache
    ENV_DIR=$CACHE/env-$(env_key)
    env_is_ready || make_env
    export LLM42_CACHE=$CACHE VIRTUAL_ENV=$ENV_DIR PATH=$ENV_DIR/bin:$PATH
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
    unset PYTHONHOME
}

find_cache() {
    command -v flock >/dev/null || die "flock is missing; install the package util-linux"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "$PYTHON is not Python 3.11 or newer; install one, then run: LLM42_PYTHON=python3.11 $0"
    CACHE=${LLM42_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/llm42}
    { mkdir -p "$CACHE" && [[ -w $CACHE ]]; } 2>/dev/null ||
        die "cannot write to $CACHE; name another folder: LLM42_CACHE=/some/folder $0"
    CACHE=$(cd "$CACHE" && pwd -P)
    [[ -r $LOCK ]] || die "cannot read $LOCK; to restore it, run: git checkout requirements.lock"
}

env_key() {
    { cat "$LOCK" && "$PYTHON" -c 'import sys; print(sys.version_info[:2])'; } |
        sha256sum | cut -c 1-12
}

# The stamps are written last. An environment without .complete is not finished.
env_is_ready() { env_is_complete && [[ $(cat "$ENV_DIR/.project" 2>/dev/null) == "$(project)" ]]; }
env_is_complete() { [[ -f $ENV_DIR/.complete && -x $ENV_DIR/bin/python ]]; }
project() { sha256sum <"$ROOT/pyproject.toml"; }

# One process at a time. The kernel releases the lock when its holder ends, whatever the reason.
make_env() {
    exec 9>"$ENV_DIR.lock"
    flock --nonblock 9 || {
        say "another process is making the same environment; waiting for it"
        flock 9
    }
    env_is_complete || build_env
    env_is_ready || register_project
    exec 9>&-
}

build_env() {
    say "making the environment; this happens once, needs about 10 GB, and takes a minute or two"
    say "  folder: $ENV_DIR"
    say "  log:    $ENV_DIR.log"
    rm -rf "$ENV_DIR"
    : >"$ENV_DIR.log"
    logged "$PYTHON" -m venv "$ENV_DIR" ||
        setup_failed "$PYTHON cannot make virtual environments; on Debian: apt install python3-venv"
    install_lock || setup_failed "the dependencies could not be installed; check network and space"
    touch "$ENV_DIR/.complete"
    say "the environment is ready after $SECONDS s"
}

# The lock is complete and has hashes. It contains uv too, which pip installs first.
install_lock() {
    local flags=(--no-deps --require-hashes --requirement "$LOCK")
    if [[ ${LLM42_UV-} != 0 ]] && logged pip install --requirement <(uv_pin); then
        logged uv_install "${flags[@]}"
    else
        say "without uv: pip installs the same packages, which takes some minutes longer"
        logged pip install "${flags[@]}"
    fi
}

uv_pin() { sed -n '/^uv==/,/[^\\]$/p' "$LOCK"; }

# uv makes links into its cache, so the cache is on the same file system. It goes at the end. uv
# compiles, as pip does: with PYTHONDONTWRITEBYTECODE set, every process would have to compile anew.
uv_install() {
    local cache=$ENV_DIR/uv-cache index cert
    index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null)}
    cert=${PIP_CERT:-$(pip config get global.cert 2>/dev/null)}
    [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [[ -z $cert ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}
    "$ENV_DIR/bin/uv" pip install --compile-bytecode --cache-dir "$cache" \
        --python "$ENV_DIR/bin/python" "$@" &&
        rm -rf "$cache"
}

# Register entry points and the console script. The project's code is not installed.
register_project() {
    logged pip install --no-deps --no-build-isolation --editable "$ROOT" ||
        setup_failed "pip could not register the project in $ROOT"
    # A by-product of the build. On PYTHONPATH it would hide the metadata that was just installed.
    rm -rf "$ROOT/llm42_sglang.egg-info"
    project >"$ENV_DIR/.project"
}

# With -I, packages on the caller's PYTHONPATH do not count as installed.
pip() { "$ENV_DIR/bin/python" -I -m pip -qq --disable-pip-version-check --no-input "$@"; }

# Run a command. All of its output goes to the log, and the important lines to stderr.
logged() { "$@" 2>&1 </dev/null 9>&- | tee -a "$ENV_DIR.log" | show_progress 9>&-; }

# Lines about small downloads and finished steps are not shown. After QUIET_S without a line, a
# message says that the installer is still at work.
show_progress() {
    local line status shown=$SECONDS
    while status=0 && { IFS= read -r -t "$QUIET_S" line || status=$?; }; do
        if ((status == 0)) && [[ ! $line =~ ^\ |^Downloading\ .*\([0-9.]{1,4}MiB ]]; then
            say "  $line"
            shown=$SECONDS
        elif ((SECONDS - shown >= QUIET_S)); then
            say "  still at work after $SECONDS s"
            shown=$SECONDS
        fi
        ((status == 0 || status > 128)) || return 0
    done
}

setup_failed() {
    say "the last lines of the log:"
    tail -n 15 "$ENV_DIR.log" >&2
    die "$1; the whole log is $ENV_DIR.log; then run the same command again, which starts over"
}
