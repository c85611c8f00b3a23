use super::*;
use crate::wire::convert::EffortBudgets;
use crate::wire::request;

fn terms() -> Terms<'static> {
    Terms {
        client: Surface::Chat,
        target: Surface::Gemini,
        upstream: "u",
        max_tokens_default: 100,
        budgets: EffortBudgets::default(),
        losses: Vec::new(),
        unknown: Vec::new(),
    }
}

fn asked(request: &str) -> Asked {
    Asked {
        model: "alias".into(),
        id: "x1".into(),
        created_unix_s: 0,
        asks_usage: false,
        request: Bytes::copy_from_slice(request.as_bytes()),
    }
}

#[track_caller]
fn check_openai(body: &str, expected: Result<&str, &str>) {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let read = request::decode(Endpoint::Embeddings, body, None).unwrap();
    let written = request(Endpoint::Embeddings, &read, Endpoint::BatchEmbedContents, "there", &mut terms());
    let written =
        written.map(|body| String::from_utf8(body.to_vec()).unwrap()).map_err(|error| error.message);
    assert_eq!(written.as_deref().map_err(|message| &**message), expected);
}

#[test]
fn openais_embeddings_are_asked_of_google() {
    check_openai(
        r#"{"model":"m","input":"a"}"#,
        Ok(r#"{"requests":[{"model":"models/there","content":{"parts":[{"text":"a"}]}}]}"#),
    );
    check_openai(
        r#"{"model":"m","input":["a","b"],"dimensions":3,"encoding_format":"base64"}"#,
        Ok(
            r#"{"requests":[{"model":"models/there","content":{"parts":[{"text":"a"}]},"outputDimensionality":3},{"model":"models/there","content":{"parts":[{"text":"b"}]},"outputDimensionality":3}]}"#,
        ),
    );
    let tokens = "`input` has tokens, which are other ones for this upstream; send text";
    check_openai(r#"{"model":"m","input":[1,2]}"#, Err(tokens));
    check_openai(r#"{"model":"m","input":[[1],[2]]}"#, Err(tokens));
    check_openai(
        r#"{"model":"m","input":[]}"#,
        Err("`input` is missing or empty, give what is to be embedded"),
    );
}

#[track_caller]
fn check_google(read: Result<Inputs>, expected: Result<&str, &str>) {
    let written = read.map(|inputs| inputs.for_openai("m", &mut terms()));
    let written =
        written.map(|body| String::from_utf8(body.to_vec()).unwrap()).map_err(|error| error.message);
    assert_eq!(written.as_deref().map_err(|message| &**message), expected);
}

#[test]
fn googles_embeddings_are_asked_of_openai() {
    check_google(
        Inputs::of_content(br#"{"content":{"parts":[{"text":"a"},{"text":"b"}]},"output_dimensionality":3}"#),
        Ok(r#"{"model":"m","input":["a\nb"],"dimensions":3,"encoding_format":"float"}"#),
    );
    check_google(
        Inputs::of_contents(
            br#"{"requests":[{"model":"models/x","content":"a"},{"content":{"parts":["b"]}}]}"#,
        ),
        Ok(r#"{"model":"m","input":["a","b"],"encoding_format":"float"}"#),
    );
    check_google(
        Inputs::of_contents(br#"{"requests":[{"content":"a"},{"content":"b","outputDimensionality":1}]}"#),
        Err("`requests[].outputDimensionality` differs, ask for embeddings of one size at a time"),
    );
    check_google(
        Inputs::of_contents(
            br#"{"requests":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}}]}"#,
        ),
        Err("`requests[0].content` has a part that is no text, which this upstream does not embed"),
    );
    check_google(Inputs::of_content(b"{}"), Err("`the document` must be an object with `content`"));
}

#[track_caller]
fn check_reply(upstream: Endpoint, body: &str, client: Endpoint, request: &str, expected: &str) {
    let written = reply(upstream, body.as_bytes(), client, &asked(request)).unwrap();
    assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
}

#[test]
fn vectors_are_written_for_the_client() {
    use Endpoint::{BatchEmbedContents, EmbedContent, Embeddings};
    const OPENAI: &str = r#"{"object":"list","data":[{"index":1,"embedding":[0.5, -1]},{"index":0,"embedding":"AAAAPwAAgL8="}],
        "usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    check_reply(
        Embeddings,
        OPENAI,
        BatchEmbedContents,
        "",
        r#"{"embeddings":[{"values":[0.5,-1]},{"values":[0.5,-1]}],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}}"#,
    );
    check_reply(
        Embeddings,
        r#"{"data":[{"embedding":[1]}]}"#,
        EmbedContent,
        "",
        r#"{"embedding":{"values":[1]}}"#,
    );
    const GOOGLE: &str = r#"{"embeddings":[{"values":[0.5,-1]}],"usageMetadata":{"promptTokenCount":4}}"#;
    check_reply(
        BatchEmbedContents,
        GOOGLE,
        Embeddings,
        r#"{"input":"a"}"#,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1]}],"model":"alias","usage":{"prompt_tokens":4,"total_tokens":4}}"#,
    );
    check_reply(
        BatchEmbedContents,
        r#"{"embeddings":[{"values":[0.5,-1]}]}"#,
        Embeddings,
        r#"{"input":"eight by","encoding_format":"base64"}"#,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AAAAPwAAgL8="}],"model":"alias","usage":{"prompt_tokens":2,"total_tokens":2}}"#,
    );
}

#[test]
fn vectors_that_are_none_are_the_upstreams_fault() {
    use Endpoint::{BatchEmbedContents, Embeddings};
    let check = |upstream, body: &str, client| {
        let error = reply(upstream, body.as_bytes(), client, &asked("")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamInvalid, "{body}");
    };
    for body in [
        "",
        "[]",
        "{}",
        r#"{"data":[{"embedding":"%"}]}"#,
        r#"{"data":[{"embedding":["a"]}]}"#,
        r#"{"data":[5]}"#,
    ] {
        check(Embeddings, body, BatchEmbedContents);
        check(
            BatchEmbedContents,
            &body.replace("data", "embeddings").replace("embedding\"", "values\""),
            Embeddings,
        );
    }
}

#[test]
fn a_count_is_told_in_the_clients_words() {
    use Endpoint::{CountContentTokens, CountMessageTokens};
    check_reply(CountContentTokens, r#"{"totalTokens":7}"#, CountMessageTokens, "", r#"{"input_tokens":7}"#);
    check_reply(CountMessageTokens, r#"{"input_tokens":7}"#, CountContentTokens, "", r#"{"totalTokens":7}"#);
    assert_eq!(count(CountMessageTokens, 3), r#"{"input_tokens":3}"#);
    let error = reply(CountMessageTokens, b"{}", CountContentTokens, &asked("")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
}

#[test]
fn google_counts_a_whole_request() {
    assert_eq!(
        content_count("m", br#"{"contents":[]}"#),
        r#"{"generateContentRequest":{"model":"models/m","contents":[]}}"#
    );
}

#[test]
fn anthropic_counts_only_what_it_knows() {
    assert_eq!(
        message_count(br#"{"model":"m","max_tokens":5,"stream":false,"messages":[{"max_tokens":1}]}"#),
        r#"{"model":"m","messages":[{"max_tokens":1}]}"#
    );
}

#[test]
fn what_google_counts_is_found_in_both_forms() {
    let whole =
        counted_content(br#"{"generateContentRequest":{"model":"models/m","contents":["a"]}}"#).unwrap();
    assert_eq!(whole, counted_content(br#"{"contents":["a"]}"#).unwrap());
    assert_eq!(whole.messages.len(), 1);
}
