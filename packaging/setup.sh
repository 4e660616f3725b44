#!/bin/sh
# Makes a Debian machine ready to build and test ipcwarden: packages, engines, .venv. Does nothing that is done already.
#
# Nothing here starts a service, and nothing installed is removed or replaced: a package that would do either (containerd
# and docker.io are services, podman has a socket unit, logrotate a timer, busybox-static replaces busybox) is unpacked
# under build/engines instead.
set -eu
cd "$(dirname "$0")/.."
umask 022

die() {
    echo "setup: $*" >&2
    exit 1
}

# package=what shows that it is there, whoever put it there: a program, or a file (as a pattern)
packages='
    gcc=gcc
    libc6-dev=/usr/include/mqueue.h
    libcap-dev=/usr/include/sys/capability.h
    python3=/usr/bin/python3
    python3-dev=/usr/include/python3*/Python.h
    python3-venv=/usr/lib/python3*/ensurepip
    runc=runc
    crun=crun
    conmon=conmon
    catatonit=catatonit
    golang-github-containers-common=/usr/share/containers/containers.conf
    uidmap=newuidmap
    util-linux=nsenter
    jq=jq
    strace=strace
'

have() {
    case $1 in
    /*) [ -e "$(echo $1 | cut -d ' ' -f 1)" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq --yes -o APT::Sandbox::User=root "$@" >/dev/null ||
        die "apt-get $* failed (see above)"
}

# Check that packages can be had at all, and read the lists once.
lists_read=
need_apt() {
    [ -n "$lists_read" ] && return
    have apt-get || die "missing: $*; there is no apt-get here, please install what provides it"
    [ "$(id -u)" = 0 ] || die "missing: $*; run 'make setup' as root once, or: apt-get install $*"
    apt update
    lists_read=yes
}

install_packages() {
    missing=
    for entry in $packages; do
        have "${entry#*=}" || missing="$missing ${entry%%=*}"
    done
    [ -z "$missing" ] && return
    need_apt $missing
    echo "setup: installing$missing"
    apt install --no-install-recommends --no-remove $missing
}

# Unpack a package where it disturbs nobody, and install the libraries and helpers that it depends on.
unpack() {
    need_apt "$1"
    echo "setup: unpacking $1 under build/engines"
    mkdir -p build/engines
    (
        cd build/engines
        rm -f "$1"_*.deb
        apt download "$1"
        depends=$(dpkg-deb --field "$1"_*.deb Depends | tr , '\n' | grep -E '^ *(lib|conmon)' | paste -s -d ,)
        if [ -n "$depends" ]; then
            apt satisfy --no-install-recommends --no-remove "$depends"
        fi
        dpkg-deb --extract "$1"_*.deb .
        rm -f "$1"_*.deb
    )
}

unpack_engines() {
    have logrotate || have "$PWD/build/engines/usr/sbin/logrotate" || unpack logrotate
    unpack_podman
    { have containerd && have ctr; } || have "$PWD/build/engines/usr/bin/containerd" || unpack containerd
    unpack_docker
    # In a container's root there is no library for a busybox that needs one.
    { have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1; } ||
        have "$PWD/build/engines/bin/busybox" || have "$PWD/build/engines/usr/bin/busybox" || unpack busybox-static
}

# podman 4 does without netavark, 5 does not even start without it.
unpack_podman() {
    have podman && return
    have "$PWD/build/engines/usr/bin/podman" || unpack podman
    have "$PWD/build/engines/usr/lib/podman/netavark" && return
    case $(build/engines/usr/bin/podman --version) in
    *' '[1-4].*) ;;
    *) unpack netavark ;;
    esac
}

# The daemon and its client. Where the client's package is one of its own (from Debian 13 on), docker.io is without it.
unpack_docker() {
    { have dockerd && have docker; } && return
    have "$PWD/build/engines/usr/sbin/dockerd" || unpack docker.io
    have "$PWD/build/engines/usr/bin/docker" || unpack docker-cli
}

find_python() {
    for python in /usr/bin/python3 python3.11 python3.12 python3.13 python3.14 python3; do
        if have "$python" && "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    die "no Python 3.11 or later with its venv module"
}

# The environment is made again when what it is made of changes, and when the checkout moves.
make_venv() {
    made_of="$PWD $(cat pyproject.toml "$0" | sha256sum)"
    [ -e .venv/made-of ] && [ "$(cat .venv/made-of)" = "$made_of" ] && return
    python=$(find_python)
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
    .venv/bin/pip install --quiet 'pip>=25.1' # the first that knows --group
    .venv/bin/pip install --quiet --editable . --group dev
    .venv/bin/pip install --quiet --editable '.[prctl]' ||
        echo "setup: warning: python-prctl cannot be built here; ipcwarden does without it" >&2
    echo "$made_of" >.venv/made-of
}

install_packages
unpack_engines
make_venv
