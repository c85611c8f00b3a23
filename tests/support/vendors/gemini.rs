//! Google's Generative Language API: what it requires, and how it answers.
//!
//! Source: the types of Google's Python client (the side of the developer's API), the API reference and its pages on thought
//! signatures and function calling, seen 2026-11. Stricter than the vendor in one thing: roles alternate.

use serde_json::{Value, json};

use super::strict::{Node, Read, Refusal, body, without};
use super::{Asked, CACHED, COUNTED, Fault, GEMINI_SIGNATURE, INPUT, OUTPUT, Part, Stop, Story, end};
use crate::Received;
use crate::upstream::reply::Reply;

/// What a schema in `parameters` and `responseSchema` may say; the members that take any schema may say more.
const SCHEMA_MEMBERS: [&str; 22] = [
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];

pub(super) fn answer(request: &Received, path: &str) -> Read<Reply> {
    without(request, &["authorization", "x-api-key", "anthropic-version"])?;
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    if request.header("x-goog-api-key").is_none() {
        let message = "Method doesn't allow unregistered callers (callers without established identity).";
        return Err(Refusal { status: 403, path: None, message: message.to_owned() });
    }
    let rest = path.strip_prefix("/v1beta").or_else(|| path.strip_prefix("/v1")).unwrap_or_default();
    if rest == "/models" {
        return Ok(models());
    }
    let called = rest.strip_prefix("/models/").and_then(|rest| rest.rsplit_once(':'));
    let (model, method) = called.ok_or_else(|| Refusal::not_found(path))?;
    let body = body(request)?;
    let root = Node::root(&body);
    match method {
        "generateContent" | "streamGenerateContent" => {
            let mut asked = read(&root, model)?;
            asked.is_stream = method == "streamGenerateContent";
            let story = Story::told(&asked)?;
            let has_events = query.split('&').any(|pair| pair == "alt=sse");
            Ok(match asked.is_stream {
                false => whole(&asked, &story),
                true if has_events => stream(&asked, &story),
                true => list(&asked, &story),
            })
        }
        "countTokens" => count(&root, model),
        "embedContent" => {
            embedding(&root)?;
            Ok(Reply::json(200, json!({"embedding": {"values": [0.25, -0.5]}}).to_string()))
        }
        "batchEmbedContents" => {
            root.only(&["requests"])?;
            let requests = root.need("requests")?.some_items()?;
            for request in &requests {
                request.need("model")?.words()?;
                embedding(request)?;
            }
            let values = vec![json!({"values": [0.25, -0.5]}); requests.len()];
            Ok(Reply::json(200, json!({"embeddings": values}).to_string()))
        }
        _ => Err(Refusal::not_found(path)),
    }
}

pub(super) fn error(refusal: &Refusal) -> Reply {
    let status = match refusal.status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 | 405 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    };
    let error = json!({"code": refusal.status, "message": refusal.message, "status": status});
    let reply = Reply::json(refusal.status, json!({"error": error}).to_string());
    if refusal.status == 429 { reply.header("retry-after", "7") } else { reply }
}

