use std::time::Duration;
use vintage_config::{Layers, Resolved};
use vintage_settings::RunConfig;

use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{SettingsOf, SettingsWatch, await_run, await_settings, is_set_explicitly};
use crate::{error::Error, event::RunEvent, folder::RunFolder};

const LONG: Duration = Duration::from_secs(60);

fn resolved(settings: &[&str]) -> Resolved<RunConfig> {
    let layers = settings.iter().fold(Layers::new(), |layers, setting| {
        layers.set(setting).expect("a setting")
    });
    layers.resolve().expect("settings")
}

#[tokio::test]
async fn a_role_waits_for_the_leads_settings_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let stop = CancellationToken::new();
    let (events, mut heard) = mpsc::unbounded_channel();
    let own = resolved(&[]);
    let waiting = await_settings(&own, &out, &stop, &events);
    let lead = async {
        let Some(RunEvent::Phase(said)) = heard.recv().await else {
            panic!("it says nothing");
        };
        assert!(said.contains("waiting for the settings"), "{said}");
        assert!(!out.exists(), "who waits makes nothing");
        RunFolder::share(&out, &resolved(&["learner.prompts_per_update=4"])).unwrap()
    };
    let (of, lead) = timeout(LONG, async { tokio::join!(waiting, lead) })
        .await
        .unwrap();
    assert_eq!(of.unwrap(), SettingsOf::Lead);
    drop(lead);
    // The settings exist, so no event is sent.
    let of = await_settings(&own, &out, &stop, &events).await.unwrap();
    assert_eq!(of, SettingsOf::Lead);
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_role_that_waits_long_says_what_to_do_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let stop = CancellationToken::new();
    stop.cancel();
    let (events, _heard) = mpsc::unbounded_channel();
    let ended = await_settings(&resolved(&[]), &out, &stop, &events).await;
    assert!(matches!(ended, Err(Error::Interrupted)));
    assert!(!out.exists());

    let (events, mut heard) = mpsc::unbounded_channel();
    let mut waiting = super::Waiting::new(&out);
    waiting.tell(&events);
    waiting.tell(&events);
    waiting.since -= super::PATIENCE;
    waiting.tell(&events);
    waiting.tell(&events);
    let mut said = Vec::new();
    while let Ok(RunEvent::Phase(text)) = heard.try_recv() {
        said.push(text);
    }
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].contains("start `vintage learn --out"), "{said:?}");
}

#[tokio::test]
async fn a_follower_begins_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mistyped");
    let name = "b".parse().unwrap();
    let (events, _heard) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let joining = await_run(&out, &name, &stop, &events);
    let refused = timeout(LONG, joining).await.unwrap().unwrap_err();
    assert!(refused.is_usage(), "{refused}");
    let message = refused.to_string();
    for word in ["--name b", "mistyped", "--out", "learner.name=b"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!out.exists());
    let _lead = RunFolder::share(&out, &resolved(&[])).unwrap();
    await_run(&out, &name, &stop, &events).await.unwrap();
}

#[tokio::test]
async fn a_role_with_settings_of_its_own_ends_where_the_leads_say_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let own = resolved(&["run=a"]);
    assert!(is_set_explicitly(&own, "run") && !is_set_explicitly(&own, "learner.steps"));
    let stop = CancellationToken::new();
    let look_out = SettingsWatch::begin(&own.config, &out, &stop);
    let _lead = RunFolder::share(&out, &resolved(&["run=a", "namespace=other"])).unwrap();
    timeout(LONG, look_out.stop.cancelled()).await.unwrap();
    let refused = look_out.end(Ok(())).await.unwrap_err();
    assert!(refused.is_usage(), "{refused}");
    assert!(refused.to_string().contains("namespace"), "{refused}");
    assert!(!stop.is_cancelled(), "it ends this role, not the process");

    // The role continues where the settings agree; where the folder has settings, there is no
    // watch.
    for settings in [["run=a", "namespace=other"], ["run=b", "namespace=b"]] {
        let look_out = SettingsWatch::begin(&resolved(&settings).config, &out, &stop);
        assert_eq!(look_out.end(Ok(7)).await.unwrap(), 7);
    }
}
