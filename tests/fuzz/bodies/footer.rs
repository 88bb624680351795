/// Checks the footer that is read from any bytes as the end of an archive file.
pub(crate) fn body(bytes: &[u8]) -> bool {
    match vintage_archive::read_footer(bytes) {
        Ok(footer) => {
            assert!(footer.next_offset > footer.base_offset);
            true
        }
        Err(_) => false,
    }
}
