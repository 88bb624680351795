//! Tests of paths in settings that must be found again from another working directory.

use vintage_settings::RunConfig;

use super::{file, resolve};
use crate::layers::Layers;

#[test]
fn a_reward_command_is_found_again_from_anywhere() {
    let here = std::env::current_dir().expect("a working directory");
    let reward = |layers: Layers| resolve(layers).expect("valid").config.rollout.reward;
    let command = r#"rollout.reward.command=["python3", "judge.py"]"#;
    let given = || Layers::new().set(command).expect("an assignment");
    assert_eq!(reward(given()).directory, Some(here.clone()));
    assert_eq!(reward(Layers::new()).directory, None);

    // A file's command runs in the file's folder if its script is there, else in the working
    // directory.
    let (folder, path) = file("[rollout.reward]\ncommand = [\"python3\", \"judge.py\"]\n");
    let of_file = || Layers::new().file(&path).expect("readable");
    assert_eq!(reward(of_file()).directory, Some(here.clone()));
    std::fs::write(folder.path().join("judge.py"), "").expect("written");
    assert_eq!(reward(of_file()).directory.as_deref(), Some(folder.path()));
    let elsewhere = of_file()
        .set("rollout.reward.directory=judges")
        .expect("an assignment");
    assert_eq!(reward(elsewhere).directory, Some(here.join("judges")));

    // A recorded folder stays, wherever the run is resumed from, and whether or not the command is
    // given again.
    let first = resolve(of_file()).expect("valid");
    let run = tempfile::tempdir().expect("a folder");
    let recorded = run.path().join("config.toml");
    std::fs::write(&recorded, first.to_toml()).expect("written");
    let again = || Layers::new().recorded(&recorded).expect("readable");
    assert_eq!(reward(again()), first.config.rollout.reward);
    let given = again().set(command).expect("an assignment");
    assert_eq!(reward(given), first.config.rollout.reward);

    // A run recorded before the setting existed can be resumed.
    let mut old = first.config.clone();
    old.rollout.reward.directory = None;
    let moved = resolve(again()).expect("valid").config;
    crate::check_resumable(&moved, &old, run.path()).expect("its place is no part of the run");
}

#[test]
fn certificates_are_found_beside_the_file_that_names_them() {
    let text = "[broker_options]\n\"ssl.ca.location\" = \"ca.pem\"\n\"client.id\" = \"a\"\n\
                \"ssl.key.location\" = \"env:KEY\"\n\"ssl.crl.location\" = \"/crl\"\n";
    let (folder, path) = file(text);
    let options = resolve(Layers::new().file(&path).expect("readable"));
    let options = options.expect("valid").config.broker_options;
    // An option whose path does not exist in the file's folder counts from the working directory.
    let here = std::env::current_dir().expect("a working directory");
    assert_eq!(
        options["ssl.ca.location"],
        here.join("ca.pem").display().to_string()
    );
    std::fs::write(folder.path().join("ca.pem"), "").expect("written");
    let options = resolve(Layers::new().file(&path).expect("readable"));
    let options = options.expect("valid").config.broker_options;
    let ca = folder.path().join("ca.pem").display().to_string();
    assert_eq!(options["ssl.ca.location"], ca);
    assert_eq!(options["client.id"], "a");
    assert_eq!(options["ssl.key.location"], "env:KEY");
    assert_eq!(options["ssl.crl.location"], "/crl");
}

#[test]
fn a_list_of_files_starts_from_its_folder_file_by_file() {
    let set = |text: &str| {
        Layers::new()
            .set(text)
            .expect("an assignment")
            .resolve::<RunConfig>()
    };
    let (folder, path) = file("[prompts]\ntrain = [\"a.jsonl\", \"/b.parquet\"]\n");
    let list = Layers::new().file(&path).expect("readable");
    let list = list.resolve::<RunConfig>().expect("valid");
    let train = list.config.prompts.train.as_ref().expect("files");
    assert_eq!(
        train.paths(),
        [folder.path().join("a.jsonl"), "/b.parquet".into()]
    );
    let again: RunConfig = toml::from_str(&list.to_toml()).expect("what was written is read");
    assert_eq!(again.prompts, list.config.prompts);
    let config = set("prompts.train=[\"a.jsonl\", \"b.jsonl\"]")
        .expect("valid")
        .config;
    assert_eq!(config.prompts.train.expect("files").paths().len(), 2);
    for bad in ["prompts.train=[1]", "prompts.train=[]"] {
        assert!(set(bad).is_err(), "{bad}");
    }
}
