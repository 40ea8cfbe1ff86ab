# shellcheck shell=sh
# Sourced by deploy/try and tests/run: Debian packages and a virtual environment, each only where missing.
# The caller has set -eu and stands in the project's directory.

PYTHON=${PYTHON:-python3}

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Ends the script unless $PYTHON is there and new enough.
need_python() {
    command -v "$PYTHON" >/dev/null 2>&1 ||
        fail "There is no $PYTHON here: install Python 3.11 or newer (Debian: apt-get install python3)."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$PYTHON" -V) is too old: edge-detect needs 3.11 or newer (PYTHON=/path/to/python3 chooses one)."
}

# Names those of the given Debian packages that are not installed.
absent_packages() {
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# Installs the given Debian packages, as root or through sudo. Says why and returns 1 where that cannot be.
install_packages() {
    [ $# -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        say "  this is not Debian or a relative; install what your system calls these by hand: $*"
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=''
    elif ! command -v sudo >/dev/null 2>&1; then
        say "  neither root nor sudo here; let an administrator run: apt-get install $*"
        return 1
    elif [ -t 0 ]; then
        as_root=sudo
    else
        as_root='sudo -n' # nobody there to type a password
    fi
    say "  installing from Debian: $*"
    packages_log=$(mktemp)
    # shellcheck disable=SC2086 # as_root is a command of several words, or none
    if $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >"$packages_log" 2>&1 &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" \
            >>"$packages_log" 2>&1; then
        rm -f "$packages_log"
        return 0
    fi
    say "  $as_root apt-get failed; its last lines:"
    tail -n 8 "$packages_log" | sed 's/^/    /'
    rm -f "$packages_log"
    return 1
}

# Makes the virtual environment $1 with pip in it, unless it stands and works.
make_environment() {
    "$1/bin/python" -c 'import pip' 2>/dev/null && return 0
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages python3-venv ||
            fail "$PYTHON cannot make a virtual environment: it lacks the package python3-venv."
    fi
    "$PYTHON" -m venv --clear "$1" || fail "$PYTHON could not make the virtual environment $1."
}

# What the installation in an environment depends on, as one number: the interpreter and the given files.
fingerprint() {
    environment=$1
    shift
    {
        "$environment/bin/python" -V
        find "$@" -type f ! -name '*.pyc' -exec cksum {} + | sort
    } | cksum
}
