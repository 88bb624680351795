//! The table of the combination lock: `cargo run --release -p vintage-experiment --example lock [SEEDS]`.

use std::{env, error::Error};

use vintage_experiment::lock::{Settings, run};

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let seeds = env::args().nth(1).map_or(Ok(10), |seeds| seeds.parse())?;
    let settings = Settings {
        seeds,
        ..Settings::default()
    };
    println!("{}", run(&settings, &|_| {})?.text());
    Ok(())
}
