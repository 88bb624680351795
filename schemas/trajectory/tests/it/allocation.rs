//! Tests that a message's claimed sizes cost no memory: reading makes no single allocation much
//! larger than the message, whatever it claims.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use vintage_trajectory::Rows;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

/// Allocator that passes calls to the system's and records what each thread asks for.
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

fn note(size: usize) {
    LARGEST.set(LARGEST.get().max(size));
    TOTAL.set(TOTAL.get() + size);
}

#[expect(unsafe_code, reason = "the only way to see what is allocated")]
// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Returns the largest single allocation and the sum of all while reading `message`, in bytes.
fn reading(message: &[u8]) -> (usize, usize) {
    allocated(|| Rows::decode(message))
}

fn allocated<T>(read: impl FnOnce() -> T) -> (usize, usize) {
    LARGEST.set(0);
    TOTAL.set(0);
    let result = read();
    let taken = (LARGEST.get(), TOTAL.get());
    drop(result);
    taken
}

const FULL: &[u8] = include_bytes!("../golden/full.arrow");

#[test]
fn forged_numbers_allocate_nothing() {
    reading(FULL);
    let mut message = FULL.to_vec();
    for at in (0..message.len() - 8).step_by(4) {
        for value in [
            0,
            1,
            1 << 16,
            1 << 30,
            i64::from(i32::MAX),
            1 << 40,
            i64::MAX,
        ] {
            let original: [u8; 8] = message[at..at + 8].try_into().unwrap();
            message[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let (largest, total) = reading(&message);
            message[at..at + 8].copy_from_slice(&original);
            assert!(
                largest <= 2 * FULL.len(),
                "{value} at {at}: {largest} bytes at once"
            );
            assert!(
                total <= 64 * 1024,
                "{value} at {at}: {total} bytes together"
            );
        }
    }
}

/// Checks that reading copies the payload at most once, and that all columns share the copy.
#[test]
fn reading_copies_once() {
    let rows = crate::sample::group(8, 5_000);
    let message = vintage_trajectory::encode(&rows).unwrap();
    let (largest, total) = reading(&message);
    assert!(message.len() > 300_000);
    assert!(
        largest <= message.len() && total <= message.len() + 64 * 1024,
        "{largest} {total}"
    );
}

/// Checks that a message which is held as it is read is not copied, and that one at an odd address is
/// read all the same.
#[test]
fn sharing_copies_nothing() {
    let rows = crate::sample::group(8, 5_000);
    let message = vintage_trajectory::encode(&rows).unwrap();
    let (_, total) = allocated(|| Rows::sharing(&message));
    assert!(total <= 64 * 1024, "{total}");
    let mut moved = vec![0];
    moved.extend_from_slice(&message);
    let moved = bytes::Bytes::from(moved).slice(1..);
    for message in [message, moved] {
        assert_eq!(Rows::sharing(&message).unwrap().to_trajectories(), rows);
    }
}
