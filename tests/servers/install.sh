#!/bin/sh
# Install the servers that tests start, where that is allowed: on Debian and Ubuntu, as root or with a
# sudo that asks nothing. Elsewhere it says what is missing, and the tests skip (or fail, with CI=true).
set -eu

missing=""
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v rabbitmq-server >/dev/null 2>&1 || [ -x /usr/sbin/rabbitmq-server ] || missing="$missing rabbitmq-server"
command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
    missing="$missing postgresql"
command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
command -v softhsm2-util >/dev/null 2>&1 || missing="$missing softhsm2"
command -v nft >/dev/null 2>&1 || [ -x /usr/sbin/nft ] || missing="$missing nftables"
command -v ip >/dev/null 2>&1 || [ -x /usr/sbin/ip ] || missing="$missing iproute2"
command -v rsyslogd >/dev/null 2>&1 || [ -x /usr/sbin/rsyslogd ] || missing="$missing rsyslog"
ls /usr/lib/*/rsyslog/lmnsd_gtls.so >/dev/null 2>&1 || missing="$missing rsyslog-gnutls"
# Debian lets nobody install both of these, so syslog-ng is unpacked beside the system.
syslog_ng=""
command -v syslog-ng >/dev/null 2>&1 || [ -x /opt/syslog-ng/usr/sbin/syslog-ng ] || syslog_ng="syslog-ng-core"
[ -n "$missing$syslog_ng" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root="no"
fi
if [ "$as_root" = no ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, so their tests will be skipped:$missing $syslog_ng" >&2
    exit 0
fi

# The tests start servers of their own; the packages' services are to stay off.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
echo "installing:$missing $syslog_ng"
$as_root apt-get update -qq
libraries=""
if [ -n "$syslog_ng" ]; then
    libraries=$(apt-cache depends "$syslog_ng" | sed -n 's/^ *|\{0,1\}Depends: \(lib[^<]*\)$/\1/p' | tr '\n' ' ')
fi
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing $libraries
if [ -n "$syslog_ng" ]; then
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download -qq "$syslog_ng")
    $as_root mkdir -p /opt/syslog-ng
    $as_root dpkg -x "$folder"/"$syslog_ng"_*.deb /opt/syslog-ng
    rm -rf "$folder"
fi
