# shellcheck shell=bash
# Sourced by the scripts beside it. Makes, or finds again, the Python environment they run in.
#
# The environment lives outside the source tree, in CACHE/env-KEY. KEY is a hash of what is pinned,
# so every checkout with the same pins shares one environment. It therefore holds no code of this
# project, only its metadata: the code is the checkout's own, by way of PYTHONPATH.
#
#   LLM42_CACHE    the cache folder (default: $XDG_CACHE_HOME/llm42, else ~/.cache/llm42)
#   LLM42_PYTHON   the Python the environment is made with (default: python3; 3.11 or newer)
#
# All messages go to stderr; stdout belongs to the command that is run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PYTHON=${LLM42_PYTHON:-python3}
QUIET_S=20  # seconds without a line from pip after which we say that it is still at work

say() { printf 'llm42: %s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

usage_error() {
    say "error: $*"
    exit 2
}

# Make this checkout's environment ready and put it in front of PATH.
enter_env() {
    check_tools
    find_cache
    ENV_DIR=$CACHE/env-$(env_key)
    if ! env_is_ready; then
        lock_env
        env_is_complete || build_env
        project_is_registered || register_project
        unlock_env
    fi
    export LLM42_CACHE=$CACHE
    export VIRTUAL_ENV=$ENV_DIR
    export PATH=$ENV_DIR/bin:$PATH
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
    unset PYTHONHOME
}

check_tools() {
    command -v flock >/dev/null || die "flock is missing; install util-linux"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        die "$PYTHON is not Python 3.11 or newer; install one and name it: LLM42_PYTHON=python3.11 $0"
}

find_cache() {
    CACHE=${LLM42_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/llm42}
    { mkdir -p "$CACHE" && [[ -w $CACHE ]]; } 2>/dev/null ||
        die "cannot write to $CACHE; name another folder: LLM42_CACHE=/some/folder $0"
    CACHE=$(cd "$CACHE" && pwd -P)
}

requirements() { "$PYTHON" -I "$ROOT/scripts/_pins.py" "$ROOT/pyproject.toml"; }

# 12 hex digits over everything that decides what the environment contains.
env_key() {
    local pins
    pins=$(requirements) || die "cannot read the dependencies in $ROOT/pyproject.toml"
    {
        printf '%s\n' "$pins"
        cat "$ROOT/requirements.lock" 2>/dev/null || die "cannot read $ROOT/requirements.lock"
        "$PYTHON" -c 'import platform, sys; print(sys.version_info[:2], platform.machine())'
    } | sha256sum | cut -c 1-12
}

env_is_ready() { env_is_complete && project_is_registered; }

# The stamp is written last: without it an environment is half made.
env_is_complete() { [[ -f $ENV_DIR/.complete && -x $ENV_DIR/bin/python ]]; }

project_sha() { sha256sum <"$ROOT/pyproject.toml" | cut -d ' ' -f 1; }

project_is_registered() {
    [[ $(cat "$ENV_DIR/.project" 2>/dev/null) == "$(project_sha)" ]]
}

# The lock is dropped by the kernel when its holder ends, however that comes about.
lock_env() {
    exec 9>"$ENV_DIR.lock"
    flock --nonblock 9 || {
        say "another process is making the same environment; waiting for it"
        flock 9
    }
}

unlock_env() { exec 9>&-; }

build_env() {
    LOG=$ENV_DIR.log
    say "making the environment: once, about 11 GB, usually 6 to 15 minutes"
    say "  folder: $ENV_DIR"
    say "  log:    $LOG"
    : >"$LOG"
    rm -rf "$ENV_DIR"
    logged "$PYTHON" -m venv "$ENV_DIR" ||
        setup_failed "$PYTHON cannot make a virtual environment (on Debian: apt install python3-venv)"
    requirements >"$ENV_DIR/requirements.txt"
    logged env_pip install --constraint "$ROOT/requirements.lock" \
        --requirement "$ENV_DIR/requirements.txt" ||
        setup_failed "pip could not install the dependencies; check the network and the free space"
    touch "$ENV_DIR/.complete"
    say "the environment is ready after $SECONDS s"
}

# Entry points and the console script; none of the project's code.
register_project() {
    LOG=$ENV_DIR.project.log
    say "registering the project's entry points (some seconds)"
    : >"$LOG"
    logged env_pip install --quiet --no-deps --no-build-isolation --editable "$ROOT" ||
        setup_failed "pip could not register $ROOT"
    # A build by-product; left on PYTHONPATH it would hide the metadata just installed.
    rm -rf "$ROOT/llm42_sglang.egg-info"
    project_sha >"$ENV_DIR/.project"
}

# -I: nothing on the caller's PYTHONPATH may pass for installed.
env_pip() { "$ENV_DIR/bin/python" -I -m pip --disable-pip-version-check --no-input "$@"; }

# Run a command with all its output in $LOG and the part worth seeing on stderr.
logged() { "$@" 2>&1 </dev/null | tee -a "$LOG" | show_progress; }

setup_failed() {
    say "the last lines of the log:"
    tail -n 15 "$LOG" >&2
    die "$1; full log: $LOG; then run the same command again, it starts over"
}

# Copy the telling lines of pip's output, and a sign of life when there are none for a while.
show_progress() {
    local line status packages=0
    while :; do
        status=0
        IFS= read -r -t "$QUIET_S" line || status=$?
        if ((status > 128)); then
            say "  still at work after $SECONDS s"
            continue
        fi
        ((status == 0)) || return 0
        case $line in
            Collecting*)
                packages=$((packages + 1))
                ((packages % 40)) || say "  $packages packages resolved"
                ;;
            *Downloading* | *Using\ cached*)
                [[ ! $line =~ [0-9]{2}(\.[0-9]+)?\ MB ]] || say "  ${line#"${line%%[! ]*}"}"
                ;;
            Installing\ collected*) say "  installing; pip says nothing for some minutes" ;;
            Building\ wheel*) say "  $line" ;;
        esac
    done
}
