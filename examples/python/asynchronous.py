"""Many questions at once."""

import asyncio
import os

from openai import APIStatusError, AsyncOpenAI

QUESTIONS = ["the first", "the second", "the third"]
model = os.environ.get("MODEL", "echo")


async def ask(client: AsyncOpenAI, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    pieces = []
    async for chunk in await client.chat.completions.create(model=model, messages=messages, stream=True):
        pieces.append(chunk.choices[0].delta.content or "")
    return "".join(pieces)


async def main() -> None:
    async with AsyncOpenAI(
        base_url=os.environ.get("WITGATE_URL", "http://localhost:8000/v1"),
        api_key=os.environ.get("WITGATE_KEY", "none"),
    ) as client:
        for answer in await asyncio.gather(*(ask(client, question) for question in QUESTIONS)):
            print(answer)
        try:
            messages = [{"role": "user", "content": "the fourth"}]
            await client.chat.completions.create(model="nobody-has-this", messages=messages)
        except APIStatusError as error:
            # By this number the gateway's log and audit know the exchange.
            print(f"refused with {error.status_code}, request {error.request_id}")


asyncio.run(main())
