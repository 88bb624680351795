//! Addresses at which a broker listens, read from Linux's `/proc`.

use std::{collections::HashSet, path::Path};

/// Returns the addresses at which a process listens, as `IP:port` in the kernel's hexadecimal form.
pub(crate) fn listening(process: &Path) -> Vec<String> {
    let links = std::fs::read_dir(process.join("fd")).unwrap();
    let open: HashSet<_> = links
        .filter_map(|link| std::fs::read_link(link.unwrap().path()).ok())
        .filter_map(|target| {
            let name = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(name.to_owned())
        })
        .collect();
    let tables = ["net/tcp", "net/tcp6"].map(|table| {
        let text = std::fs::read_to_string(process.join(table)).unwrap_or_default();
        let rows = text.lines().skip(1).filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // State 0A is LISTEN; the tenth field is the socket's inode.
            (fields[3] == "0A" && open.contains(fields[9])).then(|| fields[1].to_owned())
        });
        rows.collect::<Vec<_>>()
    });
    tables.concat()
}

/// Returns true for a loopback address in the kernel's form: IPv4, IPv4 mapped into IPv6, or IPv6.
pub(crate) fn is_loopback(address: &str) -> bool {
    let ip = address.split(':').next().unwrap_or_default();
    [
        "0100007F",
        "0000000000000000FFFF00000100007F",
        "00000000000000000000000001000000",
    ]
    .contains(&ip)
}
