//! Name of this machine, as part of the names of processes.

use vintage_control::Name;

/// Number of characters of a machine's name that are kept. With the longest name of an engine and the
/// 32 digits of a process, a producer's id stays a valid name.
const KEPT: usize = 20;

/// Returns an id of a process that works under `name`: with the machine's name, and new in every
/// process.
pub(crate) fn process_id(name: &str) -> String {
    let unique = uuid::Uuid::now_v7().simple();
    match kept(&nodename()) {
        Some(host) => format!("{name}-{host}-{unique}"),
        None => format!("{name}-{unique}"),
    }
}

/// Returns `name` with this machine's name behind it.
pub(crate) fn named(name: &str) -> Result<Name, vintage_control::BadName> {
    match kept(&nodename()) {
        Some(host) => format!("{name}-{host}").parse(),
        None => name.parse(),
    }
}

/// File in which Linux has the machine's name.
const NODENAME: &str = "/proc/sys/kernel/hostname";

/// Returns the machine's name, as the kernel or, on another system than Linux, a shell knows it; empty
/// if neither does.
fn nodename() -> String {
    let of_kernel = std::fs::read_to_string(NODENAME);
    of_kernel
        .or_else(|_| std::env::var("HOSTNAME"))
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

/// Keeps what a name may have of a machine's: the first label, in small letters. `None` if nothing
/// is left.
fn kept(nodename: &str) -> Option<String> {
    let label = nodename.split('.').next().unwrap_or_default();
    let small: String = label
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '-',
        })
        .take(KEPT)
        .collect();
    let small = small.trim_matches('-');
    (!small.is_empty()).then(|| small.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_machine_name_makes_a_valid_name() {
        assert_eq!(kept("GPU_7.example.org").as_deref(), Some("gpu-7"));
        let long = "a-very-long-machine-name-of-some-cloud";
        assert_eq!(kept(long).as_deref(), Some("a-very-long-machine"));
        assert_eq!(kept("主机"), None);
        assert_eq!(kept(""), None);
        let id = process_id("openai");
        let name: Name = id.parse().expect("a name");
        assert!(name.as_str().starts_with("openai-"), "{name}");
        assert_ne!(id, process_id("openai"));
        named("local").expect("a name");
    }
}
