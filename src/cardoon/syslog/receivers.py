"""What those who collect events need: configurations of receivers, and rules, made from the catalogue."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from xml.sax.saxutils import escape as in_xml

from cardoon.syslog.catalogue import ATTACK_VERSION, EVENTS, Event
from cardoon.syslog.messages import Severity

FIRST_RULE = 100_500
"""Of Wazuh's rules, which users may number from 100000 to 120000."""
_RULES = 19_000
_WAZUH_LEVELS = {
    Severity.ALERT: 14,
    Severity.CRITICAL: 12,
    Severity.ERROR: 8,
    Severity.WARNING: 6,
    Severity.NOTICE: 3,
    Severity.INFO: 2,
}
_SIGMA_LEVELS = {1: "informational", 2: "low", 3: "medium", 4: "high", 5: "critical"}
_MADE = "Made by `cardoon syslog receivers` from the catalogue of events; make it anew rather than change it."


def make_receivers() -> Mapping[str, str]:
    """The files, by name."""
    return {
        "rsyslog.conf": _RSYSLOG,
        "syslog-ng.conf": _SYSLOG_NG,
        "wazuh_decoder.xml": _WAZUH_DECODER,
        "wazuh_rules.xml": _wazuh_rules(),
        "sigma.yml": _sigma(),
    }


_RSYSLOG = f"""# {_MADE}
# For rsyslog 8, in /etc/rsyslog.d. Clients show certificates of the authority in ca.pem.
global(maxMessageSize="16k"
  defaultNetstreamDriverCAFile="/etc/cardoon-syslog/ca.pem"
  defaultNetstreamDriverCertFile="/etc/cardoon-syslog/server.pem"
  defaultNetstreamDriverKeyFile="/etc/cardoon-syslog/server.key")
module(load="imtcp")
module(load="imudp")
template(name="cardoon" type="string"
  string="%timestamp:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\\n")
ruleset(name="cardoon" queue.type="LinkedList" queue.filename="cardoon" queue.saveOnShutdown="on"
    queue.maxDiskSpace="1g") {{
  action(type="omfile" file="/var/log/cardoon/events.log" template="cardoon" fileCreateMode="0600")
}}
input(type="imtcp" port="6514" ruleset="cardoon" streamDriver.name="gtls" streamDriver.mode="1"
  streamDriver.authMode="x509/certvalid")
# On this host, or where the network goes one way:
input(type="imtcp" port="601" address="127.0.0.1" ruleset="cardoon")
input(type="imudp" port="514" address="127.0.0.1" ruleset="cardoon")
"""

_SYSLOG_NG = f"""@version: 3.38
# {_MADE}
source s_cardoon {{
  syslog(transport("tls") port(6514)
    tls(ca-file("/etc/cardoon-syslog/ca.pem") cert-file("/etc/cardoon-syslog/server.pem")
      key-file("/etc/cardoon-syslog/server.key") peer-verify(required-trusted)));
  # On this host, or where the network goes one way:
  syslog(transport("tcp") ip(127.0.0.1) port(601));
  syslog(transport("udp") ip(127.0.0.1) port(514));
}};
destination d_cardoon {{
  file("/var/log/cardoon/events.log" perm(0600)
    template("$ISODATE $HOST $PROGRAM $PID $MSGID $SDATA $MSG\\n"));
}};
log {{ source(s_cardoon); destination(d_cardoon); flags(flow-control); }};
"""

_WAZUH_DECODER = f"""<!-- {_MADE} -->
<decoder name="cardoon">
  <prematch>cardoon@\\d+ event="</prematch>
</decoder>
<decoder name="cardoon-event">
  <parent>cardoon</parent>
  <regex type="pcre2">cardoon@\\d+ event="([a-z]+\\.[a-z_]+)"</regex>
  <order>event</order>
</decoder>
<decoder name="cardoon-event">
  <parent>cardoon</parent>
  <regex type="pcre2"> signer="((?:[^"\\\\]|\\\\.)*)"</regex>
  <order>signer</order>
</decoder>
<decoder name="cardoon-event">
  <parent>cardoon</parent>
  <regex type="pcre2"> reason="((?:[^"\\\\]|\\\\.)*)"</regex>
  <order>reason</order>
</decoder>
"""


def _wazuh_rules() -> str:
    lines = [
        f"<!-- {_MADE} -->",
        '<group name="cardoon,">',
        f'  <rule id="{FIRST_RULE}" level="0">',
        "    <decoded_as>cardoon</decoded_as>",
        "    <description>Cardoon</description>",
        "  </rule>",
    ]
    for name, event in EVENTS.items():
        lines += _wazuh_rule(name, event)
    return "\n".join([*lines, "</group>", ""])


def _wazuh_rule(name: str, event: Event) -> list[str]:
    # By the name alone, so that a rule that refers to it still does when other events come.
    number = FIRST_RULE + 1 + zlib.crc32(name.encode()) % _RULES
    pattern = name.replace(".", "\\.")
    mitre = [f"      <id>{one}</id>" for one in event.attack]
    return [
        f'  <rule id="{number}" level="{_WAZUH_LEVELS[event.severity]}">',
        f"    <if_sid>{FIRST_RULE}</if_sid>",
        f'    <field name="event" type="pcre2">^{pattern}$</field>',
        f"    <description>Cardoon: {in_xml(event.title)}</description>",
        *(["    <mitre>", *mitre, "    </mitre>"] if mitre else []),
        "  </rule>",
    ]


def _sigma() -> str:
    """One rule for each event that somebody is to look at."""
    wanted = {name: one for name, one in EVENTS.items() if one.ocsf_severity >= 3}
    rules = [_sigma_rule(name, event) for name, event in wanted.items()]
    return f"# {_MADE}\n# Techniques of ATT&CK {ATTACK_VERSION}.\n" + "---\n".join(rules)


def _sigma_rule(name: str, event: Event) -> str:
    tags = [f"  - attack.{one.lower()}" for one in event.attack]
    tags += [
        f"  - {one.lower().replace('-', '.', 1)}" for one in event.weaknesses if one[:3] == "CWE"
    ]
    return "\n".join([
        f"title: {event.title}",
        f"name: cardoon_{name.replace('.', '_')}",
        "status: stable",
        "logsource:",
        "  product: cardoon",
        "  service: audit",
        "detection:",
        "  selection:",
        f"    event: {name}",
        "  condition: selection",
        *(["tags:", *tags] if tags else []),
        f"level: {_SIGMA_LEVELS[event.ocsf_severity]}",
        "",
    ])  # fmt: skip
