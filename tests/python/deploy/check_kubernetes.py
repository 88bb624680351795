"""Checks infra/deploy/kubernetes. Kubernetes' own kinds by its schemas; Strimzi's and KEDA's kinds, for
which no package ships schemas, by what they must say; topics and users by the tables they follow."""

import re
import tomllib

import kubernetes_validate

from places import DEPLOY, ROOT, defaults, document, manifests, objects, pod, roles, topics

FOREIGN = {
    "kafka.strimzi.io/v1": {"Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"},
    "keda.sh/v1alpha1": {"ScaledObject"},
}
RUN = tomllib.loads((DEPLOY / "kubernetes/base/run.toml").read_text())
PREFIX = f"vintage.{RUN['run']}."


def follows_the_schemas():
    version, checked = kubernetes_validate.latest_version(), 0
    for path, one in manifests():
        if one["kind"] not in FOREIGN.get(one["apiVersion"], ()):
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f"{path}: {one['kind']}: {error}") from error
            checked += 1
    wrong = next(iter(objects("Deployment").values()))
    wrong = wrong | {"spec": wrong["spec"] | {"replica": 1}}
    try:
        kubernetes_validate.validate(wrong, version, strict=True)
    except kubernetes_validate.ValidationError:
        return checked
    raise AssertionError("a mistyped key goes unnoticed")


def kustomizations_name_what_is_there():
    found = sorted(DEPLOY.rglob("kustomization.yaml"))
    assert len(found) == 6, found
    for path in found:
        file, folder = document(path), path.parent
        assert file["kind"] in ("Kustomization", "Component"), path
        named = file.get("resources", []) + file.get("components", [])
        for generator in file.get("configMapGenerator", []):
            named += [name.split("=")[-1] for name in generator["files"]]
        for name in named:
            place = folder / name
            assert place.is_file() or (place / "kustomization.yaml").is_file(), f"{path}: {name}"
        # What is in the folder is used.
        own = {each.name for each in folder.glob("*.yaml")} - {"kustomization.yaml"}
        if "kubernetes" in path.parts:
            assert own <= set(map(str.strip, named)), f"{path}: {own - set(named)}"
        for patch in file.get("patches", []):
            assert patch["target"]["name"] in objects(patch["target"]["kind"]), patch


def topics_follow_the_table():
    table, found = topics(), objects("KafkaTopic")
    assert found.keys() == {f"{PREFIX}{name}.v1" for name in table["topics"]}, found.keys()
    copies = RUN["topics"]["replication"]
    for name, wanted in table["topics"].items():
        spec = found[f"{PREFIX}{name}.v1"]["spec"]
        wanted = dict(wanted)
        assert spec["partitions"] == wanted.pop("partitions", RUN["topics"]["partitions"]), name
        assert spec["replicas"] == copies == 3, name
        wanted |= {"max.message.bytes": table["sizes"]["max_message_bytes"], "min.insync.replicas": 2}
        given = {key: str(value) for key, value in spec["config"].items()}
        assert given == {key: str(value) for key, value in wanted.items()}, (name, given)


