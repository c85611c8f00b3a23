//! HTTP/1.1 by hand, one connection.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::reply::{Framing, Reply, Step};
use super::{Received, Shared, Wire};
use crate::now;

/// What becomes of a connection after an answer.
enum Next {
    Keep,
    Close,
    Reset,
}

pub(super) async fn serve(wire: Wire, connection: usize, shared: Arc<Shared>) {
    let (mut reader, mut writer) = tokio::io::split(wire);
    let mut buffer = BytesMut::new();
    loop {
        let Some(number) = read_request(&mut reader, &mut buffer, connection, &shared).await else { return };
        let reply = shared.reply_to(number);
        let played = tokio::select! {
            played = play(&mut writer, &reply) => played,
            () = gone(&mut reader, &mut buffer) => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        match played {
            Ok(Next::Keep) => shared.update(number, |request| request.is_answered = true),
            Ok(Next::Close) => {
                // The peer may have closed first.
                let _ = writer.shutdown().await;
                return shared.update(number, |request| request.is_answered = true);
            }
            Ok(Next::Reset) => return reader.unsplit(writer).reset(),
            Err(_) => return shared.update(number, |request| request.left = Some(now())),
        }
    }
}

async fn gone(reader: &mut ReadHalf<Wire>, buffer: &mut BytesMut) {
    while reader.read_buf(buffer).await.is_ok_and(|length| length > 0) {}
}

async fn play(writer: &mut WriteHalf<Wire>, reply: &Reply) -> io::Result<Next> {
    for step in &reply.before {
        if let Some(next) = take(writer, step, Framing::Close).await? {
            return Ok(next);
        }
    }
    let head = reply.head_bytes();
    // A short whole answer goes out as one write, as servers do.
    if let (Framing::Length, [Step::Bytes(body)]) = (reply.framing, &*reply.body) {
        writer.write_all(&[&head[..], &body[..]].concat()).await?;
    } else {
        writer.write_all(&head).await?;
        for step in &reply.body {
            if let Some(next) = take(writer, step, reply.framing).await? {
                return Ok(next);
            }
        }
        if reply.framing == Framing::Chunked {
            writer.write_all(b"0\r\n\r\n").await?;
        }
    }
    writer.flush().await?;
    Ok(if reply.closes || reply.framing == Framing::Close { Next::Close } else { Next::Keep })
}

async fn take(writer: &mut WriteHalf<Wire>, step: &Step, framing: Framing) -> io::Result<Option<Next>> {
    match step {
        Step::Bytes(bytes) => {
            let framed = if framing == Framing::Chunked { chunk(bytes) } else { bytes.clone() };
            writer.write_all(&framed).await?;
            writer.flush().await?;
        }
        Step::Pause(time) => tokio::time::sleep(*time).await,
        Step::Wait(gate) => gate.passed().await,
        Step::Tell(gate) => gate.open(),
        Step::Cut => return Ok(Some(Next::Close)),
        Step::Reset => return Ok(Some(Next::Reset)),
        Step::Hang => std::future::pending().await,
    }
    Ok(None)
}

fn chunk(bytes: &Bytes) -> Bytes {
    if bytes.is_empty() {
        return Bytes::new(); // an empty chunk would be the end
    }
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed.into()
}

/// Reads one request and records it as it arrives; none at the end of the connection.
async fn read_request(
    reader: &mut ReadHalf<Wire>,
    buffer: &mut BytesMut,
    connection: usize,
    shared: &Shared,
) -> Option<usize> {
    let length = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        more(reader, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer.split_to(length)).into_owned();
    let request = parse_head(&head, connection);
    let body_length = request.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let is_chunked = request.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let number = shared.begin(request);
    let read = if is_chunked {
        read_chunks(reader, buffer, number, shared).await
    } else {
        read_length(reader, buffer, body_length.unwrap_or(0), number, shared).await
    };
    if read.is_none() {
        shared.update(number, |request| request.left = Some(now()));
        return None;
    }
    shared.update(number, |request| request.is_complete = true);
    Some(number)
}

fn parse_head(head: &str, connection: usize) -> Received {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Received {
        number: 0,
        connection,
        version: "HTTP/1.1",
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: lines.filter_map(header).collect(),
        body: Vec::new(),
        is_complete: false,
        left: None,
        is_answered: false,
    }
}

async fn more(reader: &mut ReadHalf<Wire>, buffer: &mut BytesMut) -> Option<()> {
    reader.read_buf(buffer).await.is_ok_and(|length| length > 0).then_some(())
}

async fn read_length(
    reader: &mut ReadHalf<Wire>,
    buffer: &mut BytesMut,
    mut left: usize,
    number: usize,
    shared: &Shared,
) -> Option<()> {
    while left > 0 {
        if buffer.is_empty() {
            more(reader, buffer).await?;
        }
        let piece = buffer.split_to(left.min(buffer.len()));
        left -= piece.len();
        shared.update(number, |request| request.body.extend_from_slice(&piece));
    }
    Some(())
}

async fn read_chunks(
    reader: &mut ReadHalf<Wire>,
    buffer: &mut BytesMut,
    number: usize,
    shared: &Shared,
) -> Option<()> {
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            more(reader, buffer).await?;
        };
        let line = String::from_utf8_lossy(&buffer.split_to(end)).into_owned();
        buffer.advance(2);
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).ok()?;
        read_length(reader, buffer, size, number, shared).await?;
        while buffer.len() < 2 {
            more(reader, buffer).await?;
        }
        buffer.advance(2);
        if size == 0 {
            return Some(());
        }
    }
}
