"""The asynchronous client: many at once, streams, and leaving in the middle of one."""

import asyncio

from openai import AsyncOpenAI

messages = [{"role": "user", "content": "hi"}]


async def whole(client):
    answer = await client.chat.completions.create(model="chat", messages=messages)
    assert answer.choices[0].message.content == "Hello, wörld"


async def streamed(client):
    text = ""
    async for chunk in await client.chat.completions.create(model="chat", messages=messages, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == "Hello, wörld", text


async def left(client):
    stream = await client.chat.completions.create(model="chat", messages=messages, stream=True)
    async for _ in stream:
        break
    await stream.close()


async def main():
    async with AsyncOpenAI(max_retries=0) as client:
        await asyncio.gather(*(task(client) for task in [whole, streamed, left] * 20))


asyncio.run(main())
