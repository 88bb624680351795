"""Prints what the deployment files start, as JSON: kind, service, arguments after the program, and
environment. The tests start the same as plain processes."""

import json
import shlex

from places import DEPLOY, VERBS, compose, roles, units


def of_compose():
    for name, service in compose()["services"].items():
        if service["image"].startswith("vintage:"):
            yield name, service["command"], service["environment"]


def of_kubernetes():
    for name, container in roles().items():
        # Values of secrets are the cluster's; the tests have no secret to give.
        env = {each["name"]: each.get("value", "a-secret") for each in container["env"]}
        yield name, container["args"], env


def of_systemd():
    example = (DEPLOY / "systemd/vintage.env.example").read_text().splitlines()
    shared = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    for name, unit in units().items():
        service = [(key, value.replace("%i", "1")) for key, value in unit["Service"]]
        own = dict(value.split("=", 1) for key, value in service if key == "Environment")
        (start,) = (value for key, value in service if key == "ExecStart")
        program, *args = shlex.split(start)
        assert program == "/usr/local/bin/vintage", start
        yield name, args, shared | own


if __name__ == "__main__":
    found = []
    for kind, started in [
        ("compose", of_compose()),
        ("kubernetes", of_kubernetes()),
        ("systemd", of_systemd()),
    ]:
        of_kind = [
            {"kind": kind, "service": name, "args": args, "env": env} for name, args, env in started
        ]
        assert {one["args"][0] for one in of_kind} == set(VERBS.values()), of_kind
        found += of_kind
    print(json.dumps(found))
