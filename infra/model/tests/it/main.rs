//! The decoder against other implementations, against itself, and against damaged files.

mod candle_reference;
mod device;
mod finite_difference;
mod folder;
mod models;
mod modes;
mod reference;
mod sequences;
mod threads;
