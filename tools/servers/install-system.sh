#!/bin/sh
# Install Debian packages that a command of ours needs: tools/servers/install-system.sh PACKAGE...
#
# Only for what is missing, and only with apt-get; elsewhere it says what to install and fails.  A server that comes
# with a package is not started: its place is the administrator's to decide, and a broker of our own needs no service.
set -eu

say() { printf '%s\n' "$*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
    say "Missing: $*"
    say "There is no apt-get here.  Install it with the package manager of this system, for example"
    say "  brew install rabbitmq redis            (macOS)"
    say "  dnf install rabbitmq-server redis      (Fedora)"
    say "or, for 'make run', start a broker with:  docker compose -f tools/demo/compose.yaml up -d"
    exit 1
fi

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    # Without a terminal sudo must not wait for a password.
    if [ -t 0 ]; then as_root="sudo"; else as_root="sudo -n"; fi
else
    say "Missing: $*"
    say "Install as root:  apt-get install $*"
    exit 1
fi

say "Installing with apt-get: $*"

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    # Debian asks this file whether a service may be started by an installation; it is there for that time only.
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi

apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120"
if ! { $apt update && $apt install --no-install-recommends "$@"; } </dev/null >&2; then
    say "apt-get could not install: $*"
    exit 1
fi
