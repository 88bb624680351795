//! Integration tests: one binary that checks the tree and drives the built `vintage`.

mod architecture;
mod audit;
mod bad_input;
mod card;
mod chaos;
mod fuzz;
mod garbage;
mod kill;
mod learners;
mod math;
mod memory;
mod mistakes;
mod models;
mod outages;
mod pages;
mod python;
mod readers;
mod replay;
mod republish;
mod roles;
mod s3;
mod secured;
mod sink;
mod small;
mod zombie;
