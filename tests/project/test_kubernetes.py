"""The manifests in etc/kubernetes/: against Kubernetes' schemas, with each other, and with the daemon."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from junebug_turn.daemon.settings import load
from junebug_turn.http.admin.metrics import MetricsPage
from junebug_turn.http.admin.probes import Liveness, Readiness
from tests.project.test_docker import image_flags
from tests.support.configurations import only

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "etc" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
VERSIONS = ["1.29", "1.37"]

# The Prometheus operator's own kind, which Kubernetes' schemas don't have.  It is the model_json_schema() of
# ServiceMonitor in cloudcoil-models-prometheus-operator 0.80.1, made from the operator's own definition (Apache-2.0),
# without its descriptions.  The package itself would bring a dozen others for one small file.
SERVICE_MONITOR = ROOT / "tests" / "fixtures" / "servicemonitor-schema.json"


def closed(schema: Any) -> Any:
    """The schema without room for unknown keys: the API server would drop those."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(each) for name, each in schema.items()}
    return found | {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else found


def service_monitor_schema() -> jsonschema.Draft202012Validator:
    """The schema of a ServiceMonitor."""
    return jsonschema.Draft202012Validator(closed(json.loads(SERVICE_MONITOR.read_text())))


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    """The manifests by their kind."""
    found = {}
    for file in FILES:
        manifest = yaml.safe_load(file.read_text())
        found[manifest["kind"]] = manifest
    assert len(found) == len(FILES)
    return found


@pytest.fixture
def pod(manifests: dict[str, Any]) -> Any:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


def values(found: Any) -> list[Any]:
    """All values of mappings, however deep."""
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return [found, *(value for each in inner for value in values(each))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_schema(file: Path, version: str) -> None:
    """Kubernetes takes each of them, in the oldest version that is in use and in the newest."""
    manifest = yaml.safe_load(file.read_text())
    if manifest["kind"] == "ServiceMonitor":
        assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
        service_monitor_schema().validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(("name", "value"), [("prot", "metrics"), ("interval", "soon"), ("port", 8082)])
def test_faults_in_the_service_monitor(manifests: dict[str, Any], name: str, value: Any) -> None:
    """The operator's schema refuses a key that is no key of an endpoint, and a value of a wrong form."""
    wrong = copy.deepcopy(manifests["ServiceMonitor"])
    wrong["spec"]["endpoints"][0][name] = value
    with pytest.raises(jsonschema.ValidationError):
        service_monitor_schema().validate(wrong)


def test_labels(manifests: dict[str, Any]) -> None:
    """Each selector finds the pods, or the Service."""
    labels = {"app.kubernetes.io/name": "junebug-turn"}
    deployment = manifests["Deployment"]["spec"]
    assert deployment["template"]["metadata"]["labels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    selectors = [
        deployment["selector"],
        *(manifests[kind]["spec"]["selector"] for kind in ("PodDisruptionBudget", "ServiceMonitor")),
    ]
    assert all(selector == {"matchLabels": labels} for selector in selectors)
    assert manifests["Service"]["metadata"]["labels"] == labels


def test_configuration(manifests: dict[str, Any], container: Any, pod: Any, tmp_path: Path) -> None:
    """The ConfigMap loads with the Secret's keys and the image's own flags, from where it is mounted, and at the ports
    that are named."""
    (configuration,) = manifests["ConfigMap"]["data"]
    file = tmp_path / configuration
    file.write_text(manifests["ConfigMap"]["data"][configuration])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    environ = {}
    secrets = manifests["Secret"]["stringData"]
    assert (
        manifests["Secret"]["metadata"]["name"]
        == manifests["ConfigMap"]["metadata"]["name"]
        == "junebug-turn"
    )
    for variable in container["env"]:
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "junebug-turn"
            environ[variable["name"]] = secrets[reference["key"]]
        elif variable["name"] == "JUNEBUG_TURN_CONFIG_FILE":
            assert variable["value"] == f"{mounts['configuration']}/{configuration}"
            environ[variable["name"]] = str(file)
        else:
            key = variable["value"].removeprefix(f"{mounts['secrets']}/")
            (tmp_path / key).write_text(secrets[key])
            environ[variable["name"]] = str(tmp_path / key)
    settings = load(image_flags(), environ)
    assert settings.daemon.amqp.password == "change-me"
    assert only(settings).store_config["url"] == secrets["redis_url"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert str(only(settings).http_bind).endswith(f":{ports['http']}")
    assert str(settings.daemon.metrics_bind).endswith(f":{ports['metrics']}")
    # A pod has time for all that its end takes, and is out of the Service before its listener closes.
    daemon = settings.daemon
    assert pod["terminationGracePeriodSeconds"] > daemon.drain_delay + daemon.shutdown_timeout
    ready = container["readinessProbe"]
    assert daemon.drain_delay > ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"]


def test_ports(manifests: dict[str, Any], container: Any) -> None:
    """Service, probes and monitor name ports that are there, and the daemon's own paths."""
    named = {port["name"] for port in container["ports"]}
    service = manifests["Service"]["spec"]["ports"]
    assert {port["targetPort"] for port in service} == named
    (endpoint,) = manifests["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service}
    assert endpoint["path"] == MetricsPage.path
    for probe, path in (("livenessProbe", Liveness.path), ("readinessProbe", Readiness.path)):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}


def test_locked_up(pod: Any, container: Any) -> None:
    """A pod has no root, no right that it does not need, no writable root file system, no token of the cluster, and no
    variables of Services."""
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_rolling_update(manifests: dict[str, Any]) -> None:
    """A rolling restart takes no pod away before another one is ready, and one pod stays while nodes are emptied."""
    deployment = manifests["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment["replicas"] > manifests["PodDisruptionBudget"]["spec"]["minAvailable"]


def test_secrets(manifests: dict[str, Any]) -> None:
    """No manifest but the Secret has a secret."""
    secrets = manifests["Secret"]["stringData"].values()
    others = [value for kind, manifest in manifests.items() if kind != "Secret" for value in values(manifest)]
    assert not any(secret in value for secret in secrets for value in others if isinstance(value, str))
