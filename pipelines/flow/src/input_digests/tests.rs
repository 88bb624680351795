use std::path::{Path, PathBuf};
use vintage_settings::{PromptsConfig, RunConfig};

use bytes::Bytes;
use vintage_control::{PolicyVersion, RunInputs};
use vintage_store::{Store, Weights};

use super::{By, Given, Lead, Made, hold, hold_version_zero, newest};
use crate::{error::Result, prompts::PromptSets};

struct Place {
    folder: tempfile::TempDir,
    store: Store,
    config: RunConfig,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("run").to_string_lossy()).unwrap();
        let mut place = Self {
            folder,
            store,
            config: RunConfig::default(),
        };
        let row = |i| format!("{{\"prompt\": \"{i}=\", \"answer\": \"{i}\"}}\n");
        let train = place.write("train.jsonl", &(0..4).map(row).collect::<String>());
        let heldout = place.write("heldout.jsonl", &(5..8).map(row).collect::<String>());
        let judge = place.write("judge.py", "print(1)");
        place.config.prompts = PromptsConfig {
            train: Some(train.into()),
            heldout: Some(heldout.into()),
            ..PromptsConfig::default()
        };
        let judge = judge.display().to_string();
        place.config.rollout.reward.command = vec!["python3".to_owned(), judge];
        std::fs::create_dir(place.path("model")).unwrap();
        place.write("model/config.json", "{}");
        place.write("model/model.safetensors", "weights");
        place.write("model/README.md", "a card");
        place.config.model.path = Some(place.path("model"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn task(&self) -> PromptSets {
        PromptSets::load(&self.config.prompts, self.folder.path()).unwrap()
    }

    async fn lead(&self, accept: &[&str]) -> Result<()> {
        let made = Made {
            version_zero: true,
            groups: true,
        };
        self.lead_of(accept, made).await
    }

    async fn lead_of(&self, accept: &[&str], made: Made) -> Result<()> {
        let given = Given::to_lead(&self.task(), &self.config).unwrap();
        let accept: Vec<_> = accept.iter().map(|&name| name.to_owned()).collect();
        let lead = Lead {
            accept: &accept,
            made,
        };
        hold(&self.store, &given, By::Lead(lead), Path::new("runs/a")).await
    }

    async fn producer(&self) -> Result<()> {
        let given = Given::to_producer(&self.task(), &self.config).unwrap();
        hold(&self.store, &given, By::Producer(&[]), Path::new("runs/a")).await
    }

    async fn last(&self) -> (u64, RunInputs) {
        let (next, record) = newest(&self.store).await.unwrap();
        (next - 1, record.unwrap())
    }
}

#[tokio::test]
async fn every_file_that_was_given_is_held_and_a_change_is_named() {
    let place = Place::new();
    // A producer that starts first records nothing.
    place.producer().await.unwrap();
    assert_eq!(newest(&place.store).await.unwrap().0, 0);
    place.lead(&[]).await.unwrap();
    place.lead(&[]).await.unwrap();
    place.producer().await.unwrap();
    let (number, record) = place.last().await;
    assert_eq!((number, record.inputs.len()), (0, 4));
    assert_eq!(record.inputs["model.path"].len(), 2, "{record:?}");

    for (setting, file) in [
        ("prompts.train", "train.jsonl"),
        ("prompts.heldout", "heldout.jsonl"),
        ("rollout.reward.command", "judge.py"),
        ("model.path", "model/config.json"),
        ("model.path", "model/model.safetensors"),
        ("model.path", "model/tokenizer.json"),
    ] {
        let before = std::fs::read(place.path(file)).ok();
        place.write(file, "{\"prompt\": \"9=\", \"answer\": \"1\"}\n");
        let refused = place.lead(&[]).await.unwrap_err();
        assert!(refused.is_usage());
        let message = refused.to_string();
        let name = file.rsplit('/').next().unwrap();
        for word in [setting, name, "has changed", &format!("--accept {setting}")] {
            assert!(message.contains(word), "{file}: {message}");
        }
        // A change is accepted only under the name of its own setting.
        assert!(place.lead(&["prompts.tarin"]).await.is_err());
        let other = if setting == "model.path" {
            "prompts.train"
        } else {
            "model.path"
        };
        assert!(place.lead(&[other]).await.is_err());
        let of_producers = ["prompts.train", "rollout.reward.command"];
        let producer = place.producer().await;
        assert_eq!(producer.is_err(), of_producers.contains(&setting), "{file}");
        match before {
            Some(bytes) => std::fs::write(place.path(file), bytes).unwrap(),
            None => std::fs::remove_file(place.path(file)).unwrap(),
        }
        place.lead(&[]).await.unwrap();
    }
    assert_eq!(place.last().await.0, 0, "nothing was accepted");
    // Files that no loader reads may change, and a deleted folder is no longer needed.
    place.write("model/README.md", "another card");
    place.lead(&[]).await.unwrap();
    std::fs::remove_dir_all(place.path("model")).unwrap();
    place.lead(&[]).await.unwrap();
}

#[tokio::test]
async fn a_change_that_was_accepted_is_recorded_and_holds() {
    let place = Place::new();
    place.lead(&[]).await.unwrap();
    let first = place.last().await.1;
    let old = std::fs::read_to_string(place.path("judge.py")).unwrap();
    place.write("judge.py", "print(0)");
    place.lead(&["rollout.reward.command"]).await.unwrap();
    let (number, second) = place.last().await;
    assert_eq!(number, 1);
    assert_eq!(second.accepted, ["rollout.reward.command"]);
    assert_eq!(
        second.inputs["prompts.train"],
        first.inputs["prompts.train"]
    );
    place.lead(&[]).await.unwrap();
    place.producer().await.unwrap();
    // Accepting an unchanged setting writes no record, and a change back is a change too.
    place.lead(&["rollout.reward.command"]).await.unwrap();
    assert_eq!(place.last().await.0, 1);
    place.write("judge.py", &old);
    assert!(place.lead(&[]).await.is_err() && place.producer().await.is_err());
}

impl Place {
    /// Has the command run in the folder.
    fn judged_by(&mut self, words: &[&str]) {
        let reward = &mut self.config.rollout.reward;
        reward.command = words.iter().map(|&word| word.to_owned()).collect();
        reward.directory = Some(self.folder.path().to_owned());
    }
}

#[tokio::test]
async fn files_of_one_name_and_the_program_beside_them_are_held_each() {
    let mut place = Place::new();
    for folder in ["a", "b"] {
        std::fs::create_dir(place.path(folder)).unwrap();
        place.write(&format!("{folder}/rules.json"), folder);
    }
    place.judged_by(&["./judge.py", "a/rules.json", "--also=b/rules.json"]);
    place.lead(&[]).await.unwrap();
    let record = place.last().await.1;
    let names: Vec<_> = record.inputs["rollout.reward.command"].keys().collect();
    assert_eq!(names, ["a/rules.json", "b/rules.json", "judge.py"]);
    for name in ["a/rules.json", "b/rules.json", "judge.py"] {
        let before = std::fs::read_to_string(place.path(name)).unwrap();
        place.write(name, "another");
        let message = place.producer().await.unwrap_err().to_string();
        assert!(message.contains(&format!("{name} has sha256")), "{message}");
        assert!(place.lead(&[]).await.is_err());
        place.write(name, &before);
    }
    place.producer().await.unwrap();
}

#[tokio::test]
async fn a_record_by_base_name_is_met_and_renewed() {
    let mut place = Place::new();
    std::fs::create_dir(place.path("a")).unwrap();
    let rules = place.write("a/rules.json", "1");
    place.judged_by(&["./judge.py", "a/rules.json"]);
    let older = RunInputs {
        format: vintage_control::CONTROL_FORMAT.to_owned(),
        inputs: [(
            "rollout.reward.command".to_owned(),
            [("rules.json".to_owned(), super::sha256_of(&rules).unwrap())].into(),
        )]
        .into(),
        accepted: Vec::new(),
        sampling: std::collections::BTreeMap::new(),
    };
    let created = place.store.create_json("inputs/0.json", &older);
    let _created = created.await.unwrap();
    place.producer().await.unwrap();
    place.write("a/rules.json", "2");
    let message = place.producer().await.unwrap_err().to_string();
    assert!(message.contains("rules.json has sha256"), "{message}");
    assert!(!message.contains("judge.py"), "{message}");
    place.write("a/rules.json", "1");
    place.lead(&[]).await.unwrap();
    let (number, record) = place.last().await;
    assert_eq!((number, record.accepted.len()), (1, 0));
    assert_eq!(record.inputs["rollout.reward.command"].len(), 2);
    place.write("judge.py", "print(0)");
    let message = place.producer().await.unwrap_err().to_string();
    assert!(message.contains("judge.py has sha256"), "{message}");
}

#[tokio::test]
async fn a_command_of_which_no_file_is_known_is_warned_of() {
    let mut place = Place::new();
    let warning = |place: &Place| {
        let given = Given::to_lead(&place.task(), &place.config).unwrap();
        given.unheld(&place.config.rollout)
    };
    assert_eq!(warning(&place), None);
    for words in [
        &["bash", "-c", "python3 judge.py"][..],
        &["python3", "-m", "installed"],
    ] {
        place.judged_by(words);
        let message = warning(&place).expect("a warning");
        assert!(message.contains(&words.join(" ")), "{message}");
        assert!(message.contains("cannot be noticed"), "{message}");
    }
    place.judged_by(&["python3", "-m", "judge"]);
    assert_eq!(warning(&place), None);
    place.judged_by(&[]);
    assert_eq!(warning(&place), None);
}

#[tokio::test]
async fn what_nothing_was_made_of_may_be_mended() {
    let place = Place::new();
    let made = |version_zero, groups| Made {
        version_zero,
        groups,
    };
    place.lead(&[]).await.unwrap();
    place.write("judge.py", "print(0)");
    place.lead_of(&[], made(true, false)).await.unwrap();
    place.producer().await.unwrap();
    place.write("judge.py", "print(2)");
    assert!(place.lead_of(&[], made(true, true)).await.is_err());
    place.write("judge.py", "print(0)");
    place.write("model/config.json", "{ }");
    assert!(place.lead_of(&[], made(true, false)).await.is_err());
    place.lead_of(&[], made(false, false)).await.unwrap();
    assert_eq!(place.last().await.1.accepted, ["model.path"]);
}

#[tokio::test]
async fn a_tokenizer_that_is_not_version_0s_is_refused() {
    let place = Place::new();
    let policy = "lead".parse().unwrap();
    let weights = Weights::new(place.store.clone(), "lead".parse().unwrap());
    hold_version_zero(&weights, &policy).await.unwrap();
    let files = vec![
        ("model.safetensors", Bytes::from_static(b"weights")),
        ("tokenizer.json", Bytes::from_static(b"{}")),
    ];
    let published = weights.publish(PolicyVersion::ZERO, files);
    let _manifest = published.await.unwrap();
    hold_version_zero(&weights, &policy).await.unwrap();
    assert!(weights.check(PolicyVersion::ZERO).await.unwrap().is_empty());

    let at = |name: &str| place.path("run/weights/lead/0").join(name);
    for (name, word) in [
        ("tokenizer.json", "sha256"),
        ("chat_template.jinja", "not listed"),
    ] {
        let before = std::fs::read(at(name)).ok();
        std::fs::write(at(name), "other").unwrap();
        let refused = hold_version_zero(&weights, &policy).await.unwrap_err();
        assert!(refused.is_usage(), "{refused}");
        let message = refused.to_string();
        assert!(
            message.contains(name) && message.contains(word),
            "{message}"
        );
        match before {
            Some(bytes) => std::fs::write(at(name), bytes).unwrap(),
            None => std::fs::remove_file(at(name)).unwrap(),
        }
    }
    std::fs::remove_file(at("tokenizer.json")).unwrap();
    let message = hold_version_zero(&weights, &policy).await.unwrap_err();
    assert!(message.to_string().contains("missing"), "{message}");
    std::fs::write(at("model.safetensors"), "weighty").unwrap();
    let faults = weights.check(PolicyVersion::ZERO).await.unwrap();
    assert_eq!(faults.len(), 2, "{faults:?}");
}
