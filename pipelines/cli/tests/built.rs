//! Test of the binary itself. Cargo builds a package's binaries for its integration tests only, so
//! without this file `cargo test --workspace` would run `tests/it` on an older `vintage`.

use std::process::Command;

#[test]
fn the_binary_of_this_build_tells_its_version() {
    let told = Command::new(env!("CARGO_BIN_EXE_vintage"))
        .arg("--version")
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{}", told.status);
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
