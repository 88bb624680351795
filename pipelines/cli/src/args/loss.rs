//! Names of losses on the command line.

use vintage_control::AlgorithmName;

/// Parses the name of a loss.
pub(crate) fn loss(name: &str) -> Result<AlgorithmName, String> {
    let mut names = AlgorithmName::ALL.into_iter();
    names.find(|loss| loss.as_str() == name).ok_or_else(|| {
        let names = AlgorithmName::ALL.map(AlgorithmName::as_str);
        format!("no loss has this name; there are {}", names.join(", "))
    })
}
