"""Files of infra/deploy and what they say, as the checks beside this one read them."""

import pathlib
import re
import tomllib

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "infra/deploy"
COMPOSE = ROOT / "infra/compose.yaml"
# Roles by the component that they are in manifests and units, with their verbs.
VERBS = {"learner": "learn", "rollout": "rollout", "archive": "archive"}


class Unique(yaml.SafeLoader):
    """Loader that refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: given twice: {twice}"
        return super().construct_mapping(node, deep)


def documents(path):
    """Returns the documents of a YAML file."""
    with open(path) as file:
        return [one for one in yaml.load_all(file, Unique) if one is not None]


def document(path):
    (one,) = documents(path)
    return one


def compose():
    """Returns the Compose file with its variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text())
    assert "${" not in text, "a variable without a default breaks `up` of the cluster alone"
    return yaml.load(text, Unique)


def manifests():
    """Returns every Kubernetes object with the file that it is in."""
    found = []
    for path in sorted((DEPLOY / "kubernetes").rglob("*.yaml")):
        if path.name not in ("kustomization.yaml", "scrape.yaml"):
            found += [(path, one) for one in documents(path)]
    return found


def objects(kind):
    return {one["metadata"]["name"]: one for _, one in manifests() if one["kind"] == kind}


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def roles():
    """Returns the container of each role's Deployment."""
    found = {}
    for name, deployment in objects("Deployment").items():
        if name.startswith("vintage-"):
            (container,) = pod(deployment)["containers"]
            found[name.removeprefix("vintage-")] = container
    assert found.keys() == VERBS.keys(), found.keys()
    return found


def units():
    """Returns the systemd units by name: sections of (key, value) pairs."""
    found = {}
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        sections = {}
        for line in path.read_text().splitlines():
            line = line.strip()
            if line.startswith("["):
                pairs = sections.setdefault(line.strip("[]"), [])
            elif line and not line.startswith("#"):
                key, equals, value = line.partition("=")
                assert equals, f"{path.name}: {line}"
                pairs.append((key, value))
        found[path.name] = sections
    return found


def topics():
    """Returns the table of topics and sizes."""
    return tomllib.loads((ROOT / "infra/kafka/topics.toml").read_text())


def defaults():
    return tomllib.loads((ROOT / "pipelines/presets/default.toml").read_text())
