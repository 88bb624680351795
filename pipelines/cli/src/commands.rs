//! The commands, one file per verb: each reads its arguments, calls a library and prints the
//! result.

mod audit;
mod bench;
mod broker;
pub(crate) mod completions;
mod config;
mod doctor;
mod eval;
mod experiment;
mod export;
mod inspect;
mod mismatch;
mod parity;
mod prune;
mod replay;
mod report;
mod reward;
mod roles;
mod run;
mod samples;
mod serve;
mod staleness;
mod topics;
mod uses;
mod weigh;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use anyhow::Result;
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    task::JoinHandle,
};
use vintage_flow::RunEvent;
use vintage_flow::devices;

use crate::{
    args::{Verb, WeighArgs},
    exit::{CommandOutcome, Signal, Usage},
    output::{Output, writer},
    progress::{Display, Screen, watch},
    signals::Signals,
};

/// Environment of a command: output, progress display and signals.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) display: Display,
    pub(crate) screen: Screen,
    pub(crate) signals: Signals,
}

impl Context {
    /// Starts a task that shows the events sent to the returned sender, until the sender is
    /// dropped.
    fn progress(&self, steps: u64) -> (UnboundedSender<RunEvent>, JoinHandle<()>) {
        let (events, heard) = mpsc::unbounded_channel();
        let shown = tokio::spawn(watch(heard, self.display, self.screen.clone(), steps));
        (events, shown)
    }
}

/// Runs a verb. The first signal ends one that only reads, and asks the others to finish what is under way.
pub(crate) async fn execute(verb: Verb, context: &Context) -> Result<CommandOutcome> {
    let reads = only_reads(&verb);
    let work = Box::pin(run_verb(verb, context));
    tokio::select! {
        outcome = work => outcome,
        () = context.signals.stop.cancelled(), if reads => {
            let signal = context.signals.received().unwrap_or(Signal::Interrupt);
            Ok(CommandOutcome::Interrupted(signal))
        }
    }
}

/// Returns true if a verb changes nothing, or writes one file when it is done.
fn only_reads(verb: &Verb) -> bool {
    match verb {
        Verb::Replay(args) => args.exact,
        Verb::Audit(_)
        | Verb::Parity(_)
        | Verb::Mismatch(_)
        | Verb::Report(_)
        | Verb::Samples(_)
        | Verb::Uses(_)
        | Verb::Inspect(_)
        | Verb::Doctor(_) => true,
        _ => false,
    }
}

async fn run_verb(verb: Verb, context: &Context) -> Result<CommandOutcome> {
    match verb {
        Verb::Run(args) => run::run(&args, context).await,
        Verb::Rollout(args) => roles::rollout(&args, context).await,
        Verb::Learn(args) => Box::pin(roles::learn(&args, context)).await,
        Verb::Archive(args) => roles::archive(&args, context).await,
        Verb::Replay(args) => replay::replay(&args, context).await,
        Verb::Audit(args) => audit::audit(&args, context).await,
        Verb::Weigh(args) => weigh_file(&args, context),
        Verb::Parity(args) => parity::parity(&args, context).await,
        Verb::Mismatch(args) => mismatch::mismatch(&args, context).await,
        Verb::Staleness(args) => staleness::staleness(&args, context).await,
        Verb::Eval(args) => eval::eval(&args, context).await,
        Verb::Export(args) => export::export(&args, context).await,
        Verb::Serve(args) => serve::serve(&args, context).await,
        Verb::Report(args) => report::report(&args, context).await,
        Verb::Reward(args) => reward::reward(&args.command, context).await,
        Verb::Samples(args) => samples::samples(&args, context).await,
        Verb::Uses(args) => uses::uses(&args, context).await,
        Verb::Inspect(args) => inspect::inspect(&args, context).await,
        Verb::Prune(args) => prune::prune(&args, context).await,
        Verb::Topics(args) => topics::topics(&args.command, context).await,
        Verb::Broker(args) => broker::broker(&args.command, context).await,
        Verb::Doctor(args) => doctor::doctor(&args, context).await,
        Verb::Config(command) => config::config(&command, context),
        Verb::Init(args) => config::init(&args),
        Verb::Bench(args) => bench::bench(&args.command, context).await,
        Verb::Experiment(args) => experiment::experiment(&args.command, context).await,
        Verb::Completions(args) => completions::completions(&args),
    }
}

fn weigh_file(args: &WeighArgs, context: &Context) -> Result<CommandOutcome> {
    let cases: Box<dyn BufRead> = if args.cases == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let path = args.cases.display();
        let file = File::open(&args.cases)
            .map_err(|error| Usage::new(format!("cannot read the cases in {path}: {error}")))?;
        Box::new(BufReader::new(file))
    };
    let mut out = writer();
    if let Some(device) = args.device {
        let weigher = devices().weigher(device);
        let weigher = weigher.map_err(|error| Usage::new(error.to_string()))?;
        let differ = weigh::compare(cases, &mut out, weigher.as_ref())?;
        return Ok(verdict(differ));
    }
    let weighed = weigh::run(cases, &mut out, args.variant)?;
    if weighed.refused > 0 {
        let (refused, cases) = (weighed.refused, weighed.cases);
        let line = format!("{refused} of {cases} cases were refused: each says why");
        context.screen.line(&line);
    }
    Ok(verdict(weighed.refused))
}

/// Returns a negative outcome if `amiss` is above 0.
fn verdict(amiss: u64) -> CommandOutcome {
    if amiss == 0 {
        CommandOutcome::Done
    } else {
        CommandOutcome::Negative
    }
}
