//! Tests of the model crate against other implementations, against itself, and on damaged files.

mod candle_reference;
mod chats;
mod continuous;
mod finite_difference;
mod folder;
mod following;
mod models;
mod modes;
mod published;
mod reference;
mod sequences;
mod shared;
mod special;
mod threads;
