//! Embeddings between OpenAI's words and Google's. Names of either are read in camelCase here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::chat::{Content, Field, Part};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::convert::other::left_out;
use crate::wire::convert::{Asked, Terms};
use crate::wire::gemini::content::read_parts;
use crate::wire::json::{Cursor, Kind, Writer, compact, cursor, object, quote};
use crate::wire::usage::Estimate;

/// What is to be embedded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    texts: Vec<String>,
    dimensions: Option<u64>,
    /// Whether the request says more than that.
    has_more: bool,
}

impl Inputs {
    /// Reads a request of Google's for one embedding.
    pub(super) fn of_content(body: &[u8]) -> Result<Self> {
        let mut inputs = Self::default();
        cursor::read(body, |value| inputs.content(value))?;
        Ok(inputs)
    }

    /// Reads a request of Google's for several embeddings.
    pub(super) fn of_contents(body: &[u8]) -> Result<Self> {
        let mut inputs = Self::default();
        let mut dimensions = Vec::new();
        cursor::read(body, |value| {
            value.members(|name, value| match name {
                "requests" => value.elements(|value| {
                    inputs.dimensions = None;
                    inputs.content(value)?;
                    dimensions.push(inputs.dimensions);
                    Ok(())
                }),
                _ => Ok(()),
            })
        })?;
        if dimensions.windows(2).any(|pair| pair[0] != pair[1]) {
            let message =
                "`requests[].outputDimensionality` differs, ask for embeddings of one size at a time";
            return Err(Error::invalid("requests", message));
        }
        if inputs.texts.is_empty() {
            return Err(Error::invalid(
                "requests",
                "`requests` is missing or empty, give what is to be embedded",
            ));
        }
        Ok(inputs)
    }

    fn content(&mut self, value: &mut Cursor<'_, '_>) -> Result<()> {
        let mut text = None;
        value.members(|name, value| {
            match name {
                "content" => text = Some(text_of(value)?),
                "outputDimensionality" => self.dimensions = Some(value.count()?),
                "model" => {}
                "embedContentConfig" | "config" => value.members(|name, value| {
                    match name {
                        "outputDimensionality" => self.dimensions = Some(value.count()?),
                        _ => self.has_more = true,
                    }
                    Ok(())
                })?,
                _ => self.has_more = true,
            }
            Ok(())
        })?;
        self.texts.push(text.ok_or_else(|| value.must_be("an object with `content`"))?);
        Ok(())
    }

    /// Reads a request of OpenAI's.
    pub(super) fn of_openai(body: &[u8]) -> Result<Self> {
        let mut inputs = Self::default();
        cursor::read(body, |value| {
            value.members(|name, value| {
                match name {
                    "input" => inputs.input(value)?,
                    "dimensions" => inputs.dimensions = Some(value.count()?),
                    "model" | "encodingFormat" => {}
                    _ => inputs.has_more = true,
                }
                Ok(())
            })
        })?;
        if inputs.texts.is_empty() {
            return Err(Error::invalid("input", "`input` is missing or empty, give what is to be embedded"));
        }
        Ok(inputs)
    }

    fn input(&mut self, value: &mut Cursor<'_, '_>) -> Result<()> {
        value.one_or_more(|value| match value.kind() {
            Some(Kind::String) => {
                self.texts.push(value.text()?.into_owned());
                Ok(())
            }
            Some(Kind::Number | Kind::Array) => {
                let message = "`input` has tokens, which are other ones for this upstream; send text";
                Err(Error { param: Some("input".into()), ..Error::new(ErrorKind::Inexpressible, message) })
            }
            _ => Err(value.must_be("text")),
        })
    }

    /// Writes a request of OpenAI's.
    pub(super) fn for_openai(self, model: &str, terms: &mut Terms<'_>) -> Bytes {
        self.note(terms);
        let mut request = Writer::default();
        request.string("model", model);
        request.strings("input", &self.texts);
        if let Some(dimensions) = self.dimensions {
            request.plain("dimensions", dimensions);
        }
        request.string("encoding_format", "float");
        request.finish().into()
    }