fn models() -> Reply {
    let model = |id: &str| {
        json!({"name": format!("models/{id}"), "version": "001", "displayName": id, "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65536, "supportedGenerationMethods": ["generateContent", "countTokens"]})
    };
    Reply::json(200, json!({"models": [model("gem.plain"), model("gem.think")]}).to_string())
}

fn count(root: &Node<'_>, model: &str) -> Read<Reply> {
    root.only(&["contents", "generateContentRequest"])?;
    match (root.at("contents"), root.at("generateContentRequest")) {
        (Some(_), None) => {
            let mut asked = Asked::default();
            contents(&root.need("contents")?, &mut asked)?;
        }
        (None, Some(request)) => {
            request.need("model")?.words()?;
            read(&request, model)?;
        }
        _ => return Err(root.wrong("needs one of `contents` and `generateContentRequest`")),
    }
    Ok(Reply::json(200, json!({"totalTokens": COUNTED}).to_string()))
}

fn embedding(request: &Node<'_>) -> Read<()> {
    request.only(&["model", "content", "taskType", "title", "outputDimensionality"])?;
    let content = request.need("content")?;
    content.only(&["parts", "role"])?;
    for part in content.need("parts")?.some_items()? {
        part.only(&["text"])?;
        part.need("text")?.words()?;
    }
    request.at("outputDimensionality").map_or(Ok(()), |number| number.count(1).map(drop))
}

/// Google takes the names of members in both spellings.
fn either<'a>(node: &Node<'a>, name: &str) -> Option<Node<'a>> {
    node.at(name).or_else(|| node.at(&snake(name)))
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn only(node: &Node<'_>, names: &[&str]) -> Read<()> {
    let spellings: Vec<String> = names.iter().flat_map(|name| [(*name).to_owned(), snake(name)]).collect();
    node.only(&spellings.iter().map(String::as_str).collect::<Vec<_>>())
}

fn read(root: &Node<'_>, model: &str) -> Read<Asked> {
    only(
        root,
        &[
            "contents",
            "systemInstruction",
            "tools",
            "toolConfig",
            "generationConfig",
            "safetySettings",
            "labels",
            "cachedContent",
            "serviceTier",
            "model",
            "store",
        ],
    )?;
    let mut asked = Asked { model: model.to_owned(), ..Asked::default() };
    if let Some(system) = either(root, "systemInstruction") {
        only(&system, &["parts", "role"])?;
        for part in system.need("parts")?.some_items()? {
            only(&part, &["text"])?;
            asked.system.push(part.word("text")?);
        }
    }
    tools(root, &mut asked)?;
    if let Some(config) = either(root, "generationConfig") {
        settings(&config, &mut asked)?;
    }
    contents(&root.need("contents")?, &mut asked)?;
    if model.ends_with(".think-tools") {
        let unsigned = asked.turns.iter().find(|turn| {
            let call = turn.parts.iter().find(|part| matches!(part, Part::Call { .. }));
            matches!(call, Some(Part::Call { signature: None, .. }))
        });
        if unsigned.is_some() {
            return Err(Refusal::new(
                "contents",
                "Function call is missing a thought_signature in functionCall parts.",
            ));
        }
    }
    Ok(asked)
}

fn tools(root: &Node<'_>, asked: &mut Asked) -> Read<()> {
    for tool in root.at("tools").map_or(Ok(Vec::new()), |tools| tools.items())? {
        only(&tool, &["functionDeclarations"])?;
        let functions = either(&tool, "functionDeclarations");
        for function in functions.map_or(Ok(Vec::new()), |functions| functions.some_items())? {
            only(
                &function,
                &[
                    "name",
                    "description",
                    "parameters",
                    "parametersJsonSchema",
                    "response",
                    "responseJsonSchema",
                    "behavior",
                ],
            )?;
            let any = either(&function, "parametersJsonSchema");
            let parameters = match (function.at("parameters"), &any) {
                (Some(_), Some(_)) => {
                    return Err(function.wrong("parameters and parametersJsonSchema exclude each other"));
                }
                (Some(schema), None) => {
                    strict_schema(&schema)?;
                    Some(in_lower_case(schema.value))
                }
                (None, any) => any.as_ref().map(|schema| schema.object().cloned()).transpose()?,
            };
            asked.tools.push(json!({
                "name": function.need("name")?.name(64, ".:")?,
                "description": function.at("description").map(|text| text.text()).transpose()?,
                "parameters": parameters,
            }));
        }
    }
    let Some(config) = either(root, "toolConfig") else { return Ok(()) };
    only(&config, &["functionCallingConfig", "retrievalConfig"])?;
    let Some(calling) = either(&config, "functionCallingConfig") else { return Ok(()) };
    only(&calling, &["mode", "allowedFunctionNames"])?;
    let names = either(&calling, "allowedFunctionNames").map_or(Ok(Vec::new()), |names| names.items())?;
    let names = names.iter().map(Node::words).collect::<Read<Vec<_>>>()?;
    let mode =
        calling.at("mode").map_or(Ok("AUTO"), |mode| mode.one_of(&["AUTO", "ANY", "NONE", "VALIDATED"]))?;
    match (mode, &names[..]) {
        ("ANY", []) => asked.set("tool_choice", "required"),
        ("ANY", [name]) => asked.set("tool_choice", format!("named:{name}")),
        ("ANY", names) => asked.set("tool_choice", format!("among:{}", names.join(","))),
        (_, [_, ..]) => {
            return Err(calling.wrong("allowed_function_names should be set only when mode is ANY"));
        }
        ("NONE", _) => asked.set("tool_choice", "none"),
        _ => {}
    }
    Ok(())
}

fn strict_schema(schema: &Node<'_>) -> Read<()> {
    only(schema, &SCHEMA_MEMBERS)?;
    if let Some(kind) = schema.at("type") {
        let kinds = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];
        let kind = Node { value: &json!(kind.text()?.to_uppercase()), path: kind.path.clone() }
            .one_of(&kinds)
            .map(drop);
        kind?;
    }
    for (name, value) in schema.value["properties"].as_object().into_iter().flatten() {
        strict_schema(&Node { value, path: format!("{}.properties[{name}]", schema.path) })?;
    }
    if let Some(items) = schema.at("items") {
        strict_schema(&items)?;
    }
    for schema in either(schema, "anyOf").map_or(Ok(Vec::new()), |schemas| schemas.items())? {
        strict_schema(&schema)?;
    }
    Ok(())
}

