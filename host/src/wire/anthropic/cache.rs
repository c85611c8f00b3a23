//! The mark for the cache, which the routers to Anthropic's models take in the same form.

use std::borrow::BorrowMut;

use crate::chat::CacheControl;
use crate::error::Result;
use crate::wire::json::{Object, Writer};

/// Reads the mark of an object, if it has one.
///
/// # Errors
/// It is not of its shape.
pub(in crate::wire) fn read(object: &Object<'_, '_>) -> Result<Option<CacheControl>> {
    object.object("cache_control")?.map(|mark| Ok(CacheControl { ttl: mark.string("ttl")? })).transpose()
}

/// Writes a mark, if there is one.
pub(super) fn write<O: BorrowMut<Vec<u8>>>(mark: Option<&CacheControl>, writer: &mut Writer<O>) {
    let Some(mark) = mark else { return };
    writer.object("cache_control", |writer| {
        writer.string("type", "ephemeral");
        writer.string_if("ttl", mark.ttl.as_deref());
    });
}
