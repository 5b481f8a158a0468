"""The files for containers and clusters: well formed, of a piece, and in line with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cardoon.cli.main import COMMANDS, cardoon
from cardoon.config import OPTIONS, Settings

FOLDER = Path(__file__).parents[2] / "deploy"
APIS = {
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "ServiceAccount": "v1",
}


def documents():
    for path in sorted((FOLDER / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text("utf-8"))


def deployments():
    return [one for one in documents() if one["kind"] == "Deployment"]


def compose():
    return yaml.safe_load((FOLDER / "container" / "compose.yaml").read_text("utf-8"))


def instructions():
    text = (FOLDER / "container" / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", "").splitlines()]


def check_command(arguments):
    context = cardoon.make_context("cardoon", list(arguments))
    command, *rest = context._protected_args + context.args
    assert command in COMMANDS
    cardoon.get_command(context, command).make_context(command, rest, parent=context)


def check_settings(names):
    for name in names:
        if name.startswith("CARDOON_"):
            setting = name.removeprefix("CARDOON_").lower()
            assert setting in OPTIONS, name


def test_each_object_is_of_a_kind_and_version_that_clusters_know():
    for one in documents():
        assert one["apiVersion"] == APIS[one["kind"]]
        assert one["metadata"]["name"]
        assert one["metadata"]["namespace"] == "shop"


def test_selectors_find_the_pods_that_are_made():
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in deployments()]
    assert labels
    for one in documents():
        spec = one.get("spec", {})
        for key in ("selector", "podSelector"):
            wanted = spec.get(key, {}).get("matchLabels", {})
            assert not wanted or any(wanted.items() <= made.items() for made in labels), one


def test_a_pod_has_the_rights_of_the_restricted_profile():
    for one in deployments():
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_probes_and_policies_name_ports_that_are_there():
    for one in deployments():
        for container in one["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
            where = {entry["name"]: entry.get("value") for entry in container["env"]}
            address = where["CARDOON_WORKER_METRICS_ADDRESS"]
            assert int(address.rpartition(":")[2]) == ports["metrics"]
            assert where["CARDOON_WORKER_METRICS_TOKEN"].startswith("file:"), "nobody reads unasked"


def test_volumes_are_mounted_that_are_there_and_secrets_are_for_our_group_alone():
    for one in deployments():
        pod = one["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            for entry in container["env"]:
                path = entry.get("value", "").removeprefix("file:")
                if path.startswith("/"):
                    assert any(path.startswith(f"{mounted}/") for mounted in paths), path
        for volume in volumes.values():
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
                assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_a_pod_runs_a_command_of_ours_with_settings_of_ours_and_the_time_to_stop():
    for one in deployments():
        pod = one["spec"]["template"]["spec"]
        grace = Settings().worker_soft_shutdown_timeout + 10
        assert pod["terminationGracePeriodSeconds"] > grace
        for container in pod["containers"]:
            check_settings(entry["name"] for entry in container["env"])
            check_command(container["args"])


def test_all_is_denied_that_no_policy_allows():
    policies = {one["metadata"]["name"]: one["spec"] for one in documents()
                if one["kind"] == "NetworkPolicy"}  # fmt: skip

    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            assert rule["ports"], name
            assert rule.get("from") or rule.get("to"), name


@pytest.mark.parametrize("service", ["worker", "beat"])
def test_a_service_of_the_composition_has_few_rights_and_secrets_that_are_declared(service):
    told = compose()
    one = told["services"][service]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert set(one["secrets"]) <= set(told["secrets"])
    check_settings(one["environment"])
    for value in one["environment"].values():
        name = value.removeprefix("file:").removeprefix("/run/secrets/")
        assert name in one["secrets"], "a setting names a secret that the service is not given"
    check_command(one["command"])


def test_every_secret_is_a_file_and_none_stands_in_the_composition():
    told = compose()
    assert all(set(one) == {"file"} for one in told["secrets"].values())
    assert told["networks"]["inside"] == {"internal": True}


def test_the_image_runs_as_an_ordinary_user_without_a_shell():
    told = instructions()
    last = dict(told)  # of each kind, the last

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    for kind in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last[kind]), list)
    assert json.loads(last["HEALTHCHECK"].partition("CMD ")[2])[:2] == ["cardoon", "health"]
    check_command(json.loads(last["CMD"]))
    order = [kind for kind, _ in told]
    assert order.index("USER") > max(at for at, kind in enumerate(order) if kind in {"RUN", "COPY"})
    assert not any(kind == "ADD" for kind in order)


def test_the_image_is_made_in_two_steps_from_one_base_that_can_be_pinned():
    bases = [rest.split()[0] for kind, rest in instructions() if kind == "FROM"]

    assert bases == ["${BASE}", "${BASE}"]
    assert instructions()[0][1].startswith("BASE=")
    assert ":latest" not in instructions()[0][1]