/// A schema of Google's as everybody else writes it: types in lower case, names of members in camel case.
fn in_lower_case(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "propertyOrdering" | "property_ordering"))
            .map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("type", Value::String(kind)) => json!(kind.to_lowercase()),
                    ("properties", Value::Object(properties)) => {
                        properties.iter().map(|(name, value)| (name.clone(), in_lower_case(value))).collect()
                    }
                    (_, value) => in_lower_case(value),
                };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(in_lower_case).collect(),
        other => other.clone(),
    }
}

fn settings(config: &Node<'_>, asked: &mut Asked) -> Read<()> {
    only(
        config,
        &[
            "temperature",
            "topP",
            "topK",
            "candidateCount",
            "maxOutputTokens",
            "stopSequences",
            "responseMimeType",
            "responseSchema",
            "responseJsonSchema",
            "seed",
            "presencePenalty",
            "frequencyPenalty",
            "responseLogprobs",
            "logprobs",
            "thinkingConfig",
            "responseModalities",
            "mediaResolution",
            "speechConfig",
            "imageConfig",
        ],
    )?;
    for (name, common, most) in [
        ("temperature", "temperature", 2.0),
        ("topP", "top_p", 1.0),
        ("presencePenalty", "presence_penalty", 2.0),
        ("frequencyPenalty", "frequency_penalty", 2.0),
    ] {
        if let Some(number) = either(config, name) {
            asked.set(
                common,
                number.number(if most > 1.0 && name != "temperature" { -2.0 } else { 0.0 }, most)?,
            );
        }
    }
    for (name, common, least) in [
        ("maxOutputTokens", "max_tokens", 1),
        ("candidateCount", "n", 1),
        ("seed", "seed", 0),
        ("topK", "top_k", 1),
    ] {
        if let Some(number) = either(config, name) {
            // Google's clients send this number with a fraction.
            let number = match (name, number.value.as_f64()) {
                ("topK", Some(top_k)) if top_k >= 1.0 => top_k as u64,
                _ => number.count(least)?,
            };
            asked.set(common, number);
        }
    }
    if let Some(stop) = either(config, "stopSequences") {
        let words =
            stop.items()?.iter().map(|word| Ok(word.words()?.to_owned())).collect::<Read<Vec<_>>>()?;
        if words.len() > 5 {
            return Err(stop.wrong("must not be more than 5"));
        }
        asked.set("stop", words);
    }
    if let Some(thinking) = either(config, "thinkingConfig") {
        only(&thinking, &["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
        let budget = either(&thinking, "thinkingBudget");
        if let Some(budget) = &budget {
            asked.set("thinking", budget.number(-1.0, 32768.0)?);
        }
        if let Some(level) = either(&thinking, "thinkingLevel") {
            let levels = ["MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high"];
            asked.set("effort", level.one_of(&levels)?.to_lowercase());
            if budget.is_some() {
                return Err(
                    thinking.wrong("You can only set only one of thinking budget and thinking level.")
                );
            }
        }
    }
    let (own, any) = (either(config, "responseSchema"), either(config, "responseJsonSchema"));
    if let Some(mime) = either(config, "responseMimeType") {
        asked.is_json =
            mime.one_of(&["application/json", "text/plain", "text/x.enum"])? == "application/json";
    }
    if own.is_some() && any.is_some() {
        return Err(config.wrong("responseSchema and responseJsonSchema exclude each other"));
    }
    if (own.is_some() || any.is_some()) && !asked.is_json {
        return Err(config.wrong("responseMimeType must be application/json for a schema"));
    }
    if let Some(schema) = own {
        strict_schema(&schema)?;
        asked.schema = Some(in_lower_case(schema.value));
    }
    if let Some(schema) = any {
        asked.schema = Some(schema.object()?.clone());
    }
    asked.is_json &= asked.schema.is_none();
    Ok(())
}

fn contents(list: &Node<'_>, asked: &mut Asked) -> Read<()> {
    let mut open = 0;
    for content in list.some_items()? {
        content.only(&["role", "parts"])?;
        let is_alone = list.value.as_array().is_some_and(|contents| contents.len() == 1);
        let role = match content.at("role") {
            Some(role) => role.one_of(&["user", "model"])?,
            None if is_alone => "user",
            None => return Err(content.wrong("please use a valid role: user, model")),
        };
        let is_model = role == "model";
        // Its own clients give back the chunks of a streamed answer as contents of their own.
        let is_again = asked.turns.last().map_or(is_model, |turn| !is_model && !turn.is_model);
        if is_again {
            return Err(content
                .wrong("the first role must be `user`, and there must be an answer before it speaks again"));
        }
        let mut answered = 0;
        for part in content.need("parts")?.some_items()? {
            let part = part_of(&part, is_model)?;
            answered += usize::from(matches!(part, Part::Outcome { .. }));
            asked.say(is_model, part);
        }
        if !is_model && answered != open {
            return Err(content.wrong(
                "the number of function response parts must be equal to that of the function call parts of the function call turn",
            ));
        }
        let parts = asked.turns.last().into_iter().flat_map(|turn| &turn.parts);
        open = parts.filter(|part| is_model && matches!(part, Part::Call { .. })).count();
    }
    Ok(())
}

fn part_of(part: &Node<'_>, is_model: bool) -> Read<Part> {
    const DATA: [&str; 5] = ["text", "inlineData", "fileData", "functionCall", "functionResponse"];
    only(part, &[&DATA[..], &["thought", "thoughtSignature", "mediaResolution", "videoMetadata"]].concat())?;
    if DATA.iter().filter(|name| either(part, name).is_some()).count() != 1 {
        return Err(part.wrong("required oneof field 'data' must have one initialized field"));
    }
    let signature =
        either(part, "thoughtSignature").map(|signature| signature.base64_of_any_alphabet()).transpose()?;
    if signature.as_ref().is_some_and(|signature| signature != GEMINI_SIGNATURE) {
        return Err(part.wrong("corrupted thought signature"));
    }
    if let Some(text) = part.at("text") {
        let text = text.text()?.to_owned();
        let is_thought = part.at("thought").map_or(Ok(false), |thought| thought.flag())?;
        return Ok(if is_thought { Part::Thinking { text, signature } } else { Part::Text(text) });
    }
    if let Some(blob) = either(part, "inlineData") {
        only(&blob, &["mimeType", "data", "displayName"])?;
        let media_type = either(&blob, "mimeType").ok_or_else(|| blob.wrong("mimeType is required"))?;
        return Ok(Part::Data {
            media_type: media_type.words()?.to_owned(),
            base64: blob.need("data")?.base64_of_any_alphabet()?,
        });
    }
    if let Some(file) = either(part, "fileData") {
        only(&file, &["mimeType", "fileUri", "displayName"])?;
        let uri = either(&file, "fileUri").ok_or_else(|| file.wrong("fileUri is required"))?;
        return Ok(Part::Link(uri.words()?.to_owned()));
    }
    if let Some(call) = either(part, "functionCall") {
        call.only(&["id", "name", "args"])?;
        if !is_model {
            return Err(call.wrong("function calls are the model's"));
        }
        return Ok(Part::Call {
            id: call.at("id").map(|id| Ok(id.words()?.to_owned())).transpose()?,
            name: call.word("name")?,
            arguments: call.at("args").map_or_else(|| Ok(json!({})), |args| args.object().cloned())?,
            signature,
        });
    }
    let response = either(part, "functionResponse").ok_or_else(|| part.wrong("has no data"))?;
    response.only(&["id", "name", "response", "parts", "scheduling", "willContinue"])?;
    if is_model {
        return Err(response.wrong("function responses are the user's"));
    }
    let mut content = vec![Part::Text(response.need("response")?.object()?.to_string())];
    for part in response.at("parts").map_or(Ok(Vec::new()), |parts| parts.items())? {
        content.push(part_of(&part, false)?);
    }
    Ok(Part::Outcome {
        id: response.at("id").map(|id| Ok(id.words()?.to_owned())).transpose()?,
        name: Some(response.word("name")?),
        content,
        is_error: false,
    })
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Done | Stop::Word(_) | Stop::Calls => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Refused => "SAFETY",
    }
}

/// A text of the answer, in the pieces of a stream.
fn parts_of(part: &Part, is_stream: bool) -> Vec<Value> {
    let pieces = |text: &str| if is_stream { Story::pieces(text) } else { vec![text.to_owned()] };
    match part {
        Part::Text(text) => pieces(text).into_iter().map(|text| json!({"text": text})).collect(),
        Part::Thinking { text, .. } => {
            pieces(text).into_iter().map(|text| json!({"text": text, "thought": true})).collect()
        }
        Part::Call { name, arguments, signature, .. } => {
            let mut part = json!({"functionCall": {"name": name, "args": arguments}});
            if signature.is_some() {
                part["thoughtSignature"] = json!(GEMINI_SIGNATURE);
            }
            vec![part]
        }
        _ => Vec::new(),
    }
}

fn chunk(asked: &Asked, parts: &[Value], finish: Option<&Story>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    let mut usage = json!({"promptTokenCount": INPUT, "totalTokenCount": INPUT, "cachedContentTokenCount": CACHED,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT}]});
    if let Some(story) = finish {
        candidate["finishReason"] = json!(finish_reason(&story.stop));
        usage["candidatesTokenCount"] = json!(OUTPUT - story.reasoning());
        usage["totalTokenCount"] = json!(INPUT + OUTPUT);
        if story.reasoning() > 0 {
            usage["thoughtsTokenCount"] = json!(story.reasoning());
        }
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model,
        "responseId": "dHcAabcDEFghIJKlmNoPqR"})
}