def users_have_the_rights_of_the_table():
    page = (ROOT / "infra/kafka/README.md").read_text()
    right = re.compile(r"((?:`[A-Z_]+`(?:, | and )?)+) on ((?:`[a-z]+\.v1`(?:, | and )?)+)")
    words = re.compile(r"`([^`]+)`")
    found, named = objects("KafkaUser"), set(topics()["topics"])
    for component, verb in (("learner", "learn"), ("rollout", "rollout"), ("archive", "archive")):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{verb}` |"))
        wanted = set()
        for operations, on in right.findall(row):
            wanted |= {(op, topic) for op in words.findall(operations) for topic in words.findall(on)}
        assert len(wanted) == {"learn": 8, "rollout": 4, "archive": 2}[verb], (verb, wanted)
        given, shared = set(), []
        for acl in found[f"vintage-{component}"]["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            if resource["patternType"] == "prefix":
                shared.append((resource["type"], resource["name"], sorted(acl["operations"])))
                continue
            topic = resource["name"].removeprefix(PREFIX)
            assert resource["type"] == "topic" and topic.removesuffix(".v1") in named, resource
            given |= {(operation.upper(), topic) for operation in acl["operations"]}
        assert given == wanted, (verb, given ^ wanted)
        assert sorted(shared) == [
            ("group", "vintage-", ["Read"]),
            ("topic", PREFIX, ["Describe", "DescribeConfigs"]),
        ], shared
    assert "every role | `DESCRIBE`, `DESCRIBE_CONFIGS` on all six | `READ` |" in page


def kafka_is_what_the_settings_say():
    (kafka,), (nodes,) = objects("Kafka").values(), objects("KafkaNodePool").values()
    name, spec = kafka["metadata"]["name"], kafka["spec"]["kafka"]
    pom = (ROOT / "infra/kafka/pom.xml").read_text()
    assert f"<kafka.version>{spec['version']}<" in pom, spec["version"]
    (listener,) = spec["listeners"]
    assert RUN["broker"] == f"{name}-kafka-bootstrap:{listener['port']}"
    assert listener["tls"] is True and listener["authentication"] == {"type": "scram-sha-512"}
    assert spec["authorization"] == {"type": "simple"}
    options = RUN["broker_options"]
    assert options["security.protocol"] == "SASL_SSL"
    assert options["sasl.mechanisms"] == "SCRAM-SHA-512"
    assert nodes["spec"]["replicas"] == 3 and nodes["spec"]["roles"] == ["controller", "broker"]
    assert spec["config"]["message.max.bytes"] == 2 * topics()["sizes"]["max_message_bytes"]
    for one in [*objects("KafkaTopic").values(), *objects("KafkaUser").values(), nodes]:
        assert one["metadata"]["labels"]["strimzi.io/cluster"] == name, one["metadata"]


def roles_end_and_start_in_order():
    patience = defaults()["archive"]["patience_seconds"]
    for component, container in roles().items():
        deployment = objects("Deployment")[f"vintage-{component}"]
        spec, inside = deployment["spec"], pod(deployment)
        labels = spec["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/component"] == component
        for probe, path in (("startup", "healthz"), ("liveness", "healthz"), ("readiness", "readyz")):
            get = container[f"{probe}Probe"]["httpGet"]
            assert get == {"path": f"/{path}", "port": "metrics"}, (component, probe, get)
        (port,) = container["ports"]
        assert RUN["metrics"]["listen"] == f"0.0.0.0:{port['containerPort']}"
        assert inside["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert inside["terminationGracePeriodSeconds"] >= 300
        secrets = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
        assert secrets == [{"name": f"vintage-{component}", "key": "password"}], secrets
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in inside["volumes"]}
        assert set(mounts.values()) == volumes, (component, mounts, volumes)
        config = container["args"][container["args"].index("--config") + 1]
        assert mounts[config.rpartition("/")[0]] == "settings"
        assert mounts[RUN["broker_options"]["ssl.ca.location"].rpartition("/")[0]] == "kafka-ca"
    learner, archive = (objects("Deployment")[f"vintage-{name}"] for name in ("learner", "archive"))
    assert learner["spec"]["replicas"] == 1 and learner["spec"]["strategy"] == {"type": "Recreate"}
    assert pod(archive)["terminationGracePeriodSeconds"] > patience
    (budget,) = objects("PodDisruptionBudget").values()
    rollout = objects("Deployment")["vintage-rollout"]["spec"]
    assert budget["spec"]["selector"] == rollout["selector"]


def producers_are_scaled_by_what_is_measured():
    (scaled,) = objects("ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in objects("Deployment")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    host, port = trigger["metadata"]["serverAddress"].removeprefix("http://").split(":")
    name, namespace = host.split(".")[:2]
    (space,) = objects("Namespace")
    service = objects("Service")[name]["spec"]
    assert namespace == space and int(port) == service["ports"][0]["port"]
    labels = objects("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


if __name__ == "__main__":
    checked = follows_the_schemas()
    kustomizations_name_what_is_there()
    topics_follow_the_table()
    users_have_the_rights_of_the_table()
    kafka_is_what_the_settings_say()
    roles_end_and_start_in_order()
    producers_are_scaled_by_what_is_measured()
    print(checked, "objects follow the schemas of Kubernetes", kubernetes_validate.latest_version())