    /// Writes a request of Google's for several embeddings.
    pub(super) fn for_contents(self, model: &str, terms: &mut Terms<'_>) -> Bytes {
        self.note(terms);
        let model = format!("models/{model}");
        let mut out = br#"{"requests":["#.to_vec();
        for (index, text) in self.texts.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let mut request = Writer::new(&mut out);
            request.string("model", &model);
            let content = request.member("content");
            content.extend_from_slice(br#"{"parts":[{"text":"#);
            quote(text, content);
            content.extend_from_slice(b"}]}");
            if let Some(dimensions) = self.dimensions {
                request.plain("outputDimensionality", dimensions);
            }
            request.finish();
        }
        out.extend_from_slice(b"]}");
        out.into()
    }

    fn note(&self, terms: &mut Terms<'_>) {
        if self.has_more {
            left_out(terms, Field::Unknown);
        }
    }
}

/// The text of a content of Google's.
fn text_of(value: &mut Cursor<'_, '_>) -> Result<String> {
    let mut parts = Vec::new();
    if value.kind() == Some(Kind::String) {
        return Ok(value.text()?.into_owned());
    }
    value.members(|name, value| match name {
        "parts" => read_parts(value, &mut parts),
        _ => Ok(()),
    })?;
    let mut text = String::new();
    for Part { content, .. } in parts {
        let Content::Text { text: more, .. } = content else {
            let message =
                format!("`{}` has a part that is no text, which this upstream does not embed", value.place());
            return Err(Error { kind: ErrorKind::Inexpressible, ..value.invalid(message) });
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&more);
    }
    Ok(text)
}

/// What a model has made of the inputs.
#[derive(Debug, Default)]
struct Vectors {
    /// Lists of numbers, as JSON.
    lists: Vec<String>,
    tokens: Option<u64>,
}

impl Vectors {
    /// Reads an answer of OpenAI's: entries say which input they are of, and may be in base64.
    fn of_openai(body: &[u8]) -> Result<Self> {
        let (mut entries, mut tokens) = (Vec::new(), None);
        let read = cursor::read(body, |value| {
            value.members(|name, value| match name {
                "data" => value.elements(|value| {
                    let number = entries.len() as u64;
                    entries.push(entry(value, number)?);
                    Ok(())
                }),
                "usage" => value.members(|name, value| {
                    if name == "promptTokens" {
                        tokens = Some(value.count()?);
                    }
                    Ok(())
                }),
                _ => Ok(()),
            })
        });
        read.map_err(|error| invalid(&error.message))?;
        if entries.is_empty() {
            return Err(invalid("it has no `data`"));
        }
        entries.sort_by_key(|(index, _)| *index);
        Ok(Self { lists: entries.into_iter().map(|(_, list)| list).collect(), tokens })
    }

    /// Reads an answer of Google's to one or several.
    fn of_contents(body: &[u8]) -> Result<Self> {
        let mut vectors = Self::default();
        let read = cursor::read(body, |value| {
            value.members(|name, value| match name {
                "embedding" | "embeddings" => value.one_or_more(|value| {
                    let mut list = None;
                    value.members(|name, value| {
                        if name == "values" {
                            list = Some(numbers(value)?);
                        }
                        Ok(())
                    })?;
                    vectors.lists.push(list.ok_or_else(|| value.must_be("an object with `values`"))?);
                    Ok(())
                }),
                "usageMetadata" => value.members(|name, value| {
                    if name == "promptTokenCount" {
                        vectors.tokens = Some(value.count()?);
                    }
                    Ok(())
                }),
                _ => Ok(()),
            })
        });
        read.map_err(|error| invalid(&error.message))?;
        if vectors.lists.is_empty() {
            return Err(invalid("it has no `embeddings`"));
        }
        Ok(vectors)
    }

    /// Writes `usageMetadata`, if the upstream has told what it cost.
    fn write_usage(&self, out: &mut Writer) {
        if let Some(tokens) = self.tokens {
            out.object("usageMetadata", |usage| {
                usage.plain("promptTokenCount", tokens);
                usage.plain("totalTokenCount", tokens);
            });
        }
    }
}