fn failed() -> Refusal {
    Refusal {
        status: 503,
        path: None,
        message: "The model is overloaded. Please try again later.".to_owned(),
    }
}

fn whole(asked: &Asked, story: &Story) -> Reply {
    if story.fault == Some(Fault::Told) {
        return error(&failed());
    }
    let parts: Vec<Value> = story.parts.iter().flat_map(|part| parts_of(part, false)).collect();
    Reply::json(200, chunk(asked, &parts, Some(story)).to_string())
}

/// The chunks of an answer as it is streamed.
fn chunks(asked: &Asked, story: &Story) -> Vec<Value> {
    let parts: Vec<Value> = story.parts.iter().flat_map(|part| parts_of(part, true)).collect();
    let count = parts.len();
    let is_last = |place: usize| place + 1 == count && story.fault.is_none();
    let numbered = parts.into_iter().enumerate();
    numbered.map(|(place, part)| chunk(asked, &[part], is_last(place).then_some(story))).collect()
}

/// Without `alt=sse` a streamed answer is one list.
fn list(asked: &Asked, story: &Story) -> Reply {
    Reply::json(200, json!(chunks(asked, story)).to_string())
}

fn stream(asked: &Asked, story: &Story) -> Reply {
    let head = Reply::new(200).header("content-type", "text/event-stream").chunked();
    let reply =
        chunks(asked, story).iter().fold(head, |reply, chunk| reply.body(format!("data: {chunk}\r\n\r\n")));
    end(reply, story.fault, |reply| {
        let failed = failed();
        let error = json!({"code": failed.status, "message": failed.message, "status": "UNAVAILABLE"});
        reply.body(format!("data: {}\r\n\r\n", json!({"error": error})))
    })
}
