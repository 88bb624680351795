use std::path::PathBuf;
use vintage_flow::config::*;
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or("warn".into()))
        .init();
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().unwrap());
    let mut layers = Layers::new();
    for a in args {
        layers = if let Some(p) = a.strip_prefix("preset=") {
            layers.preset(p).unwrap()
        } else {
            layers.set(&a).unwrap()
        };
    }
    if std::env::var("REPLAY").is_ok() {
        let (tx, _rx) = tokio::sync::mpsc::unbounded_channel();
        println!("{:?}", vintage_flow::replay_exact(&out, None, &tx).await);
        return;
    }
    let resolved = layers.resolve::<RunConfig>().unwrap();
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(e) = rx.recv().await {
            match e {
                vintage_flow::RunEvent::Producer(_) => {}
                vintage_flow::RunEvent::WarmStart { step, loss, .. } => {
                    if step % 200 == 0 {
                        eprintln!("warm {step} {loss}")
                    }
                }
                vintage_flow::RunEvent::Learner(vintage_learner::LearnerEvent::Updated(r)) => {
                    if r.version.0 % 20 == 0 {
                        eprintln!(
                            "u {} r {:.3} stale {:.1} m2 {:.5} mask {} wait {:.4} upd {:.4} rec {:.4}",
                            r.version,
                            r.reward,
                            r.mean_staleness,
                            r.m2_before,
                            r.masked_tokens,
                            r.wait_seconds,
                            r.update_seconds,
                            r.record_seconds
                        )
                    }
                }
                vintage_flow::RunEvent::Learner(vintage_learner::LearnerEvent::Published(_)) => {}
                e => eprintln!("{e:?}"),
            }
        }
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let s = stop.clone();
    tokio::spawn(async move {
        tokio::signal::ctrl_c().await.unwrap();
        s.cancel();
    });
    match vintage_flow::run(&resolved, &out, &stop, &tx).await {
        Ok(s) => println!("{}", serde_json::to_string_pretty(&s).unwrap()),
        Err(e) => {
            eprintln!("ERR {e}");
            let mut s: Option<&dyn std::error::Error> = std::error::Error::source(&e);
            while let Some(x) = s {
                eprintln!("  by {x}");
                s = x.source();
            }
        }
    }
}
