"""Checks the Dockerfile and the systemd units. usage: check_host.py PROGRAM, the program as built"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

from places import DEPLOY, ROOT, VERBS, defaults, units

# Debian packages of the shared libraries that the program may need; those of the C library and of the
# compiler are in every image of Debian.
LIBRARIES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "libz.so.1": "zlib1g",
    "libgcc_s.so.1": None,
    "libm.so.6": None,
    "libc.so.6": None,
    "ld-linux-x86-64.so.2": None,
}
UNITS = {f"vintage-{name}.service": verb for name, verb in
         {"learn": "learn", "rollout@": "rollout", "archive": "archive"}.items()}
SECONDS = {"s": 1, "min": 60, "h": 3600}


def run(*command):
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def the_image_is_lean_and_whole(program):
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    run(hadolint, "--failure-threshold", "info", DEPLOY / "Dockerfile")
    text = (DEPLOY / "Dockerfile").read_text()
    version = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"FROM rust:{version}-slim-" in text and f"RUSTUP_TOOLCHAIN={version}\n" in text, version
    builder, final = text.split("\nFROM debian:")
    debian = re.search(r"FROM rust:[\d.]+-slim-(\w+) AS builder", builder)[1]
    assert final.startswith(f"{debian}-slim"), "built and run on two releases of Debian"
    assert re.search(r"^USER (\d+):\d+$", final, re.M)[1] != "0"
    copied = re.findall(r"^COPY .*?([^ ]+) [^ ]+$", final, re.M)
    assert copied == ["/out/vintage", "infra/deploy/healthcheck.sh"], copied
    assert not re.search(r"(?i)(password|secret|token)\w*\s*=", text)
    installed = re.search(r"apt-get install [^&]*", final)[0].split()
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--dynamic", program))
    assert "libc.so.6" in needed, needed
    for library in needed:
        assert library in LIBRARIES, f"{library} is needed, and the image may lack it"
        package = LIBRARIES[library]
        assert package is None or package in installed, f"{library}: {package} is not installed"
    for package in set(LIBRARIES.values()) - {None}:
        used = any(LIBRARIES.get(library) == package for library in needed)
        assert used, f"{package} is not needed"


def units_are_whole():
    found = units()
    assert found.keys() == UNITS.keys(), found.keys()
    for name, sections in found.items():
        assert sections.keys() == {"Unit", "Service", "Install"}, name
        service = dict(sections["Service"])
        words = service["ExecStart"].split()
        assert words[:2] == ["/usr/local/bin/vintage", UNITS[name]], words
        # Data are where the unit may write.
        out = words[words.index("--out") + 1]
        assert service["StateDirectory"] == "vintage" and out.startswith("/var/lib/vintage/"), out
        assert service["ProtectSystem"] == "strict" and service["NoNewPrivileges"] == "yes", name
        assert service["User"] not in ("root", "0"), name
        assert service["Restart"] == "on-failure", name
        # docs/reference.md: 2 is a user's error, 3 a negative check.
        assert set(service["RestartPreventExitStatus"].split()) == {"2", "3"}, name
        assert set(service["SuccessExitStatus"].split()) == {"143", "130"}, name
        assert service["KillSignal"] == "SIGTERM" and service["KillMode"] == "mixed", name
        number, unit = re.fullmatch(r"(\d+)(\w+)", service["TimeoutStopSec"]).groups()
        wait = int(number) * SECONDS[unit]
        patience = defaults()["archive"]["patience_seconds"]
        assert wait > (patience if UNITS[name] == "archive" else 60), (name, wait)
        assert "StartLimitBurst" in dict(sections["Unit"]), name
    # No two units on one address.
    listens = [value for sections in found.values() for key, value in sections["Service"]
               if key == "Environment" and "LISTEN" in value]
    assert len(set(listens)) == len(VERBS) == len(listens), listens
    assert all("=127.0.0.1:" in listen for listen in listens), listens


def systemd_takes_them():
    """Has systemd read the units, where it is installed; the program is another that is there."""
    if shutil.which("systemd-analyze") is None:
        return "no systemd here: units are checked by their text alone"
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name in units():
            text = (DEPLOY / "systemd" / name).read_text().replace("/usr/local/bin/vintage", "/bin/true")
            path = pathlib.Path(folder) / name
            path.write_text(text)
            paths.append(path.with_name(name.replace("@.", "@1.")))
        said = run("systemd-analyze", "verify", "--man=no", *paths)
    unknown = [line for line in said.splitlines() if folder in line]
    assert not unknown, unknown
    return "systemd takes the units"


if __name__ == "__main__":
    the_image_is_lean_and_whole(sys.argv[1])
    units_are_whole()
    print(systemd_takes_them())
