#!/bin/sh
# Installs one released version of syncline for this machine: downloads the archive, verifies its SHA-256 checksum, runs
# the program once, and moves it into place. Needs curl or wget, tar, and a tool for SHA-256.
#
#   curl --proto '=https' --tlsv1.2 -fsSL https://github.com/OWNER/syncline/releases/latest/download/install.sh | sh
#
# Everything is in functions and the last line calls `main`: a script that arrives incomplete does nothing.
set -eu

# This script's own release. A test compares both lines with Cargo.toml.
VERSION=0.1.0
REPOSITORY=https://github.com/OWNER/syncline
# The oldest C library that the `gnu` archives run with. Others get the static archive, which cannot load ADBC drivers.
GLIBC=2.35

usage() {
    cat <<END
Installs syncline.

Usage: install.sh [--version VERSION] [--to FOLDER] [--from URL]

  --version VERSION  the version to install [default: $VERSION]
  --to FOLDER        the folder for the program [default: ~/.local/bin; /usr/local/bin for root]
  --from URL         a mirror with the files of a release under URL/vVERSION/
                     [default: $REPOSITORY/releases/download]
END
}

say() { printf '%s\n' "$*"; }

# Ends with an error. Further arguments are remedies.
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for remedy in "$@"; do printf '  %s\n' "$remedy" >&2; done
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

main() {
    version=$VERSION folder='' from=$REPOSITORY/releases/download work='' new=''
    read_arguments "$@"
    check_arguments
    umask 022
    # A signal must end the script, and the end removes what is unfinished.
    trap 'clean' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    work=$(mktemp -d) || fail "cannot create a temporary folder" "set TMPDIR to a folder that you may write to"
    choose_tools
    choose_target
    name=syncline-$version-$target
    get_archive
    install_program
}

clean() {
    [ -z "$new" ] || rm -f "$new"
    [ -z "$work" ] || rm -rf "$work"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --version=* | --to=* | --from=*) option=${1%%=*} value=${1#*=} && shift ;;
            --version | --to | --from)
                [ $# -gt 1 ] || fail "$1 needs a value" "for the options: install.sh --help"
                option=$1 value=$2 && shift 2
                ;;
            *) fail "unknown argument \`$1\`" "for the options: install.sh --help" ;;
        esac
        [ -n "$value" ] || fail "the value of $option is empty" "for the options: install.sh --help"
        case $option in
            --version) version=${value#v} ;;
            --to) folder=$value ;;
            --from) from=${value%/} ;;
        esac
    done
}

check_arguments() {
    case $version in
        [0-9]*.[0-9]*.[0-9]*) ;;
        *) fail "\`$version\` is not a version" "a version has three numbers, for example $VERSION" ;;
    esac
    case $version in
        *[!0-9A-Za-z.+-]*) fail "\`$version\` is not a version" "a version has three numbers, for example $VERSION" ;;
    esac
    # The checksums come from the same server: without TLS they prove nothing.
    case $from in
        https://?*) ;;
        http://127.0.0.1 | http://127.0.0.1[:/]* | http://localhost | http://localhost[:/]* | http://\[::1\]*) ;;
        *) fail "\`$from\` is not an https:// address" "plain HTTP is accepted from this machine only" ;;
    esac
    if [ -z "$folder" ]; then
        if [ "$(id -u)" = 0 ]; then
            folder=/usr/local/bin
        else
            [ -n "${HOME:-}" ] || fail "HOME is not set" "choose a folder: --to FOLDER"
            folder=$HOME/.local/bin
        fi
    fi
}

choose_tools() {
    has tar || fail "tar is missing" "install tar"
    if has curl; then
        download=with_curl
    elif has wget; then
        download=with_wget
    else
        fail "neither curl nor wget was found" "install one of them"
    fi
    if has sha256sum; then
        checksum='sha256sum'
    elif has shasum; then
        checksum='shasum -a 256'
    elif has openssl; then
        checksum='openssl dgst -sha256 -r'
    else
        fail "no tool for SHA-256 was found, so the download cannot be verified" "install coreutils, perl or openssl"
    fi
}

choose_target() {
    system=$(uname -s) machine=$(uname -m)
    case $machine in
        x86_64 | amd64) architecture=x86_64 ;;
        aarch64 | arm64) architecture=aarch64 ;;
        *) no_archive "the processor $machine" ;;
    esac
    case $system in
        Linux)
            [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 64 ] || no_archive "a 32-bit system"
            if has_glibc; then target=$architecture-unknown-linux-gnu; else target=$architecture-unknown-linux-musl; fi
            ;;
        Darwin)
            # Under Rosetta, `uname` reports the processor that is emulated.
            if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || echo 0)" = 1 ]; then architecture=aarch64; fi
            target=$architecture-apple-darwin
            ;;
        *) no_archive "the system $system" ;;
    esac
}

