"""deploy/kubernetes: what Kubernetes takes, for a service that can do what it is told, and no more than it needs."""

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import pytest

from engines.signatures import TrustedKeys
from service.security.keys import KeyFile
from service.security.roles import Role, needed_role
from service.settings import Settings, read_settings
from tests.deploy.dockerfile import stages
from tests.deploy.kubernetes import (
    CLASSES,
    DEVICE,
    FOLDER,
    NAME,
    ONCE,
    SITES,
    build,
    built,
    container,
    of_kind,
    pod,
    selects,
    variables,
    workload,
)
from tests.service.running import PROGRAM, running_server
from tests.service.test_engines import archive

# The oldest that a JetPack 5 device may run, and the newest known here.
VERSIONS = ("1.28", "1.37")
IMAGE = stages()[-1]
OPERATORS_OWN = "ServiceMonitor"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*SITES, *ONCE])
def test_every_object_is_of_kubernetes_schema(name: str, version: str) -> None:
    objects = [one for one in built(name) if one["kind"] != OPERATORS_OWN]
    assert objects
    for one in objects:
        kubernetes_validate.validate(one, version, strict=True)


def test_a_wrong_field_would_be_seen() -> None:
    wrong = workload("overlays/cpu") | {"spec": workload("overlays/cpu")["spec"] | {"replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", SITES)
def test_no_pod_has_what_the_namespace_forbids(name: str) -> None:
    (namespace,) = built("cluster")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert all(one["metadata"]["namespace"] == namespace["metadata"]["name"] for one in built(name))
    rights, own = pod(name)["securityContext"], container(name)["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod(name).keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert pod(name)["automountServiceAccountToken"] is False
    kinds = {key for volume in pod(name)["volumes"] for key in volume} - {"name"}
    assert kinds <= {"secret", "configMap", "emptyDir"}
    assert not [port for port in container(name)["ports"] if "hostPort" in port]


@pytest.mark.parametrize("name", SITES)
def test_it_runs_as_the_user_of_the_image(name: str) -> None:
    uid = int(re.search(r"--uid (\d+)", IMAGE.only("RUN"))[1])
    rights = pod(name)["securityContext"]
    assert (rights["runAsUser"], rights["runAsGroup"], rights["fsGroup"]) == (uid, uid, uid)


@pytest.mark.parametrize("name", SITES)
def test_the_settings_exist_are_valid_and_name_what_is_mounted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = variables(name)
    secret = {one["name"] for one in container(name).get("env", []) if "valueFrom" in one}
    ours = {variable for variable in said.keys() | secret if variable.startswith("UNISPECT_")}
    assert {variable.removeprefix("UNISPECT_").lower() for variable in ours} <= set(Settings.model_fields)
    assert (said.keys() | secret) - ours <= {"NVIDIA_VISIBLE_DEVICES"}
    for variable, value in said.items():
        monkeypatch.setenv(variable, value)
    settings = read_settings([])
    assert settings.port == container(name)["ports"][0]["containerPort"]
    assert settings.host == "0.0.0.0"  # noqa: S104
    mounts = {Path(mount["mountPath"]): mount for mount in container(name)["volumeMounts"]}
    paths = [settings.keys_dir, settings.trusted_keys, settings.tls_certificate, settings.tls_key]
    for path in filter(None, paths):
        (place,) = [mount for mount in mounts if path.is_relative_to(mount)]
        assert mounts[place]["readOnly"] is True
    assert not mounts[settings.data_dir].get("readOnly")
    writable = {mount["name"] for mount in mounts.values() if not mount.get("readOnly")}
    assert writable == {"data", "tmp"}
    claims = {claim["metadata"]["name"] for claim in workload(name)["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod(name)["volumes"]} | claims
    assert "data" in claims


def test_the_keys_that_it_needs_are_those_of_the_secret_and_no_others() -> None:
    by_name = {volume["name"]: volume for volume in pod("overlays/xavier")["volumes"]}
    assert by_name["keys"]["secret"]["secretName"] == "unispect-keys"
    assert variables("overlays/xavier")["UNISPECT_KEYS_DIR"] == "/keys"
    # Read by a group that is its own: neither by others nor for writing.
    assert by_name["keys"]["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize("name", SITES)
def test_the_first_start_has_the_time_that_the_compiler_needs(name: str) -> None:
    probe = container(name)["startupProbe"]
    assert probe["httpGet"]["path"] == "/readyz"
    seconds = probe["periodSeconds"] * probe["failureThreshold"]
    allowed = int(re.search(r"--start-period=(\d+)m", IMAGE.only("HEALTHCHECK"))[1]) * 60
    assert seconds >= (allowed if pod(name).get("runtimeClassName") else 120)


@pytest.mark.parametrize("name", SITES)
def test_probes_ask_what_opens_without_a_key(name: str) -> None:
    probes = {kind: container(name)[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    ports = {port["name"] for port in container(name)["ports"]}
    scheme = "HTTPS" if "UNISPECT_TLS_CERTIFICATE" in variables(name) else "HTTP"
    for probe in probes.values():
        assert needed_role("GET", probe["httpGet"]["path"]) is None
        assert probe["httpGet"]["port"] in ports
        assert probe["httpGet"].get("scheme", "HTTP") == scheme
        assert probe["timeoutSeconds"] <= probe["periodSeconds"]
    # A restart helps only where /livez says so: one that compiles, or waits for its ledger, is left alone.
    assert probes["liveness"]["httpGet"]["path"] == "/livez"
    assert probes["readiness"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", SITES)
def test_no_request_in_flight_is_cut(name: str) -> None:
    drain = int(variables(name)["UNISPECT_DRAIN_SECONDS"])
    assert pod(name)["terminationGracePeriodSeconds"] > drain


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_devices_has_its_own_nodes_and_its_own_runtime(name: str) -> None:
    spec = pod(f"overlays/{name}")
    assert spec["nodeSelector"][DEVICE] == name
    assert spec["nodeSelector"]["kubernetes.io/arch"] == ("amd64" if name == "cpu" else "arm64")
    assert spec.get("runtimeClassName") == (None if name == "cpu" else "nvidia")
    assert "cpu" not in container(f"overlays/{name}")["resources"]["limits"]
    assert container(f"overlays/{name}")["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("name", SITES)
def test_a_device_has_one_service_and_keeps_its_data(name: str) -> None:
    labels = workload(name)["spec"]["template"]["metadata"]["labels"]
    (apart,) = pod(name)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    assert selects(apart["labelSelector"]["matchLabels"], labels)
    (claim,) = workload(name)["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert set(workload(name)["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def selector_of(one: dict) -> dict[str, str] | None:
    match one["kind"]:
        case "Service":
            return one["spec"]["selector"]
        case "PodDisruptionBudget" | "StatefulSet":
            return one["spec"]["selector"]["matchLabels"]
        case "NetworkPolicy":
            return one["spec"]["podSelector"]["matchLabels"]
    return None


@pytest.mark.parametrize("name", SITES)
def test_all_that_selects_pods_selects_those_of_its_class_alone(name: str) -> None:
    labels = workload(name)["spec"]["template"]["metadata"]["labels"]
    selectors = {one["kind"]: selector_of(one) for one in built(name)}
    assert {"Service", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet"} <= selectors.keys()
    for kind, selector in selectors.items():
        if selector is not None:
            assert selector, kind
            assert selects(selector, labels), kind
    for other in CLASSES:
        strangers = labels | {DEVICE: other}
        if other != labels[DEVICE]:
            (budget,) = of_kind(built(name), "PodDisruptionBudget")
            assert not selects(selector_of(budget), strangers)
            assert not selects(selector_of(workload(name)), strangers)


def test_classes_stand_side_by_side_in_one_cluster() -> None:
    folders = [*(f"overlays/{name}" for name in CLASSES), *ONCE]
    named = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for name in folders
        for one in built(name)
    ]
    assert len(named) == len(set(named))
    ports = [port["nodePort"] for name in folders for one in built(name) for port in one_nodes(one)]
    assert len(ports) == len(set(ports)) == len(CLASSES)


def one_nodes(one: dict) -> list[dict]:
    return [port for port in one["spec"]["ports"] if "nodePort" in port] if one["kind"] == "Service" else []


@pytest.mark.parametrize("name", SITES)
def test_a_line_reaches_its_own_device_and_no_other(name: str) -> None:
    (line,) = [one for one in of_kind(built(name), "Service") if one["spec"].get("type") == "NodePort"]
    assert (line["spec"]["externalTrafficPolicy"], line["spec"]["internalTrafficPolicy"]) == ("Local", "Local")
    ports = {port["name"] for port in container(name)["ports"]}
    assert {port["targetPort"] for port in line["spec"]["ports"]} == ports
    (headless,) = [one for one in of_kind(built(name), "Service") if one["spec"].get("clusterIP") == "None"]
    assert workload(name)["spec"]["serviceName"] == headless["metadata"]["name"]


@pytest.mark.parametrize("name", SITES)
def test_the_network_lets_in_what_asks_and_out_what_is_fetched(name: str) -> None:
    policies = [one["spec"] for one in of_kind(built(name), "NetworkPolicy")]
    assert {kind for policy in policies for kind in policy["policyTypes"]} == {"Ingress", "Egress"}
    inward = [port for policy in policies for rule in policy.get("ingress", []) for port in rule["ports"]]
    assert {port["port"] for port in inward} == {port["name"] for port in container(name)["ports"]}
    assert all(rule.get("from") for policy in policies for rule in policy.get("ingress", []))
    outward = [rule for policy in policies for rule in policy.get("egress", [])]
    (names,) = [rule for rule in outward if {port["port"] for port in rule["ports"]} == {53}]
    assert {port["protocol"] for port in names["ports"]} == {"UDP", "TCP"}
    # The name server is none of ours: a label of this class here would cut the device off.
    assert NAME not in str(names)
    ports = {port["port"] for rule in outward for port in rule["ports"]}
    central = any(one["name"] == "UNISPECT_LEDGER" for one in container(name).get("env", []))
    assert ports == {53, 443} | ({5432} if central else set())


def test_a_drain_takes_one_device_at_a_time() -> None:
    for name in SITES:
        (budget,) = of_kind(built(name), "PodDisruptionBudget")
        assert budget["spec"]["maxUnavailable"] == 1
        assert workload(name)["spec"]["updateStrategy"]["type"] == "RollingUpdate"


def test_another_bundle_is_a_rollout_and_the_same_one_is_none(tmp_path: Path) -> None:
    def settings_of(url: str) -> str:
        folder = tmp_path / "kubernetes"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(FOLDER, folder)
        file = folder / "example" / "kustomization.yaml"
        file.write_text(file.read_text().replace("s3://bundles/parts-7.zip", url))
        objects = build(folder / "example")
        (stateful,) = of_kind(objects, "StatefulSet")
        (settings,) = of_kind(objects, "ConfigMap")
        assert settings["data"]["UNISPECT_BUNDLE_URL"] == url
        (only,) = stateful["spec"]["template"]["spec"]["containers"]
        (reference,) = [one["configMapRef"]["name"] for one in only["envFrom"] if "configMapRef" in one]
        assert reference == settings["metadata"]["name"]
        return reference

    first = settings_of("s3://bundles/parts-7.zip")
    assert settings_of("s3://bundles/parts-8.zip") != first
    assert settings_of("s3://bundles/parts-7.zip") == first


def test_the_example_is_of_twelve_devices_and_stops_at_the_last() -> None:
    spec = workload("example")["spec"]
    assert spec["replicas"] == 12
    assert spec["updateStrategy"]["rollingUpdate"]["partition"] == spec["replicas"] - 1


def test_the_monitor_finds_each_device_once_by_a_key_of_the_least_role() -> None:
    (monitor,) = of_kind(built("monitoring"), OPERATORS_OWN)
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    spec = monitor["spec"]
    assert spec.keys() <= {"selector", "endpoints", "targetLabels", "namespaceSelector", "jobLabel"}
    (endpoint,) = spec["endpoints"]
    known = {"port", "path", "interval", "scrapeTimeout", "authorization", "relabelings", "scheme", "tlsConfig"}
    assert endpoint.keys() <= known
    assert endpoint["authorization"]["credentials"].keys() == {"name", "key"}
    assert needed_role("GET", endpoint["path"]) is Role.INSPECT
    for name in SITES:
        found = [
            one
            for one in of_kind(built(name), "Service")
            if selects(spec["selector"]["matchLabels"], one["metadata"]["labels"])
        ]
        assert len(found) == 1
        assert endpoint["port"] in {port["name"] for port in found[0]["spec"]["ports"]}
        assert found[0]["metadata"]["namespace"] == monitor["metadata"]["namespace"]
        # One that is still compiling is scraped as well.
        assert found[0]["spec"]["publishNotReadyAddresses"] is True
    relabelled = {rule["targetLabel"]: rule for rule in endpoint["relabelings"]}
    assert relabelled.keys() == {"instance", "job"}
    (policy,) = of_kind(built("monitoring"), "NetworkPolicy")
    assert selects(selector_of(policy), workload("overlays/cpu")["spec"]["template"]["metadata"]["labels"])


def test_no_secret_is_in_git_nor_can_get_there(tmp_path: Path) -> None:
    assert not [one for name in (*SITES, *ONCE) for one in built(name) if one["kind"] == "Secret"]
    if (git := shutil.which("git")) is None:
        pytest.skip("no git here")
    folder = Path(shutil.copytree(FOLDER / "secrets", tmp_path / "secrets"))
    for name in ("keys.json", "metrics.key", "store.env", "trusted.pub", "plant", ".keys.lock"):
        (folder / name).touch()
    subprocess.run([git, "init", "--quiet", str(folder)], check=True)
    seen = subprocess.run(
        [git, "-C", str(folder), "status", "--porcelain"], check=True, capture_output=True, text=True
    ).stdout
    assert set(seen.splitlines()) == {"?? .gitignore", "?? kustomization.yaml"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder of the secrets with what the programs write into it."""
    folder = Path(shutil.copytree(FOLDER / "secrets", tmp_path / "secrets"))

    def run(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.strip()

    run(*PROGRAM, "keys", "create", "line", "--role", "inspect", "--data-dir", str(folder))
    key = run(*PROGRAM, "keys", "create", "prometheus", "--role", "inspect", "--data-dir", str(folder))
    (folder / "metrics.key").write_text(key)
    run(sys.executable, "-m", "build_engines.cli", "keygen", str(tmp_path / "plant"))
    shutil.copy(tmp_path / "plant.pub", folder / "trusted.pub")
    (folder / "store.env").write_text("AWS_ACCESS_KEY_ID=reader\nAWS_SECRET_ACCESS_KEY=secret\n")
    return folder


def test_the_secrets_are_those_that_pods_and_monitor_name(secrets: Path, tmp_path: Path) -> None:
    objects = build(secrets)
    made = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    for one in objects:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
    mounted = pod("overlays/xavier")["volumes"]
    needed = {("Secret", volume["secret"]["secretName"]) for volume in mounted if "secret" in volume}
    needed |= {("ConfigMap", volume["configMap"]["name"]) for volume in mounted if "configMap" in volume}
    sources = container("overlays/xavier")["envFrom"]
    needed |= {("Secret", source["secretRef"]["name"]) for source in sources if "secretRef" in source}
    (monitor,) = of_kind(built("monitoring"), OPERATORS_OWN)
    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    needed.add(("Secret", credentials["name"]))
    assert needed == made.keys()
    key = base64.b64decode(made["Secret", credentials["name"]]["data"][credentials["key"]]).decode()
    assert key.startswith("unispect_")
    assert key == key.strip()


def test_a_service_does_with_these_settings_and_secrets_what_it_is_to_do(
    secrets: Path, signed_bundle: Path, signing_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(f"{signing_key}.pub", secrets / "trusted.pub")
    root = tmp_path / "root"
    mount(build(secrets), root)
    store = tmp_path / "parts-1.zip"
    store.write_bytes(archive(signed_bundle))
    said = variables("overlays/cpu") | {"UNISPECT_BUNDLE_URL": store.as_uri()}
    for name in ("UNISPECT_KEYS_DIR", "UNISPECT_TRUSTED_KEYS"):
        said[name] = str(root / said[name].lstrip("/"))
    flags = [part for name, value in said.items() for part in (flag(name), value) if name not in SET_BY_THE_TEST]
    assert TrustedKeys.read(Path(said["UNISPECT_TRUSTED_KEYS"]))
    assert len(KeyFile(Path(said["UNISPECT_KEYS_DIR"])).read()) == 2
    with running_server(tmp_path / "none", tmp_path / "server", *flags) as server:
        assert server.client.get("/metrics").status_code == 401
        key = {"X-API-Key": (secrets / "metrics.key").read_text()}
        assert server.client.get("/metrics", headers=key).status_code == 200
        assert server.client.post("/v1/engines/rollback", headers=key).status_code == 403
        assert server.client.get("/v1/engine", headers=key).json()["backend"] == "openvino"
        assert not list((tmp_path / "server" / "data").glob("keys.json"))
        # As kubelet exchanges a secret: by a link, under a service that runs.
        revoke(secrets, root)
        server.wait_for(lambda: server.client.get("/metrics", headers=key).status_code == 401)


SET_BY_THE_TEST = {"UNISPECT_PORT", "UNISPECT_DATA_DIR"}


def flag(name: str) -> str:
    return f"--{name.removeprefix('UNISPECT_').lower().replace('_', '-')}"


def mount(objects: tuple[dict, ...], root: Path) -> None:
    """What the pod sees of secrets and config maps, below `root`, as kubelet lays it out: links into a folder."""
    made = {one["metadata"]["name"]: one for one in objects}
    for volume in pod("overlays/cpu")["volumes"]:
        name = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
        if name is None:
            continue
        (place,) = [
            one["mountPath"] for one in container("overlays/cpu")["volumeMounts"] if one["name"] == volume["name"]
        ]
        folder = root / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        behind = Path(tempfile.mkdtemp(prefix="..", dir=folder))
        for file, text in made[name]["data"].items():
            content = base64.b64decode(text) if made[name]["kind"] == "Secret" else text.encode()
            (behind / file).write_bytes(content)
            (behind / file).chmod(volume.get("secret", {}).get("defaultMode", 0o644))
            if not (folder / file).is_symlink():
                (folder / file).symlink_to(Path("..data") / file)
        link = folder / "..new"
        link.symlink_to(behind.name)
        link.replace(folder / "..data")


def revoke(secrets: Path, root: Path) -> None:
    subprocess.run(
        [*PROGRAM, "keys", "revoke", "prometheus", "--data-dir", str(secrets)], check=True, capture_output=True
    )
    mount(build(secrets), root)
