//! Where an answer's text is from, both ways.

use crate::chat::{Citation, Raw};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::json::{Cursor, Writer, compact};

/// How many citations of one answer are read or kept.
const CITATIONS_MAX: usize = 1024;

/// A citation as Google tells it: places are in bytes.
#[derive(Debug)]
pub(super) struct Found {
    citation: Citation,
    /// The number of the part in its content.
    pub(super) part: usize,
    bytes: Option<(u64, u64)>,
}

impl Found {
    /// The citation, whose place is counted in characters of this text.
    pub(super) fn within(self, text: &str) -> Citation {
        let characters = |at: u64| {
            let before = usize::try_from(at).ok().and_then(|at| text.get(..at))?;
            Some(before.chars().count() as u64)
        };
        let range = self.bytes.and_then(|(start, end)| characters(start).zip(characters(end)));
        Citation { range: range.filter(|(start, end)| start <= end), ..self.citation }
    }
}

/// Reads `groundingMetadata`: what the supports say of the text, or else what was looked up at all.
pub(super) fn read_grounding(value: &mut Cursor<'_, '_>, found: &mut Vec<Found>) -> Result<()> {
    let (mut pages, mut supports) = (Vec::new(), Vec::new());
    value.members(|name, value| match name {
        "groundingChunks" => value.elements(|value| {
            if pages.len() < CITATIONS_MAX {
                pages.push(page(value)?);
            }
            Ok(())
        }),
        "groundingSupports" => value.elements(|value| {
            if supports.len() < CITATIONS_MAX {
                supports.push(support(value)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    let before = found.len();
    for Support { part, bytes, pages: indices } in supports {
        for index in indices {
            let page = usize::try_from(index).ok().and_then(|index| pages.get(index)?.clone());
            if let Some(citation) = page.filter(|_| found.len() < CITATIONS_MAX) {
                found.push(Found { citation, part, bytes });
            }
        }
    }
    if found.len() == before {
        let whole = pages.into_iter().flatten();
        found.extend(whole.map(|citation| Found { citation, part: 0, bytes: None }));
    }
    Ok(())
}

/// What was looked up; none if it is no page.
fn page(value: &mut Cursor<'_, '_>) -> Result<Option<Citation>> {
    let mut citation = Citation::default();
    value.members(|name, value| match name {
        "web" | "retrievedContext" | "maps" => value.members(|name, value| {
            match name {
                "uri" => citation.url = Some(value.text()?.into_owned()),
                "title" => citation.title = Some(value.text()?.into_owned()),
                "text" => citation.quoted = Some(value.text()?.into_owned()),
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    citation.original = Raw::new(compact(value.was())).map(|json| (Surface::Gemini, json));
    Ok(Some(citation).filter(|citation| citation.url.is_some() || citation.title.is_some()))
}

/// What a stretch of the text is from.
struct Support {
    part: usize,
    bytes: Option<(u64, u64)>,
    /// The numbers of what was looked up.
    pages: Vec<u64>,
}

fn support(value: &mut Cursor<'_, '_>) -> Result<Support> {
    let (mut part, mut start, mut end, mut pages) = (0, 0, None, Vec::new());
    value.members(|name, value| match name {
        "segment" => value.members(|name, value| {
            match name {
                "startIndex" => start = value.count()?,
                "endIndex" => end = Some(value.count()?),
                "partIndex" => part = usize::try_from(value.count()?).unwrap_or(usize::MAX),
                _ => {}
            }
            Ok(())
        }),
        "groundingChunkIndices" => value.elements(|value| {
            if pages.len() < CITATIONS_MAX {
                pages.push(value.count()?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok(Support { part, bytes: end.map(|end| (start, end)), pages })
}

/// Reads `citationMetadata`: what the text repeats.
pub(super) fn read_repeated(value: &mut Cursor<'_, '_>, found: &mut Vec<Found>) -> Result<()> {
    value.members(|name, value| match name {
        "citations" | "citationSources" => value.elements(|value| {
            if found.len() < CITATIONS_MAX {
                found.push(repeated(value)?);
            }
            Ok(())
        }),
        _ => Ok(()),
    })
}

fn repeated(value: &mut Cursor<'_, '_>) -> Result<Found> {
    let (mut citation, mut start, mut end) = (Citation::default(), 0, None);
    value.members(|name, value| {
        match name {
            "uri" => citation.url = Some(value.text()?.into_owned()),
            "title" => citation.title = Some(value.text()?.into_owned()),
            "startIndex" => start = value.count()?,
            "endIndex" => end = Some(value.count()?),
            _ => {}
        }
        Ok(())
    })?;
    citation.original = Raw::new(compact(value.was())).map(|json| (Surface::Gemini, json));
    Ok(Found { citation, part: 0, bytes: end.map(|end| (start, end)) })
}

/// The citations of an answer as they are written.
#[derive(Debug, Default)]
pub(super) struct Grounding {
    pages: Vec<(String, Option<String>)>,
    supports: Vec<Vec<u8>>,
}

impl Grounding {
    /// Adds a citation of a text, which begins at `offset` bytes of the part of this number.
    pub(super) fn add(&mut self, citation: &Citation, text: &str, offset: usize, part: usize) {
        if self.supports.len() >= CITATIONS_MAX {
            return;
        }
        let url = citation.url.clone().unwrap_or_default();
        let page = self.pages.iter().position(|(known, title)| *known == url && *title == citation.title);
        let page = page.unwrap_or_else(|| {
            self.pages.push((url, citation.title.clone()));
            self.pages.len() - 1
        });
        let Some((start, end)) = citation.range else { return };
        let (start, end) = (byte_of(text, start), byte_of(text, end));
        let mut segment = Writer::default();
        if part > 0 {
            segment.plain("partIndex", part);
        }
        segment.plain("startIndex", offset + start);
        segment.plain("endIndex", offset + end.max(start));
        segment.string("text", text.get(start..end).unwrap_or_default());
        let mut support = Writer::default();
        support.member("segment").append(&mut segment.finish());
        support.member("groundingChunkIndices").extend_from_slice(format!("[{page}]").as_bytes());
        self.supports.push(support.finish());
    }

    /// Writes `groundingMetadata`; none if there was no citation.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        if self.pages.is_empty() {
            return None;
        }
        let pages = self.pages.into_iter().map(|(url, title)| {
            let mut page = Writer::default();
            page.object("web", |web| {
                web.string("uri", &url);
                web.string_if("title", title.as_deref());
            });
            page.finish()
        });
        let mut metadata = Writer::default();
        let pages: Vec<_> = pages.collect();
        list(&pages, metadata.member("groundingChunks"));
        if !self.supports.is_empty() {
            list(&self.supports, metadata.member("groundingSupports"));
        }
        Some(metadata.finish())
    }
}

fn list(values: &[Vec<u8>], out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(&values.join(&b','));
    out.push(b']');
}

/// Where a character of a text begins, in bytes.
fn byte_of(text: &str, character: u64) -> usize {
    let character = usize::try_from(character).unwrap_or(usize::MAX);
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}
