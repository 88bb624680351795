"""Checks .github/workflows: by the schema of GitHub's workflows, and by what they have to agree with."""

import json
import pathlib
import re
import tomllib

import check_jsonschema
import jsonschema

from places import ROOT, document

SCHEMAS = pathlib.Path(check_jsonschema.__file__).parent / "builtin_schemas"


def validator(place):
    schema = json.loads((SCHEMAS / place).read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def follows_its_schema(name, file):
    # YAML takes the key `on` for true.
    file = {"on" if key is True else key: value for key, value in file.items()}
    workflow = validator("vendor/github-workflows.json")
    for schema in (workflow, validator("custom/github-workflows-require-timeout.json")):
        errors = [f"{error.json_path}: {error.message}" for error in schema.iter_errors(file)]
        assert not errors, (name, errors)
    # The schema notices a mistake.
    assert not workflow.is_valid(file | {"job": file["jobs"]})


def starts_what_is_there(name, text):
    makefile = (ROOT / "Makefile").read_text()
    for targets in re.findall(r"run: make (.+)", text):
        for target in targets.split():
            assert re.search(rf"^{target}:", makefile, re.M), f"{name}: make {target}"
    for path in re.findall(r"(?:file|run): (infra/\S+)", text):
        assert (ROOT / path).is_file(), f"{name}: {path}"


def builds_with_the_toolchain_of_the_tree(text):
    version = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"container: rust:{version}-slim-" in text and f"RUSTUP_TOOLCHAIN: {version}\n" in text, version


if __name__ == "__main__":
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    for path in files:
        text = path.read_text()
        follows_its_schema(path.name, document(path))
        starts_what_is_there(path.name, text)
        if path.name == "release.yml":
            builds_with_the_toolchain_of_the_tree(text)
    print(len(files), "workflows")
