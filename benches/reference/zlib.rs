//! DEFLATE by the general library.

use flate2::{Compress, Compression, FlushCompress};

/// `text` alone: the entropy coder for the other forms.
pub fn deflate(text: &[u8], level: u32) -> Vec<u8> {
    deflate_with(&mut Compress::new(Compression::new(level), false), &[], text)
}

/// With a preset dictionary; the state is reused, as a server would.
pub fn deflate_with(state: &mut Compress, dictionary: &[u8], text: &[u8]) -> Vec<u8> {
    state.reset();
    if !dictionary.is_empty() {
        state.set_dictionary(&dictionary[dictionary.len().saturating_sub(32_768)..]).expect("a raw stream takes a dictionary");
    }
    let mut out = Vec::with_capacity(text.len() + 1024);
    state.compress_vec(text, &mut out, FlushCompress::Finish).expect("a whole text is compressed");
    out
}

/// The next message of a stream that goes on: what a connection with permessage-deflate sends, less the four bytes it leaves out.
pub fn stream(state: &mut Compress, text: &[u8]) -> usize {
    let mut out = Vec::with_capacity(text.len() + 1024);
    state.compress_vec(text, &mut out, FlushCompress::Sync).expect("a whole text is compressed");
    out.len() - 4
}
