//! Building blocks of CPU kernels: instruction sets, matrix products, and splitting of work by
//! shape.

mod gemm;
mod multiversion;
mod parallel;
mod pieces;
mod skinny;
pub(crate) mod vector;

pub(crate) use self::gemm::{Mat, MatMut, matmul, product};
pub(crate) use self::multiversion::{Isa, isa, multiversion};
pub(crate) use self::parallel::{
    ROWS, copied, each, in_pool, is_worth_it, made_in_parallel, map_blocks, rows_in_parallel, zeros,
};
pub(crate) use self::pieces::{Blocks, each_piece};
pub(crate) use self::skinny::dots;
pub(crate) use self::vector::{products, sum_of_squares};
