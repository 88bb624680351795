//! The Python package: the wheel that `make wheel` built, with NumPy and pyarrow alone.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use vintage_tests::{binary, python, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the wheel; there is one, because `make wheel` removes older ones.
fn wheel() -> Result<PathBuf> {
    let folder = root().join("target/wheels");
    let missing = || format!("{}: run make wheel", folder.display());
    let mut wheels = folder.read_dir().with_context(missing)?;
    Ok(wheels.next().with_context(missing)??.path())
}

#[test]
fn the_wheel_trains_reads_and_refuses_without_pytorch() -> Result<()> {
    let wheel = wheel()?;
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    ensure!(name.contains("-abi3-"), "{name}");
    let unpacked = tempfile::tempdir()?;
    let mut unpack = Command::new(python());
    unpack.args(["-m", "zipfile", "-e"]);
    unpack.arg(&wheel).arg(unpacked.path());
    let done = run(unpack)?;
    ensure!(done.status.success(), "{}", done.stderr);
    ensure!(unpacked.path().join("vintage/py.typed").is_file());
    let tests = root().join("infra/python/tests");
    let mut command = Command::new(python());
    let path = std::env::join_paths([unpacked.path(), &tests])?;
    command.env("PYTHONPATH", path).env("VINTAGE", binary());
    command.args(["-m", "unittest", "discover", "-s"]);
    command.arg(&tests);
    let tested = run(command)?;
    ensure!(tested.status.success(), "{}", tested.stderr);
    ensure!(!tested.stderr.contains("Ran 0 tests"), "{}", tested.stderr);
    Ok(())
}

/// Tests that the package's types fit each other, and that a program which misuses them is told so.
#[test]
fn the_package_is_typed() -> Result<()> {
    let package = root().join("infra/python");
    let folder = tempfile::tempdir()?;
    let mypy = || {
        let mut command = Command::new(python());
        command.args(["-m", "mypy", "--no-incremental", "--config-file"]);
        command.arg(package.join("pyproject.toml"));
        command.current_dir(&package);
        command
    };
    let mut whole = mypy();
    whole.arg("vintage");
    let checked = run(whole)?;
    ensure!(checked.status.success(), "{}", checked.stdout);

    let program = folder.path().join("wrong.py");
    let text =
        "import vintage\n\nvintage.Writer('run', name=3)\nvintage.read('run', column=['reward'])\n";
    std::fs::write(&program, text)?;
    let mut wrong = mypy();
    wrong.env("MYPYPATH", &package).arg(&program);
    let told = run(wrong)?;
    ensure!(told.status.code() == Some(1), "{}", told.stderr);
    for error in ["\"name\" to \"Writer\"", "\"column\" for \"read\""] {
        ensure!(told.stdout.contains(error), "{}", told.stdout);
    }
    Ok(())
}
