//! Option values that refer to a secret: `env:NAME` and `file:/path`.
//!
//! A run's settings are written to its folder and shown by `config show`. Secrets are therefore
//! only referred to there, and read when they are used.

use std::{collections::BTreeMap, fs, path::Path};

/// Returns true if a value names an environment variable or a file instead of being the value.
pub fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

/// Returns the options with every reference replaced by the value it names. `section` is used in
/// messages.
///
/// # Errors
/// The option that could not be read, its source, and what to do.
pub fn reveal(
    section: &str,
    options: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    options
        .iter()
        .map(|(name, value)| {
            let revealed =
                read(value).map_err(|why| format!("{section}.{name} = {value}: {why}"))?;
            Ok((name.clone(), revealed))
        })
        .collect()
}

fn read(value: &str) -> Result<String, String> {
    if let Some(name) = value.strip_prefix("env:") {
        return std::env::var(name)
            .map_err(|_| format!("there is no environment variable {name} of text: set it"));
    }
    let Some(path) = value.strip_prefix("file:") else {
        return Ok(value.to_owned());
    };
    if !Path::new(path).is_absolute() {
        return Err("give the file's whole path, as file:/path".to_owned());
    }
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the file cannot be read ({error}): put the value there"))?;
    // Editors and `echo` end a file with a newline that is not part of the secret.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("key".to_owned(), value.to_owned())])
    }

    #[test]
    fn a_reference_is_replaced_by_what_it_names_and_anything_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        fs::write(&file, "s3cret value\n").expect("written");
        let of_file = reveal(
            "store_options",
            &options(&format!("file:{}", file.display())),
        );
        assert_eq!(of_file.expect("read")["key"], "s3cret value");
        // Cargo sets this one for every test.
        let of_env = reveal("store_options", &options("env:CARGO_PKG_NAME"));
        assert_eq!(of_env.expect("read")["key"], "vintage-config");
        let plain = reveal("store_options", &options("http://localhost:1"));
        assert_eq!(plain.expect("as it is")["key"], "http://localhost:1");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_option() {
        for value in ["env:VINTAGE_NO_SUCH", "file:relative", "file:/no/such/file"] {
            let error = reveal("broker_options", &options(value)).expect_err("nothing there");
            assert!(error.starts_with("broker_options.key = "), "{error}");
            assert!(is_reference(value));
        }
        assert!(!is_reference("plain"));
    }
}
