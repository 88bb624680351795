//! Table of the combination lock: `cargo run --release -p vintage-experiment --example lock [SEEDS] [FIRST]`.

use std::{env, error::Error};

use vintage_experiment::lock::{Settings, run};

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let number = |at| env::args().nth(at).map(|number| number.parse()).transpose();
    let settings = Settings {
        seeds: number(1)?.unwrap_or(10),
        first_seed: number(2)?.unwrap_or(0),
        ..Settings::default()
    };
    print!("{}", run(&settings, &|_| {})?.text());
    Ok(())
}