fn invalid(reason: &str) -> Error {
    let message = format!("the upstream's answer with embeddings is not valid: {reason}");
    Error::new(ErrorKind::UpstreamInvalid, message)
}

fn entry(value: &mut Cursor<'_, '_>, number: u64) -> Result<(u64, String)> {
    let (mut index, mut list) = (number, None);
    value.members(|name, value| {
        match name {
            "index" => index = value.count()?,
            "embedding" if value.kind() == Some(Kind::String) => {
                let floats = STANDARD.decode(&*value.text()?).map_err(|_| value.must_be("base64"))?;
                list = Some(of_floats(&floats));
            }
            "embedding" => list = Some(numbers(value)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((index, list.ok_or_else(|| value.must_be("an object with `embedding`"))?))
}

/// A list of numbers, checked and without white space.
fn numbers(value: &mut Cursor<'_, '_>) -> Result<String> {
    value.elements(|value| value.number().map(drop))?;
    Ok(compact(value.was()))
}

/// The list of the numbers in bytes: of four each, the lowest first.
fn of_floats(bytes: &[u8]) -> String {
    let numbers = bytes.chunks_exact(4).map(|chunk| {
        let number = f32::from_le_bytes(chunk.try_into().expect("chunks are of four bytes"));
        if number.is_finite() { number } else { 0.0 }.to_string()
    });
    format!("[{}]", numbers.collect::<Vec<_>>().join(","))
}

/// The way back from [`of_floats`], in base64.
fn base64_of(list: &str) -> String {
    let numbers = list.trim_matches(['[', ']']).split(',');
    let bytes: Vec<u8> =
        numbers.filter_map(|number| number.parse::<f32>().ok()).flat_map(f32::to_le_bytes).collect();
    STANDARD.encode(bytes)
}

/// Writes OpenAI's answer as Google's to one.
pub(super) fn for_content(body: &[u8]) -> Result<Bytes> {
    let vectors = Vectors::of_openai(body)?;
    let mut answer = Writer::default();
    answer.object("embedding", |embedding| embedding.raw("values", &vectors.lists[0]));
    vectors.write_usage(&mut answer);
    Ok(answer.finish().into())
}

/// Writes OpenAI's answer as Google's to several.
pub(super) fn for_contents(body: &[u8]) -> Result<Bytes> {
    let vectors = Vectors::of_openai(body)?;
    let lists: Vec<_> = vectors.lists.iter().map(|list| format!(r#"{{"values":{list}}}"#)).collect();
    let mut answer = Writer::default();
    answer.member("embeddings").extend_from_slice(format!("[{}]", lists.join(",")).as_bytes());
    vectors.write_usage(&mut answer);
    Ok(answer.finish().into())
}

/// Writes Google's answer as OpenAI's. What it has cost is estimated where Google does not say.
pub(super) fn for_openai(body: &[u8], asked: &Asked) -> Result<Bytes> {
    let Vectors { lists, tokens } = Vectors::of_contents(body)?;
    let in_base64 = wants_base64(&asked.request);
    let mut answer = Writer::default();
    answer.string("object", "list");
    answer.list("data", lists.iter().enumerate(), |(index, list), out| {
        object(out, |entry| {
            entry.string("object", "embedding");
            entry.plain("index", index);
            if in_base64 {
                entry.string("embedding", &base64_of(list));
            } else {
                entry.raw("embedding", list);
            }
        });
    });
    answer.string("model", &asked.model);
    let tokens = tokens.unwrap_or_else(|| {
        let mut estimate = Estimate::default();
        estimate.add_request(&asked.request);
        estimate.tokens()
    });
    answer.object("usage", |usage| {
        usage.plain("prompt_tokens", tokens);
        usage.plain("total_tokens", tokens);
    });
    Ok(answer.finish().into())
}

fn wants_base64(request: &[u8]) -> bool {
    let mut wants = false;
    // The request was read once; what is wrong in it was told then.
    let _ = cursor::read(request, |value| {
        value.members(|name, value| {
            wants |= name == "encodingFormat" && value.text()? == "base64";
            Ok(())
        })
    });
    wants
}
