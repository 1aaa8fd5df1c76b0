//! A whole LTX file, decoded and encoded in one call; for tests and fuzz targets.

use litekeep_formats::ltx::{Decoder, Encoder, Header, PageEncoding, Trailer};
use litekeep_formats::{Checksum, PageNo};

/// A file decoded as a whole and found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) header: Header,
    pub(crate) pages: Vec<(PageNo, Vec<u8>)>,
    pub(crate) trailer: Trailer,
}

/// Decodes and verifies everything; the error as text.
pub(crate) fn decode(bytes: &[u8]) -> Result<Whole, String> {
    let mut decoder = Decoder::new(bytes).map_err(|error| error.to_string())?;
    let header = *decoder.header();
    let mut page = vec![0; header.page_size.bytes()];
    let mut pages = Vec::new();
    while let Some(number) = decoder.next_page(&mut page).map_err(|error| error.to_string())? {
        pages.push((number, page.clone()));
    }
    let trailer = decoder.finish().map_err(|error| error.to_string())?;
    Ok(Whole { header, pages, trailer })
}

/// Encodes a whole file; the error as text.
pub(crate) fn encode(
    header: &Header,
    encoding: PageEncoding,
    pages: &[(PageNo, Vec<u8>)],
    post_apply: Option<Checksum>,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(header, encoding, &mut out).map_err(|error| error.to_string())?;
    for (page, data) in pages {
        encoder.page(*page, data, &mut out).map_err(|error| error.to_string())?;
        assert_eq!(encoder.bytes_written(), out.len() as u64);
    }
    encoder.finish(post_apply, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}
