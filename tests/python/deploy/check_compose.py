"""Checks infra/compose.yaml: by the schema of the Compose specification, and what no schema says."""

import json
import pathlib

import check_jsonschema
import jsonschema

from places import COMPOSE, DEPLOY, ROOT, compose, document

SCHEMAS = pathlib.Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor"


def follows_the_specification(file):
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(file)]
    assert not errors, errors
    # The schema notices a mistake.
    wrong = file | {"services": file["services"] | {"x": {"imagee": "y"}}}
    assert not validator.is_valid(wrong)


def starts_the_cluster_alone_unless_asked(services):
    alone = {name for name, service in services.items() if "profiles" not in service}
    assert alone == {"kafka-1", "kafka-2", "kafka-3"}, alone
    assert all(service.get("profiles", ["roles"]) == ["roles"] for service in services.values())
    for name in alone:
        assert set(services[name].get("depends_on", [])) <= alone, name


def publishes_on_loopback_only(services):
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") and port.count(":") == 2, f"{name}: {port}"
        assert "network_mode" not in service and "privileged" not in service, name


def pins_its_images(services):
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert image and tag not in ("", "latest"), f"{name}: {service['image']}"


def refers_to_what_is_there(file):
    volumes = set(file["volumes"])
    for name, service in file["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            there = (COMPOSE.parent / source).exists() if source.startswith(".") else source in volumes
            assert there, f"{name}: {mount}"
        for other, how in service.get("depends_on", {}).items():
            assert other in file["services"], f"{name}: {other}"
            assert "healthcheck" in file["services"][other], f"{name} waits for {other}: {how}"
        if build := service.get("build"):
            context = (COMPOSE.parent / build["context"]).resolve()
            assert context == ROOT and (context / build["dockerfile"]).is_file(), build
        for word in ("${", "latest"):
            assert word not in json.dumps(service), f"{name}: {word}"


def gives_roles_the_store_that_it_starts(services):
    store = services["store"]
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for name, service in services.items():
        if service["image"] != "vintage:local":
            continue
        env = service["environment"]
        assert [env[key] for key in keys] == [store["environment"][key] for key in keys], name
        bucket = env["VINTAGE__STORE"].removeprefix("s3://").split("/")[0]
        assert f"-bucket={bucket}" in store["command"], bucket
        assert env["VINTAGE__STORE_OPTIONS__ENDPOINT"] == "http://store:8333"
        brokers = env["VINTAGE__BROKER"].split(",")
        assert brokers == [f"kafka-{node}:9092" for node in (1, 2, 3)], brokers
        assert all(isinstance(value, str) for value in env.values()), env


def is_scraped_whole(services):
    (job,) = document(DEPLOY / "monitoring/prometheus.yaml")["scrape_configs"]
    scraped = {name: each["port"] for each in job["dns_sd_configs"] for name in each["names"]}
    roles = {name for name, service in services.items() if service["image"] == "vintage:local"}
    assert scraped.keys() == roles, (scraped, roles)
    for name, port in scraped.items():
        assert services[name]["environment"]["VINTAGE__METRICS__LISTEN"] == f"0.0.0.0:{port}"


if __name__ == "__main__":
    file = compose()
    services = file["services"]
    follows_the_specification(file)
    starts_the_cluster_alone_unless_asked(services)
    publishes_on_loopback_only(services)
    pins_its_images(services)
    refers_to_what_is_there(file)
    gives_roles_the_store_that_it_starts(services)
    is_scraped_whole(services)
    print(len(services), "services")