no_archive() {
    fail "there is no archive for $1" "archives exist for Linux and macOS on x86_64 and aarch64" \
        "with Rust, build it: cargo install --locked --git $REPOSITORY --tag v$version --features full syncline"
}

# Whether the C library is glibc and not older than $GLIBC.
has_glibc() {
    found=$(getconf GNU_LIBC_VERSION 2>/dev/null) || return 1
    found=${found#glibc }
    minor=${found#*.} minor=${minor%%.*}
    [ "${found%%.*}" -eq "${GLIBC%%.*}" ] 2>/dev/null && [ "$minor" -ge "${GLIBC#*.}" ] 2>/dev/null
}

with_curl() {
    only='=https'
    case $1 in http://*) only='=http' ;; esac
    curl --fail --location --silent --show-error --proto "$only" --proto-redir "$only" \
        --connect-timeout 20 --retry 3 --output "$2" "$1" 2>"$work/log"
}

with_wget() {
    wget -T 60 -O "$2" "$1" 2>"$work/log"
}

# Downloads a file of the release into the temporary folder. Returns 4 if the server does not have it.
get() {
    "$download" "$from/v$version/$1" "$work/$1" && return 0
    if grep -Eq ' 404( |:|$)' "$work/log"; then return 4; fi
    reason=$(grep -v '^ *$' "$work/log" | tail -n 1)
    fail "cannot download $from/v$version/$1" "${reason:-no reason was given}" \
        "check the network and the proxy (https_proxy), or use a mirror: --from URL"
}

get_archive() {
    get SHA256SUMS || fail "there is no version $version at $from" "the versions: $REPOSITORY/releases"
    expected=$(awk -v file="$name.tar.gz" '$2 == file || $2 == "*" file { print $1; exit }' "$work/SHA256SUMS")
    if [ -z "$expected" ]; then
        fail "version $version has no archive for $target" "it has: $(archives)" \
            "another version may have it: $REPOSITORY/releases"
    fi
    get "$name.tar.gz" || fail "$name.tar.gz is listed in SHA256SUMS, but $from does not have it" \
        "a mirror may be incomplete; without --from the release itself is used"
    # shellcheck disable=SC2086
    actual=$($checksum <"$work/$name.tar.gz" | cut -d ' ' -f 1)
    if [ "$actual" != "$expected" ]; then
        fail "the checksum of $name.tar.gz is wrong; nothing was installed" "expected $expected" "found    $actual" \
            "run it again; if it fails again, the file was changed on its way: report it as SECURITY.md says"
    fi
}

# The targets of the release's archives.
archives() {
    found=$(sed -n "s/^[0-9a-f]* [ *]syncline-$version-\(.*\)\.tar\.gz\$/\1/p" "$work/SHA256SUMS" | tr '\n' ' ')
    printf '%s' "${found:-none}"
}

install_program() {
    tar -xzf "$work/$name.tar.gz" -C "$work" "$name/syncline" 2>"$work/log" ||
        fail "cannot unpack $name.tar.gz: $(tail -n 1 "$work/log")" "check the free space of ${TMPDIR:-/tmp}"
    place_program
    # The new file runs once in its place: a folder may forbid programs, and a system may lack a library.
    found=$("$new" --version 2>"$work/log") ||
        fail "the program does not run on this machine; nothing was installed" "$(tail -n 1 "$work/log")" \
            "if $folder is mounted with noexec, choose another folder: --to FOLDER"
    if [ "$found" != "syncline $version" ]; then
        fail "the archive of version $version contains \`$found\`; nothing was installed" "report it as SECURITY.md says"
    fi
    mv -f "$new" "$folder/syncline" || fail "cannot replace $folder/syncline" "choose another folder: --to FOLDER"
    new=''
    say "installed syncline $version ($target) as $folder/syncline"
    case :$PATH: in
        *:"$folder":*) ;;
        *) say "$folder is not in PATH; add it: export PATH=\"$folder:\$PATH\"" ;;
    esac
}

# Copies the program beside its final name, so that the last step is a rename.
place_program() {
    mkdir -p "$folder" 2>"$work/log" && [ -d "$folder" ] || cannot_write
    [ ! -d "$folder/syncline" ] || fail "$folder/syncline is a folder" "choose another folder: --to FOLDER"
    new=$(mktemp "$folder/.syncline.XXXXXX" 2>"$work/log") || cannot_write
    { cp "$work/$name/syncline" "$new" && chmod 755 "$new"; } 2>"$work/log" || cannot_write
}

cannot_write() {
    fail "cannot write to $folder: $(tail -n 1 "$work/log")" "choose a folder of your own: --to FOLDER" \
        "or run the script as a user who may write there"
}

main "$@"
